"""What the report promises: numbers of the metrics, pictures of the captions, no other file."""

import base64
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages import report
from stages.lib.dataset import DATASET, array_file, load_split
from stages.lib.decoding import REASONS
from stages.lib.errors import InputError
from stages.lib.hashing import fingerprint, sha256_hex
from stages.lib.images import Preprocessing, save_preprocessing
from stages.lib.metrics import read_metrics, write_metrics, write_plot
from stages.lib.quality import FLAGS
from stages.lib.report_pictures import choose_families, choose_removed, file_tile, make_tile
from stages.lib.seeds import rng_for
from stages.lib.similarity import name_ties
from stages.lib.table import (
    CLEAN,
    CLUSTERS,
    DUPLICATES,
    INDEX,
    MISTAKES,
    PREDICTIONS,
    REMOVED,
    SPLIT,
    SPLITS,
    read_table,
    write_table,
)
from stages.lib.tally import clean_metrics, summary

HOSTILE = "<script>alert('label')</script> & \"co\""
PARAMS = """\
clean: {near_duplicates: remove, largest_group: 0.05}
train: {epochs: 2, options: {note: "<i>deep</i>"}}
report: {pairs: 24, mistakes: 24, samples: 2}
"""
RANKED = ("roc_auc", "average_precision")
PAINT = (10, 200, 90)  # of the pictures that say where the model looked
VOID = {"meta", "link", "img", "br", "hr", "input"}


