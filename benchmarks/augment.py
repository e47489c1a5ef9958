"""Holds augment's speed against a plain loop, on any folder of class folders.

    python benchmarks/augment.py FOLDER --preset egypt --side 256 --target 1000

Both make the same rows: each picture of the folder resized to a square, and as many children by the
preset's policy as bring every class to the target. The plain loop is what one would write by hand:
cv2.imread, cvtColor, resize and one albumentations Compose over a process pool, each file decoded
once, seeds of no kind. Once its results are dropped where they are made, so that it does the least
and keeps nothing; once they are handed to the parent, which puts them into one .npy file. All are
timed as commands, from the start of the interpreter to its end, where Leakproof's arrays are
written and their checksums taken; of the loops also the time within, without their imports. They
run alternately.
CPU is that of all processes, and says more than seconds where a machine is shared. The memory is
that of the largest process of the stage and of all together; pages that they share count in each.
"""

import argparse
import hashlib
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from stages.augment import Params, plan_rows  # noqa: E402
from stages.lib.params import load_params  # noqa: E402
from stages.lib.table import SPLIT, write_table  # noqa: E402

WORKERS = os.cpu_count() or 1
SECONDS_BETWEEN_LOOKS = 0.1
LOOP = """
import json, os, sys, time
from multiprocessing import Pool
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
import albumentations as A
import cv2
import numpy as np
cv2.setNumThreads(1)
keep = sys.argv[2] == "keep"
jobs, policy, side, workers = json.load(open(sys.argv[1]))
names = [entry.pop("name") for entry in policy]
compose = A.Compose([getattr(A, name)(**entry) for name, entry in zip(names, policy)])

def work(job):
    path, children = job
    image = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)
    image = cv2.resize(image, (side, side))
    rows = [image]
    for _ in range(children):
        child = compose(image=image)["image"]
        if keep:
            rows.append(child)
    return rows if keep else None

if __name__ == "__main__":
    started = time.perf_counter()
    done, shape = 0, (len(jobs) + sum(children for _, children in jobs), side, side, 3)
    if keep:
        array = np.lib.format.open_memmap("loop.npy", "w+", np.uint8, shape)
    with Pool(workers) as pool:
        for rows in pool.imap_unordered(work, jobs, chunksize=4):
            if keep:
                array[done : done + len(rows)] = rows
                done += len(rows)
    print("seconds", time.perf_counter() - started)
"""


def split_table(folder: Path) -> pd.DataFrame:
    """Return a split table of all files of the folder that OpenCV can read, all of them train."""
    paths = sorted(path for path in folder.absolute().glob("*/*") if path.is_file())
    readable = [cv2.haveImageReader(str(path)) for path in paths]
    paths = [path for path, known in zip(paths, readable, strict=True) if known]
    rows = {
        "uri": [str(path) for path in paths],
        "image_id": [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths],
        "label": [path.parent.name for path in paths],
        "group_id": [str(path) for path in paths],
    }
    return pd.DataFrame(rows).assign(split="train", fold=-1, unit="group")


def with_copies(folder: Path, place: Path, copies: int) -> Path:
    """Return the folder, or one with so many links to each of its files."""
    if copies == 1:
        return folder
    for path in sorted(folder.resolve().glob("*/*")):
        for copy in range(copies):
            link = place / path.parent.name / f"{copy}-{path.name}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    return place


def write_project(project: Path, folder: Path, options: argparse.Namespace) -> pd.DataFrame:
    """Write params and split table; return the index of what augment will make."""
    preset = YAML(typ="safe").load((ROOT / f"presets/{options.preset}.yaml").read_text("utf-8"))
    target = int(options.target) if options.target.isdigit() else options.target
    changes = {"height": options.side, "width": options.side, "target_per_class": target}
    preset["augment"] |= {**changes, "fit": "stretch"}
    preset["parallel"]["workers"] = options.workers
    (project / "data").mkdir(parents=True)
    with (project / "params.yaml").open("w") as stream:
        YAML(typ="safe").dump(preset, stream)
    table = split_table(folder)
    write_table(project / "data/split.parquet", table, SPLIT)
    params = load_params(Params, "augment", project / "params.yaml")
    children = plan_rows(table, params).groupby("uri").size() - 1
    order = np.random.default_rng(7).permutation(len(children))  # no worker gets a class alone
    jobs = [(children.index[at], int(children.iloc[at])) for at in order]
    work = [jobs, params.transforms, options.side, options.workers]
    (project / "work.json").write_text(json.dumps(work))
    (project / "loop.py").write_text(LOOP)
    return plan_rows(table, params)


