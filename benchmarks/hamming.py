"""Times the exact search for close perceptual hashes, and holds it against brute force.

    python benchmarks/hamming.py data/scan.parquet

For every count of --counts, all pairs within the radius are sought among so many hashes, straight
and mirrored. Up to the number of pictures in the table the hashes are theirs; beyond it, each
further one is that of a picture of the table with a quarter of its bits drawn anew, so that hashes
crowd as those of real pictures do. Brute force (numpy, every pair) runs beside it where it takes
seconds, and must give the same pairs. `--peer-python` names a Python that has imagededup.
"""

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from stages.lib.hamming import Hashes, Pairs, hamming_join  # noqa: E402
from stages.lib.table import SCAN, read_table  # noqa: E402

BRUTE_FORCE_UP_TO = 60_000
PEER_UP_TO = 10_000
# imagededup's package loads a network from the internet unless its module for that is taken away;
# it starts processes of its own, which import this file again.
PEER = """
import sys, time, types
import numpy as np
sys.modules["imagededup.methods.cnn"] = types.SimpleNamespace(CNN=None)
from imagededup.methods import PHash
if __name__ == "__main__":
    hashes = np.load(sys.argv[1])
    encodings = {str(at): f"{int(value):016x}" for at, value in enumerate(hashes)}
    started = time.perf_counter()
    PHash(verbose=False).find_duplicates(
        encoding_map=encodings, max_distance_threshold=int(sys.argv[2])
    )
    print(time.perf_counter() - started)
"""


def draw_hashes(table: Path, count: int) -> tuple[Hashes, Hashes]:
    """Return `count` hashes and those of the mirrored pictures."""
    rows = read_table(table, SCAN.only("uri", "verdict", "phash", "phash_mirrored"))
    rows = rows[rows["verdict"] == "ok"]
    random = np.random.default_rng(7)
    found = []
    for column in ("phash", "phash_mirrored"):
        own = rows[column].to_numpy(np.uint64)
        if count > len(own):
            more = own[random.integers(0, len(own), count - len(own))]
            words = random.integers(0, 2**64, (3, len(more)), dtype=np.uint64)
            mask = words[0] & words[1]  # a quarter of the bits
            own = np.concatenate([own, (more & ~mask) | (words[2] & mask)])
        found.append(own[:count])
    return found[0], found[1]


def search(hashes: Hashes, mirrored: Hashes, radius: int) -> Pairs:
    return _united(hamming_join(hashes, hashes, radius), hamming_join(mirrored, hashes, radius))


def brute_force(hashes: Hashes, mirrored: Hashes, radius: int) -> Pairs:
    found = []
    for queries in (hashes, mirrored):
        parts = []
        for start in range(0, len(hashes), 64):
            bits = np.bitwise_count(queries[start : start + 64, None] ^ hashes[None, :])
            left, right = np.nonzero(bits <= radius)
            parts.append(np.stack([left + start, right], axis=1))
        found.append(np.concatenate(parts))
    return _united(*found)


def _united(straight: Pairs, mirrored: Pairs) -> Pairs:
    pairs = np.sort(np.concatenate([straight, mirrored]), axis=1)
    return np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0)


def time_peer(python: str, hashes: Hashes, radius: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "hashes.npy"
        np.save(file, hashes)
        script = Path(folder) / "peer.py"
        script.write_text(PEER, encoding="utf-8")
        command = [python, str(script), str(file), str(radius)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 60_000, 100_000, 10**6])
    parser.add_argument("--radius", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer-python")
    arguments = parser.parse_args()
    few = np.arange(9, dtype=np.uint64)
    search(few, few, arguments.radius)  # compiles, once per machine
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} cores, radius {arguments.radius}\n"
    )
    print("| hashes | seconds | peak MB | pairs | brute force | imagededup |")
    print("|---|---|---|---|---|---|")
    for count in arguments.counts:
        hashes, mirrored = draw_hashes(arguments.table, count)
        seconds = []
        for _ in range(arguments.repeats if count <= 10**6 else 1):
            started = time.perf_counter()
            pairs = search(hashes, mirrored, arguments.radius)
            seconds.append(time.perf_counter() - started)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        brute = peer = "–"
        if count <= BRUTE_FORCE_UP_TO:
            started = time.perf_counter()
            expected = brute_force(hashes, mirrored, arguments.radius)
            brute = f"{time.perf_counter() - started:.1f} s"
            brute += ", the same pairs" if np.array_equal(pairs, expected) else ", OTHER PAIRS"
        if arguments.peer_python and count <= PEER_UP_TO:
            peer = (
                f"{time_peer(arguments.peer_python, hashes, arguments.radius):.1f} s, straight only"
            )
        print(
            f"| {count:,} | {statistics.median(seconds):.2f} | {peak:,.0f} | {len(pairs):,} | "
            f"{brute} | {peer} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