@dataclass
class Run:
    """A small run of the pipeline up to export, as its last stage finds it."""

    labels: list[str] = field(default_factory=lambda: ["cat", "dog", "owl"])
    per_class: int = 8
    mistakes: int = 1
    with_removed: bool = True
    flagged: bool = True
    dark: int = 0
    not_comparable: int = 0
    group: int = 1
    group_labels: int = 1
    leaky: bool = False
    folds: int = 0
    channels: int = 3
    compared: bool = True

    def write(self) -> None:
        """Write every file that the report reads below the current folder."""
        Path("params.yaml").write_text(PARAMS)
        split = pd.DataFrame([row for c in range(len(self.labels)) for row in self._images(c)])
        removed = (
            self._removed(split)
            if self.with_removed
            else pd.DataFrame(columns=list(REMOVED.columns))
        )
        write_table(Path("data/split.parquet"), split, SPLIT)
        write_table(Path("data/removed.csv"), removed, REMOVED)
        write_table(Path("data/clean.parquet"), self._kept(split), CLEAN)
        if self.leaky and self.with_removed:
            split = pd.concat([split, self._put_back(removed)], ignore_index=True)
            write_table(Path("data/split.parquet"), split, SPLIT)
        write_table(Path("data/clusters.csv"), self._clusters(split), CLUSTERS)
        write_table(Path("data/duplicates.csv"), self._duplicates(split), DUPLICATES)
        self._write_dataset(split)
        predictions = self._predictions(split)
        write_table(Path("data/predictions.parquet"), predictions, PREDICTIONS)
        mistakes = self._mistakes(split, predictions)
        write_table(Path("data/mistakes.csv"), mistakes, MISTAKES)
        painted = np.full((min(len(mistakes), 1), 8, 8, 3), PAINT, np.uint8)
        np.save(report.PAINTED, painted if self.compared else painted[:0])
        self._write_metrics(split, removed, predictions)
        report.CLASSIFIER.mkdir(parents=True, exist_ok=True)
        (report.CLASSIFIER / "environment.json").write_text('{"keras": "9.8.7"}')
        (report.CLASSIFIER / "config.json").write_text('{"config": {"name": "tiny_net"}}')

    def _images(self, c: int) -> list[dict[str, Any]]:
        rows = []
        for i in range(self.per_class):
            uri = f"data/raw/class{c}/<b>{i}.png"
            image_id = _write_picture(uri, self.colour(c, i))
            place = "test" if i == 0 else "val" if i == 1 else "train"
            rows.append(
                {
                    "uri": uri,
                    "image_id": image_id,
                    "label": self.labels[c],
                    "group_id": image_id[:16],
                    "split": place,
                    "fold": 1 if self.folds and place == "test" else -1,
                    "unit": "image" if self.leaky else "group",
                }
            )
        return rows

    @staticmethod
    def colour(c: int, i: int) -> tuple[int, int, int]:
        """Return the colour that picture i of class c is filled with."""
        return (40 + 60 * (c % 4), 20 * i % 256, 30 + 7 * c % 200)

    def _removed(self, split: pd.DataFrame) -> pd.DataFrame:
        kept = split["uri"][0]
        rows = [
            ("empty.jpg", b"", "remove", "empty", "", np.nan, "scan: corrupt"),
            (
                "cut.jpg",
                b"\xff\xd8\xff\xe0 no more",
                "remove",
                "truncated",
                "",
                np.nan,
                "scan: corrupt",
            ),
            (
                "same.png",
                Path(kept).read_bytes(),
                "remove",
                "exact_duplicate",
                kept,
                1.0,
                "equal sha256",
            ),
            (
                "near.png",
                Path(kept).read_bytes(),
                "remove",
                "near_duplicate",
                kept,
                0.9512,
                "clean.remove_similarity",
            ),
            (
                "left.png",
                Path(kept).read_bytes(),
                "quarantine",
                "label_conflict",
                "data/raw/class0/right.png",
                1.0,
                "c",
            ),
            (
                "right.png",
                Path(kept).read_bytes(),
                "quarantine",
                "label_conflict",
                "data/raw/class0/left.png",
                1.0,
                "c",
            ),
        ]
        table = []
        for name, data, *rest in rows:
            uri = f"data/raw/class0/{name}"
            Path(uri).write_bytes(data)
            label = self.labels[1] if name == "right.png" else self.labels[0]
            action, reason, kept_uri, *evidence = rest
            ids = {"right": sha256_hex(data), "left": sha256_hex(data), "": ""}
            kept_id = ids.get(Path(kept_uri).stem, split["image_id"][0])
            table.append(
                (uri, sha256_hex(data), label, action, reason, kept_uri, kept_id, *evidence)
            )
        columns = [name for name in REMOVED.columns if name != "group_id"]
        return pd.DataFrame(table, columns=columns).assign(group_id="")

    @staticmethod
    def _put_back(removed: pd.DataFrame) -> pd.DataFrame:
        """Return the rows that a leaky split has besides the kept: here the near copy, in train."""
        near = removed[removed["reason"] == "near_duplicate"]
        return near[["uri", "image_id", "label"]].assign(
            group_id="near", split="train", fold=-1, unit="image"
        )

    def _kept(self, split: pd.DataFrame) -> pd.DataFrame:
        usual = {"official_split": "", "clip": "", "bytes": 9, "format": "png", "mode": "RGB"}
        usual |= {"colour": "colour", "orientation": 1, "verdict": "ok", "reason": ""}
        usual |= {"brightness": 0.5, "brightness_low": 0.2, "brightness_high": 0.9}
        usual |= {"sharpness": 900.0, "entropy": 7.0, "phash": 0, "phash_mirrored": 0}
        if self.group > 1:  # images in turn of the first labels
            turn = split.groupby("label").cumcount() * 100 + split["label"].factorize()[0]
            turn = turn[split["label"].isin(self.labels[: self.group_labels])]
            split = split.copy()
            split.loc[turn.sort_values().index[: self.group], "group_id"] = "one group"
        kept = split.assign(**usual, width=64, height=48, flags="", comparable=True)
        if self.flagged:
            dim = [0.31, 0.12, 0.22]
            kept.loc[[0, 1, 2], "brightness_high"] = dim
            kept.loc[[0, 1, 2], "flags"] = ["dark", "dark", "blurry dark"]
        return kept

    def _clusters(self, split: pd.DataFrame) -> pd.DataFrame:
        kept = split["uri"][0]
        rows = [
            ("c" * 16, 2, 2, self.labels[0], "", "", np.nan),
            ("a" * 16, 3, 1, f"{self.labels[0]}|{self.labels[1]}", kept, kept, 0.9),
            ("b" * 16, 7, 5, self.labels[0], kept, "data/raw/class0/near.png", 0.9512),
        ]
        return pd.DataFrame(rows if self.with_removed else [], columns=list(CLUSTERS.columns))

    def _duplicates(self, split: pd.DataFrame) -> pd.DataFrame:
        """Return a copy with its original, equal bytes, one scene taken twice and look-alikes."""
        kept = split["uri"][0]
        rows = [
            (kept, "data/raw/class0/near.png", "o", "n", 0.9512, 0.9876, 0.0, "remove"),
            (kept, "data/raw/class0/same.png", "o", "o", 1.0, 1.0, 0.0, "remove"),
            (split["uri"][1], split["uri"][2], "p", "q", 0.81, 0.77, 0.0, "group"),
            (split["uri"][1], split["uri"][3], "p", "r", 0.74, 0.6, 0.5, "look_alike"),
        ]
        ends = ["left_uri", "right_uri", "left_id", "right_id"]
        columns = [*ends, "similarity", "detail", "background", "level"]
        table = pd.DataFrame(rows if self.with_removed else [], columns=columns)
        return table.assign(mirrored=False, rotation=0, distance=3)

    def _write_dataset(self, split: pd.DataFrame) -> None:
        rows = split[["split", "uri", "image_id", "label", "unit"]]
        rows = rows.assign(parent_id="", augment_seed=0, crc32=0)
        parents = rows[(rows["split"] == "train") & (rows["label"] == self.labels[0])]
        children = parents.assign(parent_id=parents["image_id"], augment_seed=7)
        index = pd.concat([rows, children]).sort_values(["split", "uri", "augment_seed"])
        index = index.assign(row=index.groupby("split").cumcount())
        write_table(DATASET / "index.parquet", index, INDEX)
        train = index[index["split"] == "train"]
        pictures = np.zeros((len(train), 8, 8, self.channels), np.uint8)
        pictures += (10 * np.arange(len(train)) % 256).astype(np.uint8)[:, None, None, None]
        np.save(array_file("train"), pictures)
        colour: Literal["rgb", "grey"] = "rgb" if self.channels == 3 else "grey"
        save_preprocessing(Preprocessing(8, 8, "crop", "auto", colour), DATASET)

    def _predictions(self, split: pd.DataFrame) -> pd.DataFrame:
        test = split[split["split"] == "test"].reset_index(drop=True)
        following = dict(zip(self.labels, self.labels[1:] + self.labels[:1], strict=True))
        wrong = test.index < self.mistakes
        return test.assign(
            predicted=test["label"].where(~wrong, test["label"].map(following)),
            confidence=np.linspace(0.61, 0.97, len(test)),
            loss=np.where(wrong, 2.0, 0.1),
            correct=~wrong,
            probabilities=[np.zeros(len(self.labels), np.float32)] * len(test),
        )

    def _mistakes(self, split: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
        """Return the wrong predictions in order, each nearest to the last picture of the class that
        was named.
        """
        wrong = predictions[~predictions["correct"]].reset_index(drop=True)
        last = split[split["split"] == "train"].groupby("label")["uri"].last()
        near = {
            "nearest_uri": wrong["predicted"].map(last),
            "nearest_label": wrong["predicted"],
            "nearest_similarity": 0.8765,
        }
        if not self.compared:
            near = {"nearest_uri": "", "nearest_label": "", "nearest_similarity": np.nan}
        return wrong.assign(rank=np.arange(1, len(wrong) + 1), of_label=0.0123, **near)

    def _write_metrics(
        self, split: pd.DataFrame, removed: pd.DataFrame, predictions: pd.DataFrame
    ) -> None:
        kept = split.loc[split["group_id"] != "near", "label"].value_counts()
        files = kept.add(removed["label"].value_counts(), fill_value=0).astype(int)
        counts = pd.DataFrame({"label": self.labels, "files": files[self.labels].to_numpy()})
        write_plot("classes", counts.assign(kept=kept[self.labels].to_numpy()))
        files_plot = counts[["label"]].assign(official_split="", images=counts["files"])
        write_plot("files", files_plot)
        by_split = split.groupby(["label", "split"]).size().rename("images").reset_index()
        write_plot("split", by_split)
        train = split[split["split"] == "train"]["label"].value_counts()[self.labels].to_numpy()
        children = [int(train[0]), *[0] * (len(self.labels) - 1)]
        write_plot(
            "balance",
            pd.DataFrame({"label": self.labels, "originals": train, "children": children}),
        )
        epochs = {"epoch": [1, 2], "accuracy": [0.4, 0.9], "loss": [1.1, 0.3]}
        validation = {
            "val_accuracy": [0.5, 0.8],
            "val_loss": [1.0, 0.4],
            "learning_rate": [0.1, 0.1],
        }
        write_plot("history", pd.DataFrame(epochs | validation))
        write_plot("per_class", self._per_class(predictions))
        test = predictions["image_id"] + "/" + predictions["label"]
        sizes = {name: int((split["split"] == name).sum()) for name in SPLITS}
        files_in = {
            "files": int(files.sum()),
            "largest_class": int(files.max()),
            "smallest_class": int(files.min()),
        }
        balance = {
            "train": sizes["train"] + children[0],
            "children": children[0],
            "height": 8,
            "width": 8,
        }
        balance |= {"smallest_train_class": 6, "largest_train_class": 12}
        balance |= {"imbalance_ratio": 1.5, "class_evenness": 0.9}
        balance |= {"imbalance_ratio_before": 7.25, "class_evenness_before": 0.8}
        write_metrics("augment", balance)
        flagged = 3 * self.flagged
        clean = {
            "kept": len(self.labels) * self.per_class,
            "removed": len(removed),
            "groups": 1234,
            "flagged": flagged,
            "not_comparable": self.not_comparable,
            "exact_duplicates": 1,
            "near_duplicates": 1,
            "pairs": 2 * self.with_removed,
            "look_alike_pairs": 1 * self.with_removed,
            "ties_not_joined": 0,
            "largest_group": self.group,
            "largest_group_share": round(self.group / (len(self.labels) * self.per_class), 4),
            "largest_group_labels": self.group_labels,
            **{f"flag_{flag}": self.dark if flag == "dark" else 0 for flag in FLAGS},
        }
        write_metrics("clean", clean)
        write_metrics("download", files_in | {"source_fingerprint": "a" * 16})
        write_metrics("scan", {"wrong_extension": 0})
        divided: dict[str, Any] = {"leaks": 0, "small_classes": 0, "imbalance_ratio": 7.25}
        divided |= {"class_evenness": 0.8, "test_fingerprint": fingerprint(test)}
        if self.leaky:
            divided |= {"leaks": 5, "leaked_test_images": 2}
        if self.folds:
            divided |= {"n_folds": self.folds, "fold": 1}
        write_metrics("split", sizes | divided, self.leaky)
        write_metrics(
            "train", {"parameters": 54321, "epochs": 2, "best_epoch": 2, "val_accuracy": 0.8125}
        )
        parity = {
            "max_probability_difference": 0.000003,
            "top1_agreement": 0.9875,
            "images_compared": 77,
        }
        write_metrics("export", parity)
        n, right = len(predictions), int(predictions["correct"].sum())
        figures = {
            "accuracy": right / n,
            "accuracy_low": 0.2077,
            "accuracy_high": 0.9385,
            "baseline_accuracy": predictions["label"].value_counts().max() / n,
            "confidence_level": 0.95,
            "n": n,
            "correct": right,
        }
        more = {
            "macro_f1": 0.6543,
            "macro_f1_low": 0.5432,
            "macro_f1_high": 0.7654,
            "balanced_accuracy": 0.3456,
            "lowest_recall": 0.1234,
            "loss": 1.2345,
            "expected_calibration_error": 0.0456,
            "mean_confidence": 0.789,
            "roc_auc": 0.91234,
            "average_precision": 0.81234,
            "undefined": 3,
            "classes_tested": len(self.labels),
            "test_fingerprint": fingerprint(test),
            "weights_hash": "b" * 16,
        }
        if self.compared:
            more |= {"train_accuracy": 0.9753, "train_test_gap": 0.3086}
        write_metrics("evaluate", figures | more)
        self._write_curves()

    def _write_curves(self) -> None:
        bounds = {"accuracy_low": [0.1, 0.3], "accuracy_high": [0.6, 0.95]}
        bins = {"low": [0.5, 0.75], "high": [0.75, 1.0], "n": [1, 2], "confidence": [0.61, 0.88]}
        bins |= {"correct": [0, 2], "accuracy": [0.25, 0.7321], **bounds}
        write_plot("reliability", pd.DataFrame(bins))
        top = {"k": [1, 2], "correct": [2, 3], "accuracy": [0.667, 0.9357], **bounds}
        write_plot("top_k", pd.DataFrame(top))
        roc = {"false_positive_rate": [0, 1.0], "true_positive_rate": [0.5, 1], "lowest": [0.2, 1]}
        write_plot("roc", pd.DataFrame(roc))
        precision = {"recall": [0, 1.0], "precision": [1, 0.5], "lowest": [1, 0.2]}
        write_plot("precision_recall", pd.DataFrame(precision))
        labels = self.labels if len(self.labels) > 2 else self.labels[1:]
        ranks = {"label": labels, "roc_auc": 0.7111, "average_precision": 0.6111}
        write_plot("ranking", pd.DataFrame(ranks))

    @staticmethod
    def _per_class(predictions: pd.DataFrame) -> pd.DataFrame:
        """Return figures of which n, correct and recall are true and no two columns are alike."""
        found = predictions.groupby("label")["correct"].agg(["size", "sum"]).reset_index()
        found.columns = pd.Index(["label", "n", "correct"])
        recall = found["correct"] / found["n"]
        shares = {"precision": recall / 3, "recall": recall, "f1": recall / 2}
        return found.assign(**shares, recall_low=0.2 * recall, recall_high=1.0)


def _write_picture(uri: str, colour: tuple[int, int, int]) -> str:
    Path(uri).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (30, 20), colour).save(uri)
    return sha256_hex(Path(uri).read_bytes())


