"""Writes one page for people: what came in, what went and why, how far the figure can be trusted.

Reads:  metrics, metrics/plots, data/removed.csv, data/duplicates.csv, data/clusters.csv,
        data/clean.parquet, data/split.parquet, data/predictions.parquet, data/mistakes.csv,
        data/grad_cam.npy, data/raw, data/dataset (train, never test), models/classifier (its
        description), params.yaml
Writes: report/index.html
"""

import json
from pathlib import Path
from typing import Annotated, Any

import jinja2
import numpy as np
import pandas as pd
from pydantic import Field
from pydantic.dataclasses import dataclass

from stages.lib.before_after import before_after_rows
from stages.lib.charts import epoch_curves, interval_bar, percent, stacked_bar
from stages.lib.dataset import DATASET, is_leaky, load_split
from stages.lib.distributions import class_ways, largest_and_smallest, station_rows
from stages.lib.errors import InputError, run_stage
from stages.lib.files import replacing
from stages.lib.images import load_preprocessing
from stages.lib.leak_check import TABLE, check_sentence
from stages.lib.metrics import METRICS, PLOTS, read_metrics
from stages.lib.params import PARAMS_FILE, STRICT, load_params, read_params_file
from stages.lib.progress import summarise
from stages.lib.quality import flag_warnings
from stages.lib.report_pictures import (
    Rows,
    cluster_rows,
    family_rows,
    file_tile,
    flagged_groups,
    removed_groups,
    with_tiles,
)
from stages.lib.results import (
    FEW_PER_CLASS,
    calibration_chart,
    confusion,
    drawn,
    fold_side,
    headline,
    ranking_charts,
    run_params,
    worst_mistakes,
)
from stages.lib.similarity import (
    check_pairs,
    largest_group,
    name_ties,
    pair_details,
    similarity_facts,
)
from stages.lib.table import (
    CLEAN,
    CLUSTERS,
    DUPLICATES,
    MISTAKES,
    PREDICTIONS,
    REMOVED,
    SPLIT,
    read_table,
)

PAGE = Path("report/index.html")
TEMPLATES = Path(__file__).parent / "lib" / "templates"
CLASSIFIER = Path("models/classifier")
DESCRIPTION = ("config.json", "environment.json")
PAINTED = Path("data/grad_cam.npy")
STAGES = ("download", "scan", "clean", "split", "augment", "train", "evaluate", "export")
TABLES = (
    *("balance", "classes", "files", "history", "per_class", "precision_recall", "ranking"),
    *("reliability", "roc", "split", "top_k"),
)

CLASSES_PICTURED = 40  # classes with a sample picture


@dataclass(frozen=True, config=STRICT)
class Params:
    """The report section of params.yaml."""

    pairs: Annotated[int, Field(ge=0, le=100)]
    mistakes: Annotated[int, Field(ge=0, le=100)]
    samples: Annotated[int, Field(ge=0, le=10)]


def require_one_run(
    metrics: dict[str, dict[str, Any]],
    kept: pd.DataFrame,
    removed: pd.DataFrame,
    duplicates: pd.DataFrame,
    split: pd.DataFrame,
    predictions: pd.DataFrame,
    mistakes: pd.DataFrame,
) -> None:
    """Raise InputError unless metrics and tables tell of one and the same run."""
    clean, evaluate = metrics["clean"], metrics["evaluate"]
    # A leaky split puts duplicates back, so it has all that was kept and more.
    stayed = split[split["uri"].isin(kept["uri"])] if is_leaky(split) else split
    held_back = metrics["split"]["test_fingerprint"]
    right, wrong = int(predictions["correct"].sum()), evaluate["n"] - evaluate["correct"]
    for name, told, source, found in (
        *check_pairs(clean, duplicates),
        ("clean.removed", clean["removed"], "data/removed.csv", len(removed)),
        ("clean.kept", clean["kept"], "data/split.parquet", len(stayed)),
        ("evaluate.n", evaluate["n"], "data/predictions.parquet", len(predictions)),
        ("evaluate.correct", evaluate["correct"], "data/predictions.parquet", right),
        ("evaluate.n - evaluate.correct", wrong, "data/mistakes.csv", len(mistakes)),
        ("test_fingerprint", evaluate["test_fingerprint"], "metrics/split.json", held_back),
    ):
        if told != found:
            raise InputError(
                f"the metric {name} is {told}, but {source} says {found}: "
                "they are from different runs; run `dvc repro`"
            )