def cpu_of_children() -> float:
    """Return the seconds of all cores that ended child processes, and theirs, have taken."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def timed_loop(project: Path, results: str) -> tuple[float, float, float]:
    """Return the plain loop's seconds as a command, its CPU seconds, and its seconds within.

    results: drop or keep.
    """
    command = [sys.executable, str(project / "loop.py"), str(project / "work.json"), results]
    before, started = cpu_of_children(), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, cwd=project)
    seconds = time.perf_counter() - started
    (project / "loop.npy").unlink(missing_ok=True)
    if done.returncode:
        sys.exit(f"the plain loop failed:\n{done.stderr[-3000:]}")
    return seconds, cpu_of_children() - before, float(done.stdout.split("seconds ")[1])


def memory_of(session: int) -> tuple[float, float]:
    """Return the MB in memory of the largest process of a session, and of all of them."""
    sizes = [0]
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if os.getsid(int(folder.name)) == session:
                    sizes.append(int((folder / "statm").read_text().split()[1]))
            except OSError:
                continue  # it has ended meanwhile
    megabytes = os.sysconf("SC_PAGE_SIZE") / 1e6
    return max(sizes) * megabytes, sum(sizes) * megabytes


def timed_stage(project: Path) -> tuple[float, float, float, float]:
    """Return seconds and CPU seconds of `python -m stages.augment`, and its peak memory: largest
    process, all.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    before, started = cpu_of_children(), time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.augment"], cwd=project, env=environment,
        stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    peaks = [(0.0, 0.0)]
    while process.poll() is None:
        peaks.append(memory_of(process.pid))
        time.sleep(SECONDS_BETWEEN_LOOKS)
    seconds = time.perf_counter() - started
    if process.returncode:
        sys.exit("augment failed; see above")
    largest, together = (max(values) for values in zip(*peaks, strict=True))
    return seconds, cpu_of_children() - before, largest, together


def main() -> None:
    """Run both alternately and print the medians as a Markdown table."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--preset", default="egypt", help="whose policy is used")
    arguments.add_argument("--side", type=int, default=256)
    arguments.add_argument("--target", default="1000", help="per class: a number, max or none")
    arguments.add_argument("--workers", type=int, default=WORKERS)
    arguments.add_argument("--copies", type=int, default=1, help="of each file, as links")
    arguments.add_argument("--repeats", type=int, default=3)
    options = arguments.parse_args()
    runs: dict[str, list[tuple[float, ...]]] = {"drop": [], "keep": [], "leakproof": []}
    with tempfile.TemporaryDirectory() as place:
        project = Path(place) / "project"
        folder = with_copies(options.folder, Path(place) / "copies", options.copies)
        index = write_project(project, folder, options)
        for _ in range(options.repeats):
            for results in ("drop", "keep"):
                runs[results].append(timed_loop(project, results))
            runs["leakproof"].append(timed_stage(project))
            shutil.rmtree(project / "data/dataset")  # else its pages would still be written later
            print({name: times[-1] for name, times in runs.items()}, file=sys.stderr, flush=True)
    medians = {
        name: [statistics.median(values) for values in zip(*times, strict=True)]
        for name, times in runs.items()
    }
    originals = index["uri"].nunique()
    print(
        f"{originals:,} files in {index['label'].nunique()} classes to {len(index):,} rows of "
        f"{options.side}×{options.side}, {options.workers} workers, medians of {options.repeats}; "
        f"Python {platform.python_version()}\n"
    )
    print_table(len(index), medians)


def print_table(rows: int, medians: dict[str, list[float]]) -> None:
    """Print the medians as a Markdown table, each speed in terms of the loops'."""
    seconds, cpu, largest, together = medians["leakproof"]
    print("| | seconds | CPU seconds | rows/s | leakproof's speed, by seconds | by CPU |")
    print("|---|---|---|---|---|---|")
    for name, results in (("dropped", "drop"), ("kept", "keep")):
        loop, loop_cpu, within = medians[results]
        print(
            f"| plain loop, results {name} | {loop:.1f} ({within:.1f} within) | {loop_cpu:.1f} | "
            f"{rows / loop:,.0f} | {loop / seconds:.0%} | {loop_cpu / cpu:.0%} |"
        )
    print(f"| leakproof | {seconds:.1f} | {cpu:.1f} | {rows / seconds:,.0f} | | |")
    print(f"\nPeak memory: {largest:,.0f} MB, {together:,.0f} MB with all its processes.")


if __name__ == "__main__":
    main()