class Page(HTMLParser):
    """Reads a page: text, figures, start tags; refuses tags that do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html, self.open_tags = html, list[str]()
        self.tags = list[tuple[str, dict[str, str]]]()
        self.figures = list[dict[str, Any]]()
        self.words = list[str]()
        self.feed(html)
        assert not self.open_tags

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags.append((tag, values))
        if tag in ("td", "th", "dt", "dd"):
            self.words.append(" ")
        if tag == "figure":
            self.figures.append({"images": [], "blanks": [], "text": ""})
        if "figure" in self.open_tags and tag == "img":
            self.figures[-1]["images"].append(values)
        if "figure" in self.open_tags and "blank" in values.get("class", ""):
            self.figures[-1]["blanks"].append(values)
        if tag not in VOID:
            self.open_tags.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open_tags.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open_tags:
            self.words.append(data)
        if "figure" in self.open_tags:
            self.figures[-1]["text"] += data

    @property
    def text(self) -> str:
        """Return the page's text with every run of white space as one space."""
        return " ".join("".join(self.words).split())


@pytest.fixture
def make_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Page]:
    monkeypatch.chdir(tmp_path)

    def make(**how: Any) -> Page:
        Run(**how).write()
        report.main()
        return Page(report.PAGE.read_text(encoding="utf-8"))

    return make


