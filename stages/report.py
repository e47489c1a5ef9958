"""Writes one page for people: what came in, what went and why, how far the figure can be trusted.

Reads:  metrics, metrics/plots, data/removed.csv, data/clusters.csv, data/clean.parquet,
        data/split.parquet, data/predictions.parquet, data/raw, data/dataset (train, never test),
        models/classifier (its description)
Writes: report/index.html
"""

import json
from pathlib import Path
from typing import Annotated, Any

import jinja2
import pandas as pd
from pydantic import Field
from pydantic.dataclasses import dataclass

from stages.lib.charts import accuracy_scale, epoch_curves, interval_bar, percent, stacked_bar
from stages.lib.dataset import load_split
from stages.lib.errors import InputError, run_stage
from stages.lib.files import replacing
from stages.lib.metrics import METRICS, PLOTS, read_metrics
from stages.lib.params import STRICT, load_params
from stages.lib.progress import summarise
from stages.lib.report_pictures import (
    Rows,
    cluster_rows,
    family_rows,
    file_tile,
    flagged_groups,
    removed_groups,
    with_tiles,
)
from stages.lib.seeds import rng_for
from stages.lib.table import CLEAN, CLUSTERS, PREDICTIONS, REMOVED, SPLIT, SPLITS, read_table

PAGE = Path("report/index.html")
TEMPLATES = Path(__file__).parent / "lib" / "templates"
CLASSIFIER = Path("models/classifier")
DESCRIPTION = ("config.json", "environment.json")
STAGES = ("augment", "clean", "download", "evaluate", "export", "scan", "split", "train")
TABLES = ("balance", "classes", "history", "per_class", "split")

FEW_PER_CLASS = 30  # test pictures; below this a class's own figure says little
WIDE_INTERVAL = 0.1  # an interval wider than this leaves the headline vague
CLASSES_PICTURED = 40  # classes with a sample picture
MATRIX_CLASSES = 40  # beyond this the confusion matrix shows those with the most mistakes
TOP_CONFUSIONS = 5
DRAWN = 12  # test pictures drawn at random


@dataclass(frozen=True, config=STRICT)
class Params:
    """The report section of params.yaml."""

    pairs: Annotated[int, Field(ge=0, le=100)]
    mistakes: Annotated[int, Field(ge=0, le=100)]
    samples: Annotated[int, Field(ge=0, le=10)]


def require_one_run(
    metrics: dict[str, dict[str, Any]],
    removed: pd.DataFrame,
    split: pd.DataFrame,
    predictions: pd.DataFrame,
) -> None:
    """Raise InputError unless metrics and tables tell of one and the same run."""
    clean, evaluate = metrics["clean"], metrics["evaluate"]
    held_back = metrics["split"]["test_fingerprint"]
    right = int(predictions["correct"].sum())
    for name, told, source, found in (
        ("clean.removed", clean["removed"], "data/removed.csv", len(removed)),
        ("clean.kept", clean["kept"], "data/split.parquet", len(split)),
        ("evaluate.n", evaluate["n"], "data/predictions.parquet", len(predictions)),
        ("evaluate.correct", evaluate["correct"], "data/predictions.parquet", right),
        ("test_fingerprint", evaluate["test_fingerprint"], "metrics/split.json", held_back),
    ):
        if told != found:
            raise InputError(
                f"the metric {name} is {told}, but {source} says {found}: "
                "they are from different runs; run `dvc repro`"
            )


def headline(
    evaluate: dict[str, Any], per_class: pd.DataFrame, predictions: pd.DataFrame
) -> dict[str, Any]:
    """Return what stands beside the test figure: baseline, and classes with few test pictures.

    The baseline is what an answer that is always the test set's largest class would get right.
    """
    sizes = predictions["label"].value_counts().sort_index()
    few = per_class[per_class["n"] < FEW_PER_CLASS].sort_values(["n", "label"])
    baseline = int(sizes.max())
    return {
        "baseline_label": sizes.idxmax(),
        "baseline": baseline,
        "scale": accuracy_scale(
            evaluate["accuracy_low"],
            evaluate["accuracy"],
            evaluate["accuracy_high"],
            baseline / evaluate["n"],
        ),
        "wide": evaluate["accuracy_high"] - evaluate["accuracy_low"] > WIDE_INTERVAL,
        "few": few[["label", "n"]].to_dict("records"),
    }


def class_rows(classes: pd.DataFrame, split: pd.DataFrame, counts: pd.DataFrame) -> Rows:
    """Return one row per class, the largest first: counts and a training picture."""
    by_split = counts.pivot(index="label", columns="split", values="images").fillna(0).astype(int)
    rows = classes.join(by_split.reindex(columns=list(SPLITS), fill_value=0), on="label")
    rows = rows.sort_values(["files", "label"], ascending=[False, True])
    train = split[split["split"] == "train"].sort_values("image_id")
    samples = train.groupby("label")["uri"].first()
    pictured = samples[samples.index.isin(rows["label"].head(CLASSES_PICTURED))]
    tiles = {label: file_tile(str(uri)) for label, uri in pictured.items()}
    return [{**row, "tile": tiles.get(row["label"])} for row in rows.to_dict("records")]


