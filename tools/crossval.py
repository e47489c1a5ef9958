"""Cross-validates the workspace: `python -m tools.crossval [--folds K] [-S key=value …]`.

Each fold is a DVC experiment, run one after another in a folder of its own, so the workspace stays
as it is. A fold that is there already for the same code, params and data is not run again: after an
error or a kill, the same command goes on.

Reads:  the pipeline as it stands, committed or not; what the folds made, from DVC's cache
Writes: report/crossval/crossval.json, predictions.parquet, confusion.csv, index.html; an experiment
        for each fold, named crossval-…, which `dvc exp remove` takes away
"""

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from stages.lib.errors import run_stage
from stages.lib.files import replacing
from stages.lib.params import PARAMS_FILE, CacheParams, load_params, read_params_file
from stages.lib.progress import summarise
from stages.lib.table import FILES, PREDICTIONS, SPLIT, read_table, write_table
from tools.curves import many_curves
from tools.folds import Plan, find_fold, forget_fold, make_plan, read_history, run_fold
from tools.pages import write_page
from tools.pooling import (
    common_class_names,
    confusion_of,
    fold_rows,
    pool,
    pooled_figures,
    require_no_official_test,
    require_rotating_test,
)
from tools.revisions import Revision, fetch_output, metrics

FOLDER = Path("report/crossval")
USUAL_FOLDS = 5
POOLED = PREDICTIONS.with_columns(fold=pa.int16())
PREDICTIONS_FILE, SPLIT_FILE = "data/predictions.parquet", "data/split.parquet"
CURVES = {"Accuracy on val": ("val_accuracy", True), "Loss on val": ("val_loss", False)}


@dataclass(frozen=True)
class Fold:
    """What a fold left behind.

    predictions, split: its tables. history: a row for every epoch. figures: its metrics by stage.
    """

    revision: Revision
    predictions: pd.DataFrame
    split: pd.DataFrame
    history: pd.DataFrame
    figures: dict[str, dict[str, Any]]


def read_fold(revision: Revision) -> Fold | None:
    """Return what a fold left behind; None where DVC's cache has lost it."""
    with tempfile.TemporaryDirectory() as folder:
        predictions = fetch_output(revision, PREDICTIONS_FILE, Path(folder))
        split = fetch_output(revision, SPLIT_FILE, Path(folder))
        if predictions is None or split is None:
            return None
        return Fold(
            revision,
            read_table(predictions, PREDICTIONS),
            read_table(split, SPLIT),
            read_history(revision),
            metrics(revision).figures,
        )


def run_or_reuse(plan: Plan, number: int, cache: str) -> Fold:
    """Return a fold, run now unless it is there; raises InputError where it fails."""
    words = f"fold {number + 1} of {plan.n_folds}"
    known = find_fold(plan.name(number))
    fold = read_fold(known) if known else None
    if known and not fold:
        print(f"crossval: {words}: DVC's cache no longer has what it made", flush=True)
        forget_fold(known)
    if fold:
        print(f"crossval: {words}: there already, as {fold.revision}", flush=True)
    else:
        print(f"crossval: {words}: running", flush=True)
        fold = read_fold(run_fold(plan, number, cache))
        assert fold, "DVC has just written it"
    require_rotating_test(fold.split, number)
    return fold


def describe_folds(folds: list[Fold], figures: pd.DataFrame) -> list[dict[str, Any]]:
    """Return each fold's figures with those of its training and the name of its experiment."""
    return [
        {
            **row,
            **{name: fold.figures["train"][name] for name in ("epochs", "best_epoch")},
            "val_accuracy": fold.figures["train"]["val_accuracy"],
            "test_fingerprint": fold.figures["evaluate"]["test_fingerprint"],
            "experiment": fold.revision.name,
            "commit": fold.revision.commit,
        }
        for fold, row in zip(folds, figures.to_dict("records"), strict=True)
    ]


def draw_curves(folds: list[Fold]) -> dict[str, str]:
    """Return by title a chart with one line for every fold."""
    drawn = {}
    for title, (column, shares) in CURVES.items():
        curves = {
            f"fold {number}": fold.history[column].tolist()
            for number, fold in enumerate(folds, start=1)
        }
        drawn[title] = many_curves(title, curves, shares)
    return drawn