def colour_of(image: dict[str, str]) -> tuple[int, ...]:
    """Return the mean colour of an embedded picture."""
    data = base64.b64decode(image["src"].removeprefix("data:image/webp;base64,"))
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    return tuple(int(value) for value in pixels.mean(axis=(0, 1)).round())


def test_numbers_in_the_page_are_those_of_the_metrics(make_page: Callable[..., Page]) -> None:
    text = make_page().text

    for words in (
        "66.7% 2 of 3 test pictures right",
        "The 95% interval runs from 20.8% to 93.8%",
        "would get 1 right (33.3%)",
        "30 files came in, 6 were left out and 24 kept.",
        "train 18 validation 3 test 3 left out 6",
        "every class alike 0.654 (0.543 to 0.765)",
        "Mean recall of the classes (balanced accuracy) 34.6% Lowest recall of a class 12.3%",
        "Right among the 2 likeliest 93.6% Mean loss (cross-entropy) 1.234",
        "Accuracy on the originals of train 97.5% Gap, train less test +30.9 points",
        "the model is 78.9% sure and 66.7% of its answers are right",
        "Expected calibration error 0.046 Confidence less accuracy +12.2 points",
        "75 to 100% 2 88.0% 73.2% 30.0% to 95.0%",
        "Area under the ROC curve 0.9123 Average precision 0.8123",
        "cat 0.7111 0.6111",
        "Hash of the weights that were tested " + "b" * 16,
        "3 figures of the test set are undefined and left out.",
        "train epochs: 2 options: note: <i>deep</i>",
        "Leaks between the splits 0",
        "form 1,234 groups",
        "Training sees 24 pictures: 18 originals and 6 altered children. A class then has 6 to 12.",
        "Model tiny net Parameters 54,321 Best epoch 2 of 2 Validation accuracy 81.2%",
        "beside the trained one on 77 validation pictures. "
        "They name the same class in 98.8% of them.",
        "The largest difference in a probability is 0.000003.",
        "keras 9.8.7",
        "Fingerprint of the source " + "a" * 16,
    ):
        assert words in text


def test_the_headline_warns_of_few_test_pictures_and_a_wide_interval(
    make_page: Callable[..., Page],
) -> None:
    text = make_page().text

    assert "Few test pictures: the interval is wide. It spans 73.1 percentage points." in text
    assert "Few test pictures in 3 of 3 classes." in text
    assert "would get 1 right (33.3%): that is the baseline." in text
    assert "This model is not proven to be better than that." in text
    assert "rough: cat 1, dog 1, owl 1." in text


def test_per_class_figures_stand_in_the_row_of_their_class(make_page: Callable[..., Page]) -> None:
    text = make_page().text

    assert "cat 0 1 0.000 0% 0% 0% to 100%" in text
    assert "dog 1 1 0.500 33.3% 100% 20.0% to 100%" in text


def test_captions_belong_to_the_pictures_shown(make_page: Callable[..., Page]) -> None:
    page = make_page(mistakes=2)

    shown = {}
    for figure in page.figures:
        found = re.search(r"class(\d)/<b>0\.png", figure["text"])
        if found and len(figure["images"]) == 1 and "sure" in figure["text"]:
            shown[int(found[1])] = figure
    assert sorted(shown) == [0, 1, 2]
    for c, figure in shown.items():
        assert colour_of(figure["images"][0]) == pytest.approx(Run.colour(c, 0), abs=6)
        assert f"picture of {['cat', 'dog', 'owl'][c]}" in figure["images"][0]["alt"]
    assert "taken for dog, 61.0% sure" in shown[0]["text"]
    assert "taken for owl, 79.0% sure" in shown[1]["text"]
    assert "recognised, 97.0% sure" in shown[2]["text"]


def test_a_mistake_stands_beside_where_the_model_looked_and_the_nearest_training_picture(
    make_page: Callable[..., Page],
) -> None:
    page = make_page(mistakes=2)

    first, second = (figure for figure in page.figures if "nearest in train:" in figure["text"])
    assert [image["alt"] for image in first["images"]] == [
        "Test picture of cat, taken for dog",
        "The same, with what spoke for dog painted over it",
        "Nearest training picture, dog",
    ]
    colours = [colour_of(image) for image in first["images"]]
    for found, right in zip(colours, (Run.colour(0, 0), PAINT, Run.colour(1, 7)), strict=True):
        assert found == pytest.approx(right, abs=8)
    text = " ".join(first["text"].split())
    assert "cat taken for dog, 61.0% sure; 1.2% for cat class0/<b>0.png" in text
    assert "nearest in train: dog, similarity 0.876 class1/<b>7.png" in text
    assert [colour_of(image) for image in second["images"]] == [
        pytest.approx(Run.colour(1, 0), abs=8), pytest.approx(Run.colour(2, 7), abs=8),
    ]  # fmt: skip
    assert "Grad-CAM" in page.text


def test_without_a_comparison_with_train_a_mistake_stands_alone(
    make_page: Callable[..., Page],
) -> None:
    page = make_page(compared=False)

    figures = [figure for figure in page.figures if "1.2% for cat" in figure["text"]]
    assert len(figures) == 1 and len(figures[0]["images"]) == 1
    assert "nearest in train" not in page.text and "Grad-CAM" not in page.text
    assert "originals of train" not in page.text


