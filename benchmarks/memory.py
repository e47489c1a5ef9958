"""Measures seconds and peak memory of scan and clean on tables of any length.

    python benchmarks/memory.py data/scan.parquet --rows 1000000

scan: so many files, which are links to the first 200 files of the table, so it costs no space;
their bytes are read every time, decoded once and then remembered. clean: a table of as many rows,
whose thumbnails are blends of two drawn ones of the table with noise, whose hashes have a quarter
of their bits drawn anew, so nearly all rows are pictures of their own; their detail images are
those of one of the two. `--only` runs one of the two. Both run in a temporary folder as the stages
that they are.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from stages.lib.images import CHROMA_SIDE, THUMBNAIL_BYTES, THUMBNAIL_SIDE  # noqa: E402
from stages.lib.table import FILES, RAW_TRUTH, SCAN, write_table, writing_table  # noqa: E402
from stages.lib.thumbnails import read_details, read_scan  # noqa: E402

LINKED = 200  # files of the table that stand for all: a file can have 65,000 links
PART = 20_000
_LUMA, _CHROMA = THUMBNAIL_SIDE**2, CHROMA_SIDE**2
_PLANES = (
    (slice(0, _LUMA), THUMBNAIL_SIDE),
    (slice(_LUMA, _LUMA + _CHROMA), CHROMA_SIDE),
    (slice(_LUMA + _CHROMA, THUMBNAIL_BYTES), CHROMA_SIDE),
)


def run_stage(name: str, project: Path) -> str:
    """Return a row of the table: stage, seconds, peak memory of its largest process, its words."""
    started = time.monotonic()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", f"stages.{name}"],
        cwd=project, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    lines = [line.rstrip() for line in process.stdout]
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"stage {name} failed; see above")
    seconds, megabytes = time.monotonic() - started, usage.ru_maxrss / 1024
    return f"| {name} | {seconds:.0f} | {megabytes:,.0f} | {lines[-1].partition(': ')[2]} |"


def link_files(uris: list[str], source: Path, project: Path, count: int) -> None:
    """Write a files table of `count` links to the files, and the links."""
    rows = []
    for at in range(count):
        name = f"data/raw/{at // 10_000:04}/{at:08}{Path(uris[at % len(uris)]).suffix}"
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(source / f"{at % len(uris)}", project / name)
        rows.append((name, f"class {at % 10}", "", ""))
    write_table(
        project / "data/files.parquet", pd.DataFrame(rows, columns=list(FILES.columns)), FILES
    )


def synthetic_rows(table: Path, count: int) -> Iterator[pd.DataFrame]:
    """Yield a scan table of `count` rows, a part at a time."""
    own, thumbnails = read_scan(table)
    usable = np.flatnonzero(own["verdict"] == "ok")
    details = read_details(usable.tolist(), table)
    random = np.random.default_rng(7)
    for start in range(0, count, PART):
        size = min(PART, count - start)
        drawn = usable[random.integers(0, len(usable), (4, size))]
        mosaic = np.empty((size, THUMBNAIL_BYTES), np.float32)
        for plane, side in _PLANES:
            pictures = mosaic[:, plane].reshape(size, side, side)
            half = side // 2
            for part in range(4):
                rows_at = slice(half * (part // 2), half * (part // 2) + half)
                columns = slice(half * (part % 2), half * (part % 2) + half)
                quarter = thumbnails[drawn[part], plane].reshape(size, side, side)
                pictures[:, rows_at, columns] = quarter[:, rows_at, columns]
        mosaic += random.normal(0, 4, mosaic.shape).astype(np.float32)
        pixels = np.clip(mosaic, 0, 255).astype(np.uint8)
        one = drawn[0]
        rows = own.iloc[one].reset_index(drop=True)
        names = np.arange(start, start + size)
        for column in ("phash", "phash_mirrored"):
            words = random.integers(0, 2**64, (3, size), dtype=np.uint64)
            mask = words[0] & words[1]
            rows[column] = (rows[column].to_numpy(np.uint64) & ~mask) | (words[2] & mask)
        yield rows.assign(
            uri=[f"data/raw/{name:08}.jpg" for name in names],
            image_id=[f"{name:016x}" * 4 for name in random.permutation(names)],
            official_split="",
            thumbnail=[row.tobytes() for row in pixels],
            detail=[details[int(at)] for at in one],
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--only", choices=["scan", "clean"])
    arguments = parser.parse_args()
    table = arguments.table.resolve()
    with tempfile.TemporaryDirectory(dir=ROOT.parent) as folder:
        project = Path(folder)
        for name in ("params.yaml", "overrides.csv"):
            shutil.copy(ROOT / name, project / name)
        (project / "data").mkdir()
        print(f"{arguments.rows:,} rows\n\n| stage | seconds | peak MB | what it said |")
        print("|---|---|---|---|", flush=True)
        if arguments.only != "clean":
            rows, _ = read_scan(table)
            uris = rows["uri"].head(LINKED).tolist()
            (project / "source").mkdir()
            for at, uri in enumerate(uris):
                shutil.copy(table.parents[1] / uri, project / "source" / str(at))
            link_files(uris, project / "source", project, arguments.rows)
            print(run_stage("scan", project), flush=True)
        if arguments.only != "scan":
            with writing_table(project / "data/scan.parquet", SCAN) as add:
                for part in synthetic_rows(table, arguments.rows):
                    add(part[list(SCAN.columns)])
            nothing = pd.DataFrame(columns=list(RAW_TRUTH.columns))
            write_table(project / "data/raw_truth.csv", nothing, RAW_TRUTH)
            print(run_stage("clean", project), flush=True)


if __name__ == "__main__":
    main()
