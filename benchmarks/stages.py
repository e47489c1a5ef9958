"""Measures every stage on the pictures that params.yaml names: `make bench`, or see README.md here.

Runs the stages one after another as the pipeline does, each in a process of its own, and prints a
Markdown table of seconds, peak memory and each stage's own summary.
"""

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]


def run_stage(name: str) -> tuple[float, float, str]:
    """Return seconds, peak memory in MB of the stage's largest process, and its last line."""
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", f"stages.{name}"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    lines = [line.rstrip() for line in process.stdout]
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"stage {name} failed; see above")
    return time.monotonic() - started, usage.ru_maxrss / 1024, lines[-1]


def main() -> None:
    """Print the table."""
    pipeline = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores\n")
    print("| stage | seconds | peak MB | what it said |\n|---|---|---|---|")
    total = 0.0
    for name in pipeline["stages"]:
        seconds, megabytes, said = run_stage(name)
        total += seconds
        said = said.partition(": ")[2]
        print(f"| {name} | {seconds:.1f} | {megabytes:,.0f} | {said} |", flush=True)
    print(f"| all | {total:.1f} | | |")


if __name__ == "__main__":
    main()