def test_what_has_no_curve_has_no_section(make_page: Callable[..., Page]) -> None:
    make_page()
    for name in ("roc", "precision_recall", "ranking"):
        table = pd.read_csv(f"metrics/plots/{name}.csv")[:0]
        table.to_csv(f"metrics/plots/{name}.csv", index=False)
    figures = read_metrics("evaluate")
    write_metrics("evaluate", {k: v for k, v in figures.items() if k not in RANKED})

    report.main()

    page = Page(report.PAGE.read_text(encoding="utf-8"))
    assert "ROC" not in page.text and "#ranking" not in page.html


def test_of_two_classes_the_page_names_the_one_looked_for(make_page: Callable[..., Page]) -> None:
    text = make_page(labels=["cat", "dog"]).text

    assert "the probability of “dog” tells its pictures from the others" in text
    assert "mean of the classes" not in text
    assert "classes in numbers" not in text.partition("Any threshold")[2].partition("Mistakes")[0]


def test_mistakes_of_another_run_are_refused(make_page: Callable[..., Page]) -> None:
    make_page(mistakes=2)
    table = read_table(Path("data/mistakes.csv"), MISTAKES)
    write_table(Path("data/mistakes.csv"), table[:1], MISTAKES)

    with pytest.raises(InputError, match=r"is 2, but data/mistakes\.csv says 1"):
        report.main()


@pytest.mark.parametrize("labels", [[HOSTILE, "dog"], ["cat", HOSTILE]])
def test_labels_and_paths_are_escaped_wherever_they_stand(
    make_page: Callable[..., Page], labels: list[str]
) -> None:
    page = make_page(labels=labels)

    assert HOSTILE in page.text
    assert "<b>0.png" in page.text
    assert not [tag for tag, _ in page.tags if tag == "script"]
    assert not [name for _, values in page.tags for name in values if name.startswith("on")]
    assert "<b>0.png" not in page.html


def test_the_page_needs_nothing_from_elsewhere(make_page: Callable[..., Page]) -> None:
    page = make_page()

    assert not re.search(r"(?i)https?:|url\(|@import|<script|<iframe|<object", page.html)
    links = [values[name] for _, values in page.tags for name in ("src", "href") if name in values]
    assert links
    assert all(link.startswith(("data:", "#")) for link in links)


def test_every_picture_has_a_text_and_every_heading_follows_its_parent(
    make_page: Callable[..., Page],
) -> None:
    page = make_page()

    assert all(values.get("alt") for tag, values in page.tags if tag == "img")
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    assert all("scope" in values for tag, values in page.tags if tag == "th")
    anchors = {values["href"] for tag, values in page.tags if tag == "a"}
    assert anchors <= {f"#{values['id']}" for _, values in page.tags if "id" in values}


def test_equal_input_gives_equal_bytes(make_page: Callable[..., Page]) -> None:
    first = make_page().html

    report.main()

    assert report.PAGE.read_text(encoding="utf-8") == first


def test_files_that_cannot_be_shown_get_a_tile_with_the_reason(
    make_page: Callable[..., Page],
) -> None:
    page = make_page()

    figures = {
        name: figure
        for figure in page.figures
        for name in ("empty.jpg", "cut.jpg")
        if name in figure["text"]
    }
    assert "empty files: nothing to show" in figures["empty.jpg"]["text"]
    assert "cut off: nothing to show" in figures["cut.jpg"]["text"]
    assert all(figure["blanks"] and not figure["images"] for figure in figures.values())


def test_a_test_picture_that_has_vanished_gets_a_tile(make_page: Callable[..., Page]) -> None:
    make_page()
    Path("data/raw/class0/<b>0.png").unlink()

    report.main()

    page = Page(report.PAGE.read_text(encoding="utf-8"))
    assert any(figure["blanks"] and "taken for dog" in figure["text"] for figure in page.figures)


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8\xff\xc3", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\0\0\0\0WEBP"]
)
def test_no_bytes_make_a_tile_fail(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)

    assert file_tile(str(tmp_path / "file")) is None
    assert file_tile(str(tmp_path / "missing")) is None


def test_pairs_show_what_was_left_out_beside_what_was_kept(make_page: Callable[..., Page]) -> None:
    page = make_page()

    near = next(figure for figure in page.figures if "near.png" in figure["text"])
    assert [image["alt"] for image in near["images"]] == [
        "Left out, labelled cat",
        "Kept, labelled cat",
    ]
    assert "Detail agrees to 98.8%, similarity 0.9512" in " ".join(near["text"].split())
    kept_id = sha256_hex(Path("data/raw/class0/<b>0.png").read_bytes())
    assert near["text"].count(kept_id[:8]) == 2  # the fixture's near copy has the same bytes
    conflict = next(figure for figure in page.figures if "left.png" in figure["text"])
    texts = [image["alt"] for image in conflict["images"]]
    assert texts == ["Left out, labelled cat", "Left out as well, labelled dog"]


def test_flagged_pictures_are_counted_and_the_most_extreme_come_first(
    make_page: Callable[..., Page],
) -> None:
    page = make_page()

    assert "3 kept pictures bear a flag" in page.text
    assert "Dark dark Next to nothing in the picture is bright. 3" in page.text
    assert "Blurry blurry No edge is sharp, even with the picture made small. 1" in page.text
    assert "Bright bright Next to nothing in the picture is dark. 0" in page.text
    dark = [figure for figure in page.figures if "Dark, labelled cat" in str(figure["images"])]
    assert [figure["text"].split()[0] for figure in dark] == ["0.12", "0.22", "0.31"]
    for figure, number in zip(dark, (1, 2, 0), strict=True):
        assert f"class0/<b>{number}.png" in figure["text"]
        assert colour_of(figure["images"][0]) == pytest.approx(Run.colour(0, number), abs=6)


@pytest.mark.parametrize("dark", [2, 3])
def test_a_flag_on_more_than_a_tenth_is_a_warning_beside_the_figure(
    make_page: Callable[..., Page], dark: int
) -> None:
    text = make_page(dark=dark).text

    sentence = "3 of 24 kept images (12.5%) are flagged dark; clean.remove_flagged: [dark] leaves"
    assert (sentence in text) == (dark == 3)
    assert ("More than a tenth of the data bears one flag." in text) == (dark == 3)
    if dark == 3:
        assert text.index(sentence) < text.index("Macro F1, every class alike")


