"""Plants wrong labels in the demo and counts how many the audit finds:
`python -m benchmarks.audit [--share 1.0] [--flipped 0.05] [--folds 3] [--folder FOLDER]`.

Works in a clone of this project's last commit; prints a table. Minutes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from stages.lib.overrides import read_overrides
from stages.lib.seeds import rng_for
from stages.lib.table import SPLIT, read_table

SMALL = {
    "augment": {"height": 48, "width": 48},
    "train": {"epochs": 12, "batch_size": 32, "options": {"width": 16, "dropout": 0.3}},
}


def run(folder: Path, *command: str) -> None:
    """Run a command in the clone, with this Python; stop where it fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(command, cwd=folder, env=os.environ | {"PATH": path}, check=True)


def make_clone(folder: Path, share: float) -> None:
    """Clone this project into `folder`, with a smaller demo."""
    run(Path.cwd(), "git", "clone", "--quiet", ".", str(folder))
    yaml = YAML()
    params = yaml.load((folder / "presets/demo.yaml").read_text(encoding="utf-8"))
    for section, values in {**SMALL, "download": {"demo_share": share}}.items():
        params[section].update(values)
    with (folder / "params.yaml").open("w", encoding="utf-8") as stream:
        yaml.dump(params, stream)


def plant(folder: Path, flipped: float) -> None:
    """Give a share of the pictures, drawn evenly over all, a label drawn from the other classes;
    note the true ones.
    """
    split = read_table(folder / "data/split.parquet", SPLIT)
    rng = rng_for(0, "audit", flipped)
    rows = split.iloc[rng.choice(len(split), round(flipped * len(split)), replace=False)]
    names = sorted(split["label"].unique())
    wrong = [rng.choice([name for name in names if name != label]) for label in rows["label"]]
    lines = rows[["image_id"]].assign(action="relabel", value=wrong, note="planted")
    lines.to_csv(folder / "overrides.csv", index=False, lineterminator="\n")
    split[["image_id", "label"]].to_csv(folder / "true_labels.csv", index=False)


def score(folder: Path, planted: dict[str, str], true_labels: dict[str, str]) -> dict[str, float]:
    """Return how many of the planted labels the last audit found, and what else it named."""
    doubts = pd.read_csv(folder / "report/audit/doubts.csv")
    split = read_table(folder / "data/split.parquet", SPLIT)
    there = set(split["image_id"]) & set(planted)
    hit = doubts["image_id"].isin(there).to_numpy()
    right = doubts["suggested"] == doubts["image_id"].map(true_labels)
    first = hit[: len(there)]
    return {
        "labels": len(split),
        "planted": len(there),
        "named": len(doubts),
        "found": int(hit.sum()),
        "precision": float(hit.mean()),
        "recall": float(hit.sum() / len(there)),
        "precision of the first": float(first.mean()) if len(first) else np.nan,
        "right label suggested": float(right[hit].mean()),
    }


def main() -> None:
    """Plant, run the folds, audit from both sources, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit")
    parser.add_argument("--share", type=float, default=1.0, help="of the demo's pictures")
    parser.add_argument("--flipped", type=float, default=0.05, help="share of wrong labels")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to clone to; goes on with what is there")
    wanted = parser.parse_args()
    folder = wanted.folder or Path(tempfile.mkdtemp()) / "clone"
    if not folder.exists():
        make_clone(folder, wanted.share)
    if not (folder / "true_labels.csv").exists():
        run(folder, "dvc", "repro", "--quiet", "split")
        plant(folder, wanted.flipped)
    truth = pd.read_csv(folder / "true_labels.csv").set_index("image_id")["label"].to_dict()
    planted = read_overrides(folder / "overrides.csv").relabel
    found = {}
    run(folder, sys.executable, "-m", "tools.crossval", "--folds", str(wanted.folds))
    run(folder, "dvc", "repro", "--quiet", "train")
    for source in ("crossval", "features"):
        # The planted labels look like decisions of a person, which are left out without --all.
        run(folder, sys.executable, "-m", "tools.audit", "--all", "--source", source)
        found[source] = score(folder, planted, truth)
    print(pd.DataFrame(found).T.to_string(float_format="{:.3f}".format))


if __name__ == "__main__":
    main()