def with_samples(ways: pd.DataFrame, split: pd.DataFrame) -> Rows:
    """Return the classes, each of the first CLASSES_PICTURED with a training picture."""
    train = split[split["split"] == "train"].sort_values("image_id")
    samples = train.groupby("label")["uri"].first()
    pictured = samples[samples.index.isin(ways["label"].head(CLASSES_PICTURED))]
    tiles = {label: file_tile(str(uri)) for label, uri in pictured.items()}
    return [{**row, "tile": tiles.get(row["label"])} for row in ways.to_dict("records")]


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
    for path in (*metrics, *plots, *description, PAINTED):
        if not path.is_file():
            raise InputError(f"{path} is missing: run `dvc repro`, which makes it")


def main() -> None:
    """Gather what the stages wrote, and write the page."""
    params, all_params = load_params(Params, "report"), read_params_file(PARAMS_FILE)
    require_files()
    metrics = {name: read_metrics(name) for name in STAGES}
    plots = {name: read_plot(name) for name in TABLES}
    removed = read_table(Path("data/removed.csv"), REMOVED)
    kept = read_table(Path("data/clean.parquet"), CLEAN)
    duplicates = read_table(Path("data/duplicates.csv"), DUPLICATES)
    clusters = read_table(Path("data/clusters.csv"), CLUSTERS)
    split = read_table(Path("data/split.parquet"), SPLIT)
    predictions = read_table(Path("data/predictions.parquet"), PREDICTIONS)
    mistakes = read_table(Path("data/mistakes.csv"), MISTAKES)
    require_one_run(metrics, kept, removed, duplicates, split, predictions, mistakes)
    # Of clean's own section: clean has checked it, and its module would be a dependency.
    copies_group = all_params["clean"]["near_duplicates"] == "group"
    labels = pd.concat([kept, removed]).set_index("uri")["label"]
    ties = name_ties(clusters, duplicates, labels, copies_group)
    largest = largest_group(metrics["clean"], kept, all_params["clean"]["largest_group"])
    ways = class_ways(plots["files"], plots["classes"], plots["split"], plots["balance"])
    pictures, index = load_split("train", verify=False)
    text = render(
        **metrics,
        **read_description(),
        confidence=metrics["evaluate"]["confidence_level"],
        few_per_class=FEW_PER_CLASS,
        headline=headline(metrics["evaluate"], plots["per_class"], predictions),
        leaky=is_leaky(split),
        leak_check=check_sentence(metrics["evaluate"]),
        leak_table=TABLE if metrics["evaluate"].get("near_duplicates_across") else "",
        fold_side=fold_side(split, metrics["split"].get("fold")),
        put_back=len(split) - len(kept),
        classes=with_samples(ways, split),
        stations=station_rows(ways),
        drawn_ways=largest_and_smallest(ways),
        removed=removed_groups(removed, kept, params.pairs, pair_details(duplicates)),
        flagged=flagged_groups(kept),
        flag_warnings=flag_warnings(metrics["clean"]),
        clusters=cluster_rows(clusters, removed, ties),
        cluster_count=len(clusters),
        copies_group=copies_group,
        similarity=similarity_facts(metrics["clean"], duplicates),
        largest_group=largest and {**largest, "shown": with_tiles(largest["shown"])},
        preprocessing=load_preprocessing(DATASET),
        samples=before_after_rows(kept, pictures, index),
        families=family_rows(plots["balance"], pictures, index, params.samples),
        curves=training_curves(plots["history"], metrics["train"]["best_epoch"]),
        per_class=plots["per_class"].sort_values(["f1", "n", "label"]).to_dict("records"),
        confusion=confusion(predictions, sorted(split["label"].unique())),
        calibration=calibration_chart(plots["reliability"]),
        reliability=plots["reliability"].to_dict("records"),
        ranking=ranking_charts(plots["roc"], plots["precision_recall"]),
        ranked=plots["ranking"].to_dict("records"),
        top_k=plots["top_k"].to_dict("records"),
        mistakes=worst_mistakes(mistakes, np.load(PAINTED), params.mistakes),
        drawn=with_tiles(drawn(predictions, metrics["evaluate"]["test_fingerprint"])),
        params=run_params(all_params, (*STAGES, "report")),
    )
    with replacing(PAGE) as unfinished:
        unfinished.write_text(text, encoding="utf-8", newline="\n")
    summarise("report", f"{PAGE} ({PAGE.stat().st_size / 1e6:.1f} MB): open it in a browser")


if __name__ == "__main__":
    run_stage("report", main)