def test_images_that_cannot_be_compared_are_counted(make_page: Callable[..., Page]) -> None:
    words = "not comparable: too flat, too dark or too small"

    assert f"7 kept images are {words}" in make_page(not_comparable=7).text
    assert words not in make_page().text


def test_clusters_are_shown_by_their_weakest_tie_the_largest_first(
    make_page: Callable[..., Page],
) -> None:
    page = make_page()

    assert "3 clusters of two images or more" in page.text
    figures = [figure for figure in page.figures if " images " in figure["text"]]
    texts = [" ".join(figure["text"].split()) for figure in figures]
    assert len(texts) == 3
    assert "near.png 7 images 5 kept cat Weakest tie: copy, similarity 0.9512" in texts[0]
    alts = ["Kept, one end of the weakest tie", "Left out, one end of the weakest tie"]
    assert [image["alt"] for image in figures[0]["images"]] == alts
    assert "3 images 1 kept cat, dog Weakest tie: similarity 0.9000" in texts[1]
    assert texts[2] == "2 images 2 kept cat Frames of one clip"
    assert not figures[2]["images"]


def test_the_page_counts_what_was_removed_grouped_and_left_alone(
    make_page: Callable[..., Page],
) -> None:
    text = make_page().text

    assert "Left out as copies 2 images" in text
    assert "Only grouped: kept on one side 1 pair" in text
    assert "Look-alikes, nothing done 1 pair" in text
    assert "too few to join" not in text
    assert "Pairs that are right, by estimate unknown" in text
    assert "it would need look-alikes that lie across two labels" in text


@pytest.mark.parametrize(("alike", "base"), [(29, "two images drawn at random"), (30, "the 30")])
@pytest.mark.parametrize("low", [0.2, 0.8])
def test_the_precision_of_the_pairs_says_what_it_rests_on(
    make_page: Callable[..., Page], alike: int, base: str, low: float
) -> None:
    make_page()
    precision = {"pair_precision": 0.95, "pair_precision_low": low, "pair_precision_high": 0.99}
    counts = {"pairs_across_labels": 1, "look_alike_pairs": alike, "ties_not_joined": 1}
    write_metrics("clean", read_metrics("clean") | precision | counts)
    pairs = read_table(Path("data/duplicates.csv"), DUPLICATES)
    last = pairs[pairs["level"] == "look_alike"]
    more = [last.assign(right_uri=f"data/raw/{n}") for n in range(alike - 1)]
    write_table(Path("data/duplicates.csv"), pd.concat([pairs, *more]), DUPLICATES)

    report.main()

    text = Page(report.PAGE.read_text(encoding="utf-8")).text
    assert f"Pairs that are right, by estimate 95.0% ({low:.1%} to 99.0%)" in text
    assert (
        "1 of the 2 pairs judged to be copies or one scene (exact copies aside) lies across" in text
    )
    assert f"Two different things would do so as often as {base}" in text
    assert ("the labels say next to nothing here" in text) == (low == 0.2)
    assert "Only grouped: kept on one side 0 pairs" in text
    assert "too few to join two groups 1 pair" in text


@pytest.mark.parametrize(("group", "labels"), [(2, 1), (1, 1), (6, 3)])
def test_the_largest_group_is_named_with_its_share_its_labels_and_its_images(
    make_page: Callable[..., Page], group: int, labels: int
) -> None:
    page = make_page(group=group, group_labels=labels)

    noun = "label" if labels == 1 else "labels"
    images = "image" if group == 1 else "images"
    share = {1: "4.2%", 2: "8.3%", 6: "25.0%"}[group]
    assert f"Largest group {group} {images} ({share} of those kept, {labels} {noun})" in page.text
    shown = [figure for figure in page.figures if "In the largest group" in str(figure["images"])]
    assert len(shown) == (group if group > 1 else 0)
    assert ("A large group." in page.text) == (group == 6)
    if labels == 3:
        assert "All of 6 kept images shown, of each label in turn: cat 2, dog 2, owl 2" in page.text
        texts = [figure["text"].strip()[:3] for figure in shown]
        assert texts == ["cat", "dog", "owl", "cat", "dog", "owl"]


@pytest.mark.parametrize(
    ("size", "labels", "words"),
    [(1, 1, ""), (1200, 1, "; largest group 1,200 images (37.5%, 1 label)"), (9, 4, "4 labels)")],
)
def test_the_closing_line_of_clean_names_the_largest_group(
    make_page: Callable[..., Page], size: int, labels: int, words: str
) -> None:
    make_page()
    columns = {name: pd.Series(dtype="str") for name in ("reason", "rule")}
    kept = read_table(Path("data/clean.parquet"), CLEAN)
    counts: dict[str, Any] = dict(clean_metrics(kept, pd.DataFrame(columns)))
    share = {"largest_group_share": 0.375}

    line = summary(counts | share | {"largest_group": size, "largest_group_labels": labels})

    assert words in line
    assert ("largest group" in line) == (size > 1)


def test_pairs_of_another_run_are_refused(make_page: Callable[..., Page]) -> None:
    make_page()
    pairs = read_table(Path("data/duplicates.csv"), DUPLICATES)
    write_table(Path("data/duplicates.csv"), pairs[pairs["level"] != "group"], DUPLICATES)

    with pytest.raises(InputError, match=r"clean\.pairs is 2, but data/duplicates\.csv says 1"):
        report.main()


def test_where_copies_are_kept_a_weakest_tie_may_be_one() -> None:
    ends = {"weakest_left_uri": ["a", ""], "weakest_right_uri": ["b", ""]}
    pair = {"left_uri": ["a"], "right_uri": ["b"], "left_id": ["1"], "right_id": ["2"]}
    pairs = pd.DataFrame({**pair, "level": "group", "mirrored": True})
    labels = pd.Series({"a": "x", "b": "y"})

    named = [
        name_ties(pd.DataFrame(ends), pairs, labels, copies)[("a", "b")] for copies in (False, True)
    ]

    assert named == [
        "same scene, mirrored, under two labels",
        "copy or same scene, mirrored, under two labels",
    ]