def write_results(plan: Plan, folds: list[Fold], confidence: float, folder: Path) -> dict[str, Any]:
    """Write what the folds say together, and return it as crossval.json has it."""
    names = common_class_names([fold.split for fold in folds])
    pooled = pool([fold.predictions for fold in folds], [fold.split for fold in folds])
    by_fold = fold_rows(pooled, names, confidence)
    figures = pooled_figures(pooled, names, by_fold, confidence)
    matrix = confusion_of(pooled, names)
    leaky = any(fold.figures["split"].get("leaky", False) for fold in folds)
    content = {
        "figures": figures,
        "folds": describe_folds(folds, by_fold),
        "labels": names,
        "confusion": matrix.tolist(),
        "changes": list(plan.changes),
        "key": plan.key,
        "leaky": leaky,
    }
    with replacing(folder) as unfinished:
        unfinished.mkdir()
        write_table(unfinished / "predictions.parquet", pooled, POOLED)
        table = pd.DataFrame(matrix, index=pd.Index(names, name="label"), columns=names)
        table.to_csv(unfinished / "confusion.csv", lineterminator="\n")
        text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        (unfinished / "crossval.json").write_text(text + "\n", encoding="utf-8")
        lines = [f"fold {number}" for number in range(1, len(folds) + 1)]
        page = {**content, "drawn": draw_curves(folds), "names": lines}
        write_page(unfinished / "index.html", "crossval.html", **page)
    return content


def text_lines(content: dict[str, Any]) -> list[str]:
    """Return what the terminal shows: a line for every fold, then all together."""
    figures = content["figures"]
    lines = [
        f"  fold {fold['fold'] + 1}: accuracy {fold['accuracy']:.2%} ({fold['correct']:,} of "
        f"{fold['n']:,}), macro F1 {fold['macro_f1']:.4f}"
        for fold in content["folds"]
    ]
    return [
        *lines,
        f"  over the folds: accuracy {figures['accuracy_mean']:.2%} ± "
        f"{100 * figures['accuracy_std']:.2f} points, macro F1 {figures['macro_f1_mean']:.4f} ± "
        f"{figures['macro_f1_std']:.4f} (mean ± standard deviation)",
        f"  all pictures: accuracy {figures['accuracy']:.2%} ({figures['correct']:,} of "
        f"{figures['n']:,}; {figures['confidence_level']:.0%} interval "
        f"{figures['accuracy_low']:.2%} to {figures['accuracy_high']:.2%}), macro F1 "
        f"{figures['macro_f1']:.4f} ({figures['macro_f1_low']:.4f} to "
        f"{figures['macro_f1_high']:.4f})",
    ]


def read_arguments(usual_folds: int) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.crossval", description="Cross-validate the workspace."
    )
    parser.add_argument("--folds", type=int, default=usual_folds, help=f"({usual_folds})")
    parser.add_argument(
        "-S", action="append", default=[], dest="changes", metavar="KEY=VALUE", help="of params"
    )
    parser.add_argument("--output", type=Path, default=FOLDER, help=f"folder ({FOLDER})")
    return parser.parse_args()


def main() -> None:
    """Run the folds that are not there yet and pool them all."""
    params = read_params_file(PARAMS_FILE)
    wanted = read_arguments(params["split"]["n_folds"] or USUAL_FOLDS)
    cache = load_params(CacheParams, "cache").folder
    plan = make_plan(wanted.folds, wanted.changes)
    if (files := Path("data/files.parquet")).is_file():
        require_no_official_test(read_table(files, FILES))
    folds = [run_or_reuse(plan, number, cache) for number in range(plan.n_folds)]
    content = write_results(plan, folds, params["evaluate"]["confidence"], wanted.output)
    print(*text_lines(content), sep="\n")
    summarise("crossval", f"{wanted.output}/index.html shows it", content["leaky"])


if __name__ == "__main__":
    run_stage("crossval", main)
