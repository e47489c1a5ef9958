"""Shows labels that are probably wrong, the most doubtful first, and collects decisions:
`python -m tools.audit [--source crossval|features] [--backbone NAME [--weights FILE]] [--all]`.

Asks models that have not seen a picture, best those of `tools.crossval`. Without one: regressions
on features of the trained classifier, which miss what it has learned by heart, or of a backbone.

Reads:  data/split.parquet, overrides.csv, data/raw and report/crossval, or data/dataset
Writes: report/audit/index.html, doubts.csv and overrides.csv, whose lines can be edited and moved
        to the project's own overrides.csv
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from stages.lib.dataset import class_numbers
from stages.lib.errors import InputError, run_stage
from stages.lib.files import replacing
from stages.lib.overrides import COLUMNS, read_overrides
from stages.lib.progress import summarise, track
from stages.lib.report_pictures import Tile, file_tile
from stages.lib.table import SPLIT, read_table
from tools.confident_learning import doubtful_labels, noise_estimate
from tools.crossval import FOLDER
from tools.out_of_fold import OutOfFold, from_crossval, from_features
from tools.pages import decision_content, write_page

AUDIT = Path("report/audit")
SIDE = 192  # pixels of an embedded picture's longer side


def doubts_table(found: OutOfFold, decided: set[str]) -> pd.DataFrame:
    """Return the doubtful labels, the most doubtful first, a row for each picture's content.

    decided: image ids on whose label a person has decided; they are left out. Columns: rank, uri,
    image_id, label, suggested, label_probability, suggested_probability, margin.
    """
    labels = class_numbers(found.rows, found.names)
    doubts = doubtful_labels(labels, found.probabilities)
    names = np.array(found.names, dtype=object)
    table = found.rows.iloc[doubts.rows].assign(
        suggested=names[doubts.suggested],
        label_probability=found.probabilities[doubts.rows, labels[doubts.rows]],
        suggested_probability=found.probabilities[doubts.rows, doubts.suggested],
        margin=doubts.margin,
    )
    table = table[~table["image_id"].isin(decided)].drop_duplicates("image_id")
    table.insert(0, "rank", range(1, len(table) + 1))
    return table.reset_index(drop=True)


def override_lines(table: pd.DataFrame) -> pd.DataFrame:
    """Return a relabel line of overrides.csv for each doubtful label."""
    odds = zip(
        table["uri"], table["label"], table["label_probability"], table["suggested_probability"],
        strict=True,
    )  # fmt: skip
    notes = [
        " ".join(f"audit: {uri}, was {label}; {own:.2f} against {other:.2f}".split())
        for uri, label, own, other in odds
    ]
    lines = table[["image_id"]].assign(action="relabel", value=table["suggested"], note=notes)
    return lines[list(COLUMNS)]


def make_tiles(uris: list[str]) -> dict[str, Tile | None]:
    """Return each file's picture, shrunk; None where it cannot be shown."""
    return {uri: file_tile(uri, SIDE) for uri in track(uris, len(uris), "audit", "pictures")}


def choose_source(wanted: argparse.Namespace, split: pd.DataFrame) -> OutOfFold:
    """Return what models think that have not seen the pictures, from where it is asked for."""
    usual = "crossval" if (FOLDER / "crossval.json").is_file() else "features"
    source = wanted.source or ("features" if wanted.backbone else usual)
    if source == "crossval" and wanted.backbone:
        raise InputError("--backbone is for --source features; leave one of them out")
    if source == "crossval":
        return from_crossval(split)
    return from_features(split, wanted.backbone, wanted.weights)


def read_arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tools.audit", description="Audit the labels.")
    parser.add_argument(
        "--source", choices=("crossval", "features"), help="crossval, where there is one"
    )
    parser.add_argument("--backbone", default="", help="of keras.applications, for its features")
    parser.add_argument("--weights", default="imagenet", help="of the backbone (imagenet), or file")
    parser.add_argument(
        "--all", action="store_true", help="also labels that overrides.csv has decided on"
    )
    parser.add_argument("--limit", type=int, default=200, help="pictures on the page (200)")
    return parser.parse_args()


def main() -> None:
    """Find the doubtful labels and write page, table and lines."""
    wanted = read_arguments()
    if wanted.limit < 1:
        raise InputError(f"--limit must be at least 1, got {wanted.limit}")
    split = read_table(Path("data/split.parquet"), SPLIT)
    overrides = read_overrides()
    decided = set() if wanted.all else set(overrides.relabel)
    found = choose_source(wanted, split)
    table = doubts_table(found, decided)
    shown = table.head(wanted.limit)
    tiles = make_tiles(shown["uri"].tolist())
    sides = split.set_index("uri")["split"]
    labels = class_numbers(found.rows, found.names)
    noise = noise_estimate(labels, found.probabilities)
    agreed = float((found.probabilities.argmax(axis=1) == labels).mean())
    with replacing(AUDIT) as folder:
        folder.mkdir()
        table.to_csv(folder / "doubts.csv", index=False, lineterminator="\n", float_format="%.4f")
        override_lines(table).to_csv(folder / "overrides.csv", index=False, lineterminator="\n")
        write_page(
            folder / "index.html",
            "audit.html",
            doubts=[
                {**row, "tile": tiles[row["uri"]], "side": sides[row["uri"]]}
                for row in shown.to_dict("records")
            ],
            total=len(table),
            audited=len(found.rows),
            noise=noise,
            agreed=agreed,
            how=found.how,
            labels=found.names,
            **decision_content("audit", split["image_id"], overrides),
        )
    summarise(
        "audit",
        f"{len(table):,} of {len(found.rows):,} labels are in doubt by {found.how}, which agrees "
        f"with {agreed:.1%} of the labels (about {noise:.1%} may be wrong); look at "
        f"{AUDIT}/index.html",
    )


if __name__ == "__main__":
    run_stage("audit", main)