def test_a_conflict_decided_by_a_majority_may_name_nobody(make_page: Callable[..., Page]) -> None:
    make_page()
    removed = pd.read_csv("data/removed.csv", keep_default_na=False)
    conflict = removed["reason"] == "label_conflict"
    removed.loc[conflict, ["kept_uri", "kept_image_id", "similarity"]] = ["", "", np.nan]
    removed["similarity"] = pd.to_numeric(removed["similarity"])
    write_table(Path("data/removed.csv"), removed, REMOVED)

    report.main()

    page = Page(report.PAGE.read_text(encoding="utf-8"))
    assert any("left.png" in figure["text"] for figure in page.figures)


def test_a_page_without_flags_and_clusters_says_so(make_page: Callable[..., Page]) -> None:
    text = make_page(with_removed=False, flagged=False).text

    assert "0 kept pictures bear a flag" in text
    assert "Nothing: no two images are copies or show one scene." in text


def test_a_page_without_removals_and_mistakes_says_so(make_page: Callable[..., Page]) -> None:
    text = make_page(with_removed=False, mistakes=0).text

    assert "Nothing. All 24 files were kept." in text
    assert "None: all 3 test pictures were recognised." in text
    assert "100% 3 of 3 test pictures right" in text
    assert "Worst mistakes" not in text


def test_planted_faults_are_shown_where_there_are_any(make_page: Callable[..., Page]) -> None:
    page = make_page()
    assert "Planted faults" not in page.text
    planted = {"planted_corrupt": 31, "planted_corrupt_found": 29}
    mistaken = {"sound_removed_as_corrupt": 1, "sound_removed_as_duplicate": 2}
    write_metrics("clean", read_metrics("clean") | planted | mistaken)

    report.main()

    text = Page(report.PAGE.read_text(encoding="utf-8")).text
    assert "Broken files 31 29" in text
    assert "left out by mistake: 1 as broken, 2 as copies" in text


def test_metrics_and_tables_of_different_runs_are_refused(make_page: Callable[..., Page]) -> None:
    make_page()
    figures = json.loads(Path("metrics/evaluate.json").read_text())
    write_metrics("evaluate", figures | {"correct": 3})

    with pytest.raises(
        InputError, match=r"evaluate\.correct is 3, but data/predictions\.parquet says 2"
    ):
        report.main()


def test_a_missing_file_is_named(make_page: Callable[..., Page]) -> None:
    make_page()
    Path("metrics/train.json").unlink()

    with pytest.raises(InputError, match=r"metrics/train\.json is missing"):
        report.main()


def test_two_hundred_classes_fit_in_a_page(make_page: Callable[..., Page]) -> None:
    page = make_page(labels=[f"kind {number:03} {'x' * 80}" for number in range(200)], per_class=3)

    assert report.PAGE.stat().st_size < 2_000_000
    assert "The other 160 classes" in page.text
    assert "Of 200 classes the 40 with the most mistakes are shown" in page.text
    assert "Of 200 classes the 12 largest and the 12 smallest are drawn" in page.text
    assert len([values for tag, values in page.tags if values.get("class") == "way"]) == 24
    assert "All 200 classes in numbers" in page.text
    assert "Of 200 classes the 24 that gained most are pictured." in page.text


def test_every_class_is_followed_from_its_files_to_training(make_page: Callable[..., Page]) -> None:
    text = make_page().text

    assert "cat 13 files, 8 kept 6 train, 1 validation, 1 test" in text
    assert "12 in training, 6 of them children" in text
    assert "owl 8 files, 8 kept 6 train, 1 validation, 1 test 6 in training" in text
    assert "cat 13 8 6 1 1 6 12" in text
    assert "Files 30 13 8 1.62 " in text
    assert "Train, balanced 24 12 6 2.00 " in text


def test_the_imbalance_of_train_is_that_of_the_metrics(make_page: Callable[..., Page]) -> None:
    text = make_page().text

    assert "In train the largest class is 7.2 times the smallest; after balancing the" in text
    assert "largest class is 1.5 times the smallest." in text


def test_originals_stand_beside_their_children_and_both_are_labelled(
    make_page: Callable[..., Page],
) -> None:
    page = make_page()

    alts = [values["alt"] for tag, values in page.tags if tag == "img"]
    at = alts.index("Original, cat")
    assert alts[at + 1] == "Child 1 of the original before, cat"
    assert "cat 6 originals, 6 children original 1 child child 1" in page.text
    assert "dog 6 originals, no children original original" in page.text


def test_files_stand_beside_what_the_model_sees(make_page: Callable[..., Page]) -> None:
    page = make_page()

    pairs = [figure for figure in page.figures if "What the model sees" in str(figure["images"])]
    assert len(pairs) == 3
    for figure in pairs:
        before, after = figure["images"]
        assert before["alt"].startswith("The file as it is, ")
        assert (after["width"], after["height"]) == ("8", "8")
        assert "64 × 48" in figure["text"] and "8 × 8" in figure["text"]
        assert "PNG, colour" in figure["text"]
    assert "brought to 8 × 8 pixels; the centre is kept, what juts out is cut off." in page.text
    assert "interpolation auto (pixels are averaged where they shrink" in page.text


def test_grey_arrays_are_shown_as_grey_pictures(make_page: Callable[..., Page]) -> None:
    page = make_page(channels=1)

    seen = [values for _, values in page.tags if values.get("class") == "tile seen"]
    assert len(seen) == 3
    for image in seen:
        red, green, blue = colour_of(image)
        assert red == green == blue
    assert "brought to 8 × 8 pixels of grey;" in page.text


