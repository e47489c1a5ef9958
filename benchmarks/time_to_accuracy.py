"""Shows how soon models reach an accuracy, each trained by the pipeline's own stages.

    python benchmarks/time_to_accuracy.py PROJECT MODEL=settings.yaml [MODEL=settings.yaml …]

PROJECT is a folder in which the pipeline ran as far as `split`. Each settings file changes keys of
params.yaml (sections augment, train and evaluate); benchmarks/models holds some. MODEL is its name
in the table. In a folder of its own each model runs augment, train and evaluate; the clock starts
with the command of `train`, so imports, the computing of features and every validation count. The
times are those of the first epoch whose validation accuracy is at least so high; the test figure,
read once at the end, is of the epoch that was best in validation.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from stages.lib.metrics import METRICS  # noqa: E402
from stages.lib.params import PARAMS_FILE  # noqa: E402

LEVELS = (0.80, 0.85, 0.90, 0.92)
YAML_FILE = YAML()


def merged(base: Any, changes: Any) -> Any:
    """Return nested mappings, those of `changes` over those of `base`; options are replaced."""
    if not isinstance(base, dict) or not isinstance(changes, dict):
        return changes
    whole = {
        key: value if key == "options" or key not in base else merged(base[key], value)
        for key, value in changes.items()
    }
    return {**base, **whole}


def prepare(project: Path, folder: Path, settings: Path) -> None:
    """Lay out a folder that shares the project's pictures and tables, with other settings."""
    (folder / "data").mkdir(parents=True)
    (folder / METRICS).mkdir()
    shutil.copyfile(project / "overrides.csv", folder / "overrides.csv")
    for entry in (project / "data").iterdir():
        if entry.name != "dataset":
            (folder / "data" / entry.name).symlink_to(entry.resolve())
    params = merged(YAML_FILE.load(project / PARAMS_FILE), YAML_FILE.load(settings))
    YAML_FILE.dump(params, folder / PARAMS_FILE)


def run(folder: Path, stage: str) -> list[tuple[float, str]]:
    """Run a stage; return the lines it printed with the seconds since its start."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", f"stages.{stage}"]
    started, lines = time.monotonic(), []
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        for line in process.stdout:
            lines.append((time.monotonic() - started, line.strip()))
            print(f"{lines[-1][0]:7.0f} s  {lines[-1][1]}", flush=True)
    if process.returncode:
        raise SystemExit(f"stages.{stage} failed in {folder}")
    return lines


def figures(folder: Path) -> dict[str, str]:
    """Train and evaluate in a prepared folder; return a row of the table."""
    run(folder, "augment")
    lines = run(folder, "train")
    run(folder, "evaluate")
    ends = [seconds for seconds, line in lines if line.startswith("train: epoch")]
    history = pd.read_csv(folder / METRICS / "plots" / "history.csv")
    row = {"epochs": str(len(history)), "minutes": f"{lines[-1][0] / 60:.1f}"}
    for level in LEVELS:
        reached = history.index[history["val_accuracy"] >= level]
        row[f"to {level:.0%}"] = f"{ends[reached[0]] / 60:.1f}" if len(reached) else "–"
    trained, tested = (
        json.loads((folder / METRICS / f"{stage}.json").read_text(encoding="utf-8"))
        for stage in ("train", "evaluate")
    )
    row["parameters"] = f"{trained['parameters']:,}"
    row["val"] = f"{trained['val_accuracy']:.2%}"
    row["test (95 % interval)"] = (
        f"{tested['accuracy']:.2%} ({tested['accuracy_low']:.2%} to {tested['accuracy_high']:.2%})"
    )
    return row


def main() -> None:
    """Train every model and print a table; minutes throughout."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("models", nargs="+", metavar="MODEL=settings.yaml")
    arguments = parser.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory() as temporary:
        for entry in arguments.models:
            name, settings = entry.split("=", 1)
            folder = Path(temporary) / name
            prepare(arguments.project, folder, Path(settings))
            rows[name] = figures(folder)
            shutil.rmtree(folder)
    columns = list(next(iter(rows.values())))
    print(f"\n| model | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for name, row in rows.items():
        print(f"| {name} | {' | '.join(row[column] for column in columns)} |")


if __name__ == "__main__":
    main()
