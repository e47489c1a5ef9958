"""Measures the memory that training takes as its data grow: the pictures are mapped, not loaded.

    python benchmarks/train_memory.py [--pictures 10000 100000 400000] [--side 64]

Makes arrays of random pictures of ten classes and runs the stage `train` for one epoch on them,
with the CIFAR-10 preset and a narrow net, so that minutes suffice. Private memory is what the
process needs; resident memory counts its libraries and pages of the mapped file as well, which the
system takes back when it wants them. Needs Linux.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from stages.lib.dataset import DATASET, INDEX_FILE, array_file  # noqa: E402
from stages.lib.params import PARAMS_FILE  # noqa: E402
from stages.lib.table import INDEX, write_table  # noqa: E402

VAL = 1000
CLASSES = 10
WIDTHS = [16, 32]  # of fast_cnn


def make_split(split: str, count: int, side: int) -> pd.DataFrame:
    """Write a split's array into the working folder, and return its rows of the index."""
    random, shape = np.random.default_rng(count), (side, side, 3)
    pictures = np.lib.format.open_memmap(array_file(split), "w+", np.uint8, (count, *shape))
    checksums = np.empty(count, np.uint32)
    for row in range(count):
        pictures[row] = random.integers(0, 256, shape, np.uint8)
        checksums[row] = zlib.crc32(pictures[row])
    pictures.flush()
    names = [f"{split}/{row:08}" for row in range(count)]
    return pd.DataFrame(
        {
            "split": split,
            "row": np.arange(count),
            "uri": names,
            "image_id": names,
            "label": [f"class {row % CLASSES}" for row in range(count)],
            "parent_id": "",
            "augment_seed": 0,
            "crc32": checksums,
            "unit": "group",
        }
    )


def memory_of(process: int) -> dict[str, float]:
    """Return a process' private and resident memory now, in MB."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    values = dict(line.split(":", 1) for line in lines if line.startswith("Rss"))
    parts = {name: int(value.split()[0]) / 1024 for name, value in values.items()}
    return {"private": parts.get("RssAnon", 0.0), "resident": sum(parts.values())}


def watch_training(folder: Path) -> dict[str, float]:
    """Run `train` in a folder; return its seconds and its peaks of memory."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "stages.train"]
    started, peaks = time.monotonic(), {"private": 0.0, "resident": 0.0}
    with subprocess.Popen(command, cwd=folder, env=environment) as process:
        while process.poll() is None:
            for name, value in memory_of(process.pid).items():
                peaks[name] = max(peaks[name], value)
            time.sleep(0.05)
    if process.returncode:
        sys.exit("stages.train failed; see above")
    return peaks | {"seconds": time.monotonic() - started}


def settings() -> Any:
    """Return the CIFAR-10 preset with one epoch of a narrow net."""
    params = YAML().load(ROOT / "presets/cifar10.yaml")
    params["train"].update({"epochs": 1, "options": {"widths": WIDTHS}})
    return params


def main() -> None:
    """Train on each number of pictures and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, nargs="+", default=[10_000, 100_000, 400_000])
    parser.add_argument("--side", type=int, default=64)
    arguments = parser.parse_args()
    rows = []
    for count in arguments.pictures:
        with tempfile.TemporaryDirectory(dir=ROOT.parent) as temporary:
            os.chdir(temporary)
            DATASET.mkdir(parents=True)
            parts = [make_split("train", count, arguments.side)]
            parts.append(make_split("val", VAL, arguments.side))
            write_table(INDEX_FILE, pd.concat(parts, ignore_index=True), INDEX)
            YAML().dump(settings(), Path(PARAMS_FILE))
            found = watch_training(Path.cwd())
            os.chdir(ROOT)
        size = count * arguments.side**2 * 3 / 1e6
        figures = (size, found["private"], found["resident"], found["seconds"])
        rows.append(f"| {count:,} | {' | '.join(f'{figure:,.0f}' for figure in figures)} |")
    print("\n| pictures | MB of pictures | peak private MB | peak resident MB | seconds |")
    print("|---|---|---|---|---|", *rows, sep="\n")


if __name__ == "__main__":
    main()