def test_no_picture_of_the_test_array_is_read(
    make_page: Callable[..., Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []

    def watched(split: str, verify: bool = True) -> Any:
        read.append((split, verify))
        return load_split(split, verify)

    monkeypatch.setattr(report, "load_split", watched)
    page = make_page()

    assert read == [("train", False)]
    shown = [figure for figure in page.figures if "What the model sees" in str(figure["images"])]
    assert not [figure for figure in shown if re.search(r"<b>[01]\.png", figure["text"])]


# --- A split that leaks, folds, small classes ---------------------------------------------------


def test_a_leaky_run_says_so_before_its_figure(make_page: Callable[..., Page]) -> None:
    page = make_page(leaky=True)

    warning = (
        "Leaky: do not trust these figures The pictures were split one by one (split.unit: image)"
    )
    assert warning in page.text
    assert page.text.index("do not trust") < page.text.index(
        "66.7% leaky 2 of 3 test pictures right"
    )
    assert "with 1 duplicate put back" in page.text
    assert (
        "So 5 pairs of images that are copies or show one scene lie on different sides, and 2 of 3"
        in page.text
    )
    assert (
        "2 of 3 test pictures have a copy or an image of the same scene in train (66.7%)"
        in page.text
    )
    assert "<title>Leaky: 66.7%" in page.html
    assert "train 19 validation 3 test 3 left out 5" in page.text
    assert "Leaks between the splits 5" in page.text
    assert '<dd class="leaky">5</dd>' in page.html
    assert "No group lies on two sides." not in page.text
    assert "a group is never divided" not in page.text


@pytest.mark.parametrize("pairs", [0, 3])
def test_the_split_says_what_the_second_search_found(
    make_page: Callable[..., Page], pairs: int
) -> None:
    make_page()
    figures = read_metrics("evaluate")
    figures |= {"near_duplicates_across": pairs, "test_images_with_near_duplicate": min(pairs, 2)}
    write_metrics("evaluate", figures | {"test_images_not_compared": 0})

    report.main()

    page = Page(report.PAGE.read_text(encoding="utf-8"))
    assert f"Near-duplicates across, by a second search {pairs}" in page.text
    assert "people and objects are known only by the groups you gave" in page.text
    assert ("no near-duplicates found across the split" in page.text) == (pairs == 0)
    assert ("data/near_duplicates_across.csv names the pairs" in page.text) == (pairs > 0)


def test_an_honest_run_does_not_speak_of_leaky_ones(make_page: Callable[..., Page]) -> None:
    page = make_page()

    assert "eaky" not in page.text
    assert (
        "No group lies on two sides. The last check, after training: no second search" in page.text
    )


def test_a_kept_picture_that_a_leaky_split_lacks_is_of_another_run(
    make_page: Callable[..., Page],
) -> None:
    make_page(leaky=True)
    split = read_table(Path("data/split.parquet"), SPLIT)
    write_table(Path("data/split.parquet"), split[split["uri"] != split["uri"][2]], SPLIT)

    with pytest.raises(InputError, match=r"clean\.kept is 24, but data/split\.parquet says 23"):
        report.main()


def test_a_fold_is_named_by_its_number_and_their_count(make_page: Callable[..., Page]) -> None:
    text = make_page(folds=4).text

    assert "Fold 2 of 4 (split.fold: 1): this is the figure of one part" in text
    assert "in 4 equal parts, of which another one is the test set in each fold." in text
    assert "Fold" not in make_page().text


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (1, "1 class is too small to be divided (split.small_classes: train): all its pictures"),
        (2, "2 classes are too small to be divided (split.small_classes: train): all their"),
    ],
)
def test_classes_too_small_to_be_divided_are_told(
    make_page: Callable[..., Page], count: int, words: str
) -> None:
    assert "too small to be divided" not in make_page().text
    small = read_metrics("split") | {"small_classes": count}
    write_metrics("split", small)
    write_metrics("evaluate", read_metrics("evaluate") | {"classes_tested": 3 - count})

    report.main()

    text = Page(report.PAGE.read_text(encoding="utf-8")).text
    assert words in text
    assert "no test picture" not in text


def test_every_reason_has_words_of_its_own() -> None:
    template = (report.TEMPLATES / "report.html").read_text(encoding="utf-8")

    duplicates = ("exact_duplicate", "near_duplicate", "label_conflict")
    policies = ("too_small", "unwanted_format", "unwanted_colour", "dropped", "beside_official_set")
    empty = ("mask", "single_color")
    for reason in (*REASONS, *duplicates, *policies, *empty, *FLAGS):
        assert f'"{reason}": (' in template


def removals(**counts: int) -> pd.DataFrame:
    rows = [
        {"uri": f"{reason}/{number}", "reason": reason, "kept_uri": "", "similarity": number / 100}
        for reason, count in counts.items()
        for number in range(count)
    ]
    return pd.DataFrame(rows)


def test_chosen_removals_are_spread_over_the_reasons_and_favour_what_needs_a_look() -> None:
    chosen = choose_removed(
        removals(near_duplicate=50, label_conflict=50, empty=50, truncated=1), limit=13
    )

    assert chosen["reason"].value_counts().to_dict() == {
        "near_duplicate": 6, "label_conflict": 4, "empty": 2, "truncated": 1,
    }  # fmt: skip
    near = chosen[chosen["reason"] == "near_duplicate"]
    assert list(near["similarity"]) == [0.0, 0.01, 0.02, 0.03, 0.04, 0.05]
    assert set(near["of"]) == {50}


def test_the_choice_does_not_depend_on_the_order_of_the_rows() -> None:
    removed = removals(near_duplicate=9, exact_duplicate=9)
    shuffled = removed.sample(frac=1, random_state=3)

    assert list(choose_removed(removed, 7)["uri"]) == list(choose_removed(shuffled, 7)["uri"])


def test_families_are_originals_with_their_own_children() -> None:
    train = pd.DataFrame(
        [
            (0, "a", "id2", "cat", ""),
            (1, "a", "id2", "cat", "id2"),
            (2, "a", "id2", "cat", "id2"),
            (3, "b", "id1", "cat", ""),
            (4, "c", "id3", "dog", ""),
            (5, "d", "id4", "owl", ""),
        ],
        columns=["row", "uri", "image_id", "label", "parent_id"],
    )

    families = choose_families(train, samples=2, classes=2)

    assert families == {"cat": [(0, [1, 2]), (3, [])], "dog": [(4, [])]}


def test_a_tile_keeps_proportions_and_enlarges_nothing() -> None:
    pixels = rng_for(5).integers(0, 256, (200, 400, 3), dtype=np.uint8)

    large, small = make_tile(pixels, side=100), make_tile(pixels[:20, :30], side=100)

    assert (large.width, large.height, large.pixelated) == (100, 50, False)
    assert (small.width, small.height, small.pixelated) == (30, 20, True)


def test_the_stage_needs_no_tensorflow() -> None:
    code = "import sys, stages.report; sys.exit('tensorflow' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
