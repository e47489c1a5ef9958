"""Holds the scan's speed against a plain loop and against other tools, on copies of any folder.

    python benchmarks/scan.py FOLDER --copies 18 --distinct --peer-python /path/to/bin/python

Builds a tree of copies, runs every contestant alternately and prints the medians as a Markdown
table. The plain loop does the least that any check of damage must do: read, sha256, strict decode.
Leakproof is timed as a command, from the start of its interpreter to the table on disk; the others
within theirs, without the time to import. `--peer-python` names a Python that has cleanvision and
imagededup, which need other libraries than ours.
"""

import argparse
import os
import platform
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from stages.lib.table import FILES, write_table  # noqa: E402

WORKERS = os.cpu_count() or 1
POOL = """
import hashlib, io, os, sys, time
from multiprocessing import Pool
from pathlib import Path
import simplejpeg
from PIL import Image

def read(path):
    return hashlib.sha256(Path(path).read_bytes()).digest()

def decode(path):
    data = Path(path).read_bytes()
    hashlib.sha256(data).digest()
    try:
        if data[:3] == b"\\xff\\xd8\\xff":
            simplejpeg.decode_jpeg(data, "GRAY", min_height=128, min_width=128, strict=True)
        else:
            Image.open(io.BytesIO(data)).load()
        return True
    except Exception:
        return False

if __name__ == "__main__":
    files = [os.path.join(top, name) for top, _, names in os.walk(sys.argv[1]) for name in names]
    started = time.perf_counter()
    with Pool({workers}) as pool:
        for _ in pool.imap({work}, sorted(files), chunksize=16):
            pass
    print("seconds", time.perf_counter() - started)
"""
CLEANVISION = """
import sys, time
from cleanvision import Imagelab
started = time.perf_counter()
Imagelab(data_path=sys.argv[1]).find_issues(n_jobs={workers}, verbose=False)
print("seconds", time.perf_counter() - started)
"""
# Its network would be downloaded on import; the perceptual hash has no use for it.
IMAGEDEDUP = """
import sys, time, types
sys.modules["imagededup.methods.cnn"] = types.SimpleNamespace(CNN=None)
from imagededup.methods import PHash
if __name__ == "__main__":
    started = time.perf_counter()
    PHash(verbose=False).encode_images(sys.argv[1], recursive=True, num_enc_workers={workers})
    print("seconds", time.perf_counter() - started)
"""


def marked(data: bytes, mark: str) -> bytes:
    """Return a file of the same picture whose bytes are its own."""
    text = f"copy {mark}".encode()
    if data[:3] == b"\xff\xd8\xff":
        return data[:2] + b"\xff\xfe" + struct.pack(">H", len(text) + 2) + text + data[2:]
    return data + text


def build(source: Path, tree: Path, copies: range, distinct: bool) -> None:
    """Write copies of a folder side by side, each file with bytes of its own if `distinct`."""
    files = sorted(path for path in source.rglob("*") if path.is_file())
    for copy in copies:
        for path in files:
            target = tree / str(copy) / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            data = path.read_bytes()
            target.write_bytes(marked(data, str(copy)) if distinct else data)


def list_files(project: Path, tree: Path) -> int:
    """Write the table that scan reads; return how many files it names."""
    uris = sorted(str(path) for path in tree.rglob("*") if path.is_file())
    rows = {"uri": uris, "label": "any", "official_split": "", "clip": ""}
    write_table(project / "data/files.parquet", pd.DataFrame(rows), FILES)
    return len(uris)


def timed_within(python: str, code: str, tree: Path, folder: Path) -> float:
    """Return the seconds that a script says it took."""
    script = folder / "contestant.py"
    script.write_text(code.replace("{workers}", str(WORKERS)))
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    command = [python, str(script), str(tree)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    said = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("seconds ")]
    if not said:
        sys.exit(f"{code}\nfailed:\n{done.stderr[-3000:]}")
    return float(said[0])


def timed_scan(project: Path, forget: bool) -> float:
    """Return the seconds of `python -m stages.scan`, with or without what it remembers."""
    if forget:
        shutil.rmtree(project / ".cache", ignore_errors=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    started = time.perf_counter()
    command = [sys.executable, "-m", "stages.scan"]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"scan failed:\n{done.stderr[-3000:]}")
    return time.perf_counter() - started


def timed_growth(project: Path, source: Path, tree: Path, round_number: int) -> float:
    """Return the seconds of a scan after one new file in a hundred came to a scanned tree."""
    every = sum(1 for path in tree.rglob("*") if path.is_file())
    new = tree / "new"
    originals = sorted(path for path in source.rglob("*") if path.is_file())
    for number in range(max(every // 100, 1)):
        path = originals[number * 7 % len(originals)]
        target = new / f"{number}{path.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(marked(path.read_bytes(), f"new {round_number} {number}"))
    list_files(project, tree)
    seconds = timed_scan(project, forget=False)
    shutil.rmtree(new)
    list_files(project, tree)
    return seconds


def main() -> None:
    """Build, run, print."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--copies", type=int, default=1)
    arguments.add_argument("--distinct", action="store_true", help="each copy has its own bytes")
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--backend", default="loky", choices=["loky", "threading"])
    arguments.add_argument("--peer-python", default="")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as place:
        project, tree = Path(place) / "project", Path(place) / "tree"
        build(options.folder, tree, range(options.copies), options.distinct)
        preset = YAML(typ="safe").load((ROOT / "presets/demo.yaml").read_text(encoding="utf-8"))
        preset["parallel"]["backend"] = options.backend
        (project / "data").mkdir(parents=True)
        with (project / "params.yaml").open("w") as stream:
            YAML(typ="safe").dump(preset, stream)
        count = list_files(project, tree)
        contestants: dict[str, Callable[[int], float]] = {
            "read + sha256": lambda _: timed_within(
                sys.executable, POOL.replace("{work}", "read"), tree, project
            ),
            "plain loop": lambda _: timed_within(
                sys.executable, POOL.replace("{work}", "decode"), tree, project
            ),
            "leakproof, nothing remembered": lambda _: timed_scan(project, forget=True),
            "leakproof, all remembered": lambda _: timed_scan(project, forget=False),
            "leakproof, 1 % new": lambda round_number: timed_growth(
                project, options.folder, tree, round_number
            ),
        }
        if options.peer_python:
            contestants |= {
                "imagededup PHash encoding": lambda _: timed_within(
                    options.peer_python, IMAGEDEDUP, tree, project
                ),
                "cleanvision": lambda _: timed_within(
                    options.peer_python, CLEANVISION, tree, project
                ),
            }
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        for round_number in range(options.repeats):
            for name, run in contestants.items():
                seconds[name].append(run(round_number))
                print(f"{name}: {seconds[name][-1]:.1f} s", file=sys.stderr, flush=True)
    print_table(count, {name: statistics.median(times) for name, times in seconds.items()}, options)


def print_table(count: int, seconds: dict[str, float], options: argparse.Namespace) -> None:
    """Print the medians as a Markdown table."""
    bytes_are = "distinct" if options.distinct else "equal"
    print(
        f"{count:,} files ({options.copies} copies, {bytes_are} bytes), medians of "
        f"{options.repeats}; Python {platform.python_version()}, {WORKERS} cores\n"
    )
    print("| | seconds | images/s | speed of the plain loop |\n|---|---|---|---|")
    for name, time_taken in seconds.items():
        ratio = seconds["plain loop"] / time_taken
        print(f"| {name} | {time_taken:.1f} | {count / time_taken:,.0f} | {ratio:.0%} |")


if __name__ == "__main__":
    main()