def confusion(predictions: pd.DataFrame, names: list[str]) -> dict[str, Any]:
    """Return the confusion matrix row by row, and the commonest mistakes.

    Of more than MATRIX_CLASSES names only those with the most mistakes have a row and a column.
    """
    wrong = predictions[~predictions["correct"]]
    pairs = wrong.groupby(["label", "predicted"]).size().sort_values(ascending=False, kind="stable")
    if len(names) > MATRIX_CLASSES:
        involved = pd.concat([wrong["label"], wrong["predicted"]]).value_counts()
        names = sorted(names, key=lambda name: (-involved.get(name, 0), name))
        names = sorted(names[:MATRIX_CLASSES])
    totals = predictions["label"].value_counts()
    counts = pd.crosstab(predictions["label"], predictions["predicted"])
    counts = counts.reindex(index=names, columns=names, fill_value=0)
    rows = [
        {
            "actual": actual,
            "n": int(totals.get(actual, 0)),
            "cells": [(name, int(counts.at[actual, name])) for name in names],
        }
        for actual in names
    ]
    return {"names": names, "rows": rows, "top": pairs.head(TOP_CONFUSIONS).to_dict()}


def worst_mistakes(predictions: pd.DataFrame, limit: int) -> pd.DataFrame:
    """Return the wrong predictions with the highest loss, the worst first."""
    wrong = predictions[~predictions["correct"]]
    return wrong.sort_values(["loss", "uri"], ascending=[False, True]).head(limit)


def drawn(predictions: pd.DataFrame, fingerprint: str) -> pd.DataFrame:
    """Return a few predictions drawn at random, seeded by the test set's fingerprint."""
    size = min(DRAWN, len(predictions))
    picked = rng_for(0, "report", fingerprint).choice(len(predictions), size, replace=False)
    return predictions.iloc[sorted(picked)]


def training_curves(history: pd.DataFrame, best_epoch: int) -> dict[str, str]:
    """Return the curves of loss and accuracy."""
    return {
        name: epoch_curves(
            name.capitalize(),
            {"train": history[name].tolist(), "val": history[f"val_{name}"].tolist()},
            best_epoch,
            shares=name == "accuracy",
        )
        for name in ("loss", "accuracy")
    }


def render(**content: Any) -> str:
    """Return the page; all but the charts is escaped, for labels and paths come from anywhere."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": "{:,}".format, "percent": percent, "g": "{:g}".format}
    environment.globals |= {"stacked_bar": stacked_bar, "interval_bar": interval_bar}
    return environment.get_template("report.html").render(**content) + "\n"


def read_plot(name: str) -> pd.DataFrame:
    """Return metrics/plots/<name>.csv, with labels as text whatever they look like."""
    text = {"label": "str", "split": "str"}
    return pd.read_csv(PLOTS / f"{name}.csv", dtype=text, keep_default_na=False)


def read_description() -> dict[str, Any]:
    """Return the model's name and the software that trained it."""
    config, environment = (
        json.loads((CLASSIFIER / name).read_text(encoding="utf-8")) for name in DESCRIPTION
    )
    return {"model": config["config"]["name"], "environment": environment}


def require_files() -> None:
    """Raise InputError naming the first file that is missing; tables check themselves."""
    metrics = [METRICS / f"{name}.json" for name in STAGES]
    plots = [PLOTS / f"{name}.csv" for name in TABLES]
    description = [CLASSIFIER / name for name in DESCRIPTION]
    for path in (*metrics, *plots, *description):
        if not path.is_file():
            raise InputError(f"{path} is missing: run `dvc repro`, which makes it")


def main() -> None:
    """Gather what the stages wrote, and write the page."""
    params = load_params(Params, "report")
    require_files()
    metrics = {name: read_metrics(name) for name in STAGES}
    plots = {name: read_plot(name) for name in TABLES}
    removed = read_table(Path("data/removed.csv"), REMOVED)
    kept = read_table(Path("data/clean.parquet"), CLEAN)
    clusters = read_table(Path("data/clusters.csv"), CLUSTERS)
    split = read_table(Path("data/split.parquet"), SPLIT)
    predictions = read_table(Path("data/predictions.parquet"), PREDICTIONS)
    require_one_run(metrics, removed, split, predictions)
    text = render(
        **metrics,
        **read_description(),
        confidence=metrics["evaluate"]["confidence_level"],
        few_per_class=FEW_PER_CLASS,
        headline=headline(metrics["evaluate"], plots["per_class"], predictions),
        classes=class_rows(plots["classes"], split, plots["split"]),
        removed=removed_groups(removed, split, params.pairs),
        flagged=flagged_groups(kept),
        clusters=cluster_rows(clusters, removed),
        cluster_count=len(clusters),
        families=family_rows(plots["balance"], *load_split("train"), params.samples),
        curves=training_curves(plots["history"], metrics["train"]["best_epoch"]),
        per_class=plots["per_class"].sort_values(["f1", "n", "label"]).to_dict("records"),
        confusion=confusion(predictions, sorted(split["label"].unique())),
        mistakes=with_tiles(worst_mistakes(predictions, params.mistakes)),
        drawn=with_tiles(drawn(predictions, metrics["evaluate"]["test_fingerprint"])),
    )
    with replacing(PAGE) as unfinished:
        unfinished.write_text(text, encoding="utf-8", newline="\n")
    summarise("report", f"{PAGE} ({PAGE.stat().st_size / 1e6:.1f} MB): open it in a browser")


if __name__ == "__main__":
    run_stage("report", main)
