"""audit: labels changed on purpose come out first, and its lines are ones that overrides take."""

import html
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.lib.errors import InputError
from stages.lib.overrides import read_overrides
from stages.lib.table import SPLIT, write_table
from tools import audit
from tools.confident_learning import (
    NONE,
    confidence_thresholds,
    confident_classes,
    confident_joint,
    doubtful_labels,
    noise_estimate,
)
from tools.crossval import FOLDER, POOLED
from tools.out_of_fold import fold_by_fold, from_crossval

# Six pictures of two classes. Thresholds: (0.9 + 0.8 + 0.1) / 3 = 0.6 and (0.9 + 0.7 + 0.2) / 3.
LABELS = np.array([0, 0, 0, 1, 1, 1])
OF_FIRST = np.array([0.9, 0.8, 0.1, 0.1, 0.3, 0.8])
PROBABILITIES = np.stack([OF_FIRST, 1 - OF_FIRST], axis=1)
NAMES = ["ant", "bee", "cat"]
HOSTILE = '</script><img src=x onerror=alert(1)>, "b"'


def test_the_joint_of_six_pictures_is_that_of_counting() -> None:
    assert confidence_thresholds(LABELS, PROBABILITIES) == pytest.approx([0.6, 0.6])
    assert confident_joint(LABELS, PROBABILITIES).tolist() == [[2, 1], [1, 2]]
    assert noise_estimate(LABELS, PROBABILITIES) == pytest.approx(2 / 6)

    doubts = doubtful_labels(LABELS, PROBABILITIES)

    assert doubts.rows.tolist() == [2, 5], "margins 0.1 - 0.9 and 0.2 - 0.8"
    assert doubts.suggested.tolist() == [1, 0]
    assert doubts.margin == pytest.approx([-0.8, -0.6])


def test_a_picture_of_which_nobody_is_confident_is_in_no_doubt() -> None:
    probabilities = np.vstack([PROBABILITIES, [0.45, 0.55]])
    labels = np.append(LABELS, 0)

    assert confident_classes(labels, probabilities)[-1] == NONE
    assert 6 not in doubtful_labels(labels, probabilities).rows


def test_a_label_that_is_the_likeliest_class_is_in_no_doubt() -> None:
    # A class of which models are never sure: its threshold is low, and others reach it.
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.6, 0.4], [0.99, 0.01], [0.7, 0.3], [0.65, 0.35]])

    assert confident_classes(labels, probabilities)[0] == 1
    assert 0 not in doubtful_labels(labels, probabilities).rows


def test_a_class_without_pictures_is_suggested_for_none() -> None:
    probabilities = np.column_stack([PROBABILITIES * 0.4, np.full(6, 0.6)])

    assert confidence_thresholds(LABELS, probabilities)[2] == np.inf
    assert 2 not in doubtful_labels(LABELS, probabilities).suggested


def test_sound_labels_are_in_no_doubt_and_an_empty_answer_is_fine() -> None:
    labels = np.array([0, 1] * 5)
    probabilities = np.where(np.eye(2)[labels] == 1, 0.97, 0.03)

    doubts = doubtful_labels(labels, probabilities)

    assert len(doubts.rows) == len(doubts.margin) == 0
    assert noise_estimate(labels, probabilities) == 0


def blobs(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of three classes apart from each other, their labels, and pairs as groups."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), 60)
    features = rng.normal(size=(180, 8)) + 4 * np.eye(8)[labels]
    return features.astype(np.float32), labels, np.repeat(np.arange(90).astype(object), 2)


def test_flipped_labels_are_found_by_regressions_on_features() -> None:
    features, labels, groups = blobs(1)
    flipped = np.arange(0, 180, 15)
    wrong = labels.copy()
    wrong[flipped] = (wrong[flipped] + 1) % 3

    doubts = doubtful_labels(wrong, fold_by_fold(features, wrong, groups))

    found = set(doubts.rows) & set(flipped)
    assert len(found) >= 0.9 * len(flipped), "recall"
    assert len(found) >= 0.8 * len(doubts.rows), "precision"
    at = [list(doubts.rows).index(row) for row in found]
    assert (doubts.suggested[at] == labels[doubts.rows[at]]).mean() >= 0.9


def test_a_group_is_never_asked_about_itself() -> None:
    # Noise that only the twin of each picture shares: who has seen the twin knows the label.
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1], 40).repeat(2)
    features = rng.normal(size=(80, 300)).repeat(2, axis=0).astype(np.float32)
    twins, alone = np.arange(80).repeat(2).astype(object), np.arange(160).astype(object)

    honest = fold_by_fold(features, labels, twins).argmax(axis=1) == labels
    leaky = fold_by_fold(features, labels, alone).argmax(axis=1) == labels

    assert leaky.mean() > 0.9
    assert honest.mean() < 0.7


def test_a_class_of_one_group_is_refused() -> None:
    features, labels, groups = blobs(1)
    labels[:2] = 3
    with pytest.raises(InputError, match="one group of pictures alone"):
        fold_by_fold(features, labels, groups)


# --- the command ---------------------------------------------------------------------------------

Run = Callable[..., str]


@pytest.fixture
def run(project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, picture_file: Any) -> Run:
    """Return a function that audits 30 pictures, three of which are labelled wrongly (p0 to p2),
    after a cross-validation whose models know better, and returns the page.
    """
    project()
    truth = [NAMES[at % 3] for at in range(30)]
    labels = [NAMES[(at + 1) % 3] if at < 3 else label for at, label in enumerate(truth)]
    probabilities = np.where(np.eye(3)[[NAMES.index(name) for name in truth]] == 1, 0.9, 0.05)
    probabilities[0] = [0.98, 0.01, 0.01]
    rows = pd.DataFrame(
        {
            "uri": [f"data/raw/p{at}.png" for at in range(30)],
            "image_id": [f"{at:064x}" for at in range(30)],
            "label": labels,
        }
    )
    split = rows.assign(group_id=rows["uri"], split="test", fold=0, unit="group")
    for at in range(30):
        Path("data/raw").mkdir(parents=True, exist_ok=True)
        Path(rows["uri"][at]).write_bytes(picture_file(at))
    write_table(Path("data/split.parquet"), split, SPLIT)
    answers = rows.assign(predicted=truth, confidence=0.9, loss=0.1, correct=True, fold=0)
    answers = answers.assign(probabilities=list(probabilities.astype(np.float32)))
    write_table(FOLDER / "predictions.parquet", answers, POOLED)
    content = {"labels": NAMES, "folds": [{}, {}]}
    (FOLDER / "crossval.json").write_text(json.dumps(content))

    def audited(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["audit", *arguments])
        audit.main()
        return (audit.AUDIT / "index.html").read_text(encoding="utf-8")

    return audited


def test_wrong_labels_come_first_with_the_class_that_they_look_like(run: Run) -> None:
    page = run()

    table = pd.read_csv(audit.AUDIT / "doubts.csv")
    assert table["uri"].tolist() == [f"data/raw/p{at}.png" for at in range(3)]
    assert table["suggested"].tolist() == NAMES
    assert table["rank"].tolist() == [1, 2, 3]
    assert table["margin"].tolist() == pytest.approx([-0.97, -0.85, -0.85])
    assert re.findall(r'class="card" aria-label="data/raw/(p\d+)', page) == ["p0", "p1", "p2"]
    assert "a cross-validation over 2 folds" in page


def test_the_lines_are_ones_that_overrides_take(run: Run) -> None:
    run()

    decided = read_overrides(audit.AUDIT / "overrides.csv")

    assert decided.relabel == {f"{at:064x}": NAMES[at] for at in range(3)}


def test_what_the_buttons_stand_for_are_lines_that_overrides_take(run: Run, tmp_path: Path) -> None:
    page = run()

    buttons = re.findall(
        r'data-action="(\w+)" data-id="(\w+)" data-value="([^"]*)" data-note="([^"]*)"', page
    )
    of_first = [button for button in buttons if button[1] == f"{0:064x}"]
    assert [(action, value) for action, _, value, _ in of_first] == [
        ("relabel", "ant"),
        ("relabel", "bee"),
        ("relabel", ""),
        ("drop", ""),
    ]
    for action, image_id, value, note in of_first:
        if action == "drop" or value:
            path = tmp_path / "lines.csv"
            line = ",".join([image_id, action, value, html.unescape(note)])
            path.write_text(f"image_id,action,value,note\n{line}\n")
            read_overrides(path)


def test_a_label_that_a_person_decided_on_is_left_out(run: Run) -> None:
    header = Path("overrides.csv").read_text()
    Path("overrides.csv").write_text(f"{header}{1:064x},relabel,cat,looked at\n")

    run()
    assert pd.read_csv(audit.AUDIT / "doubts.csv")["uri"].tolist() == [
        "data/raw/p0.png",
        "data/raw/p2.png",
    ]
    run("--all")
    assert len(pd.read_csv(audit.AUDIT / "doubts.csv")) == 3


def test_the_page_shows_as_many_as_asked_for_and_the_table_all(run: Run) -> None:
    page = run("--limit", "1")

    assert page.count('class="card"') == 1
    assert "1 of 3 shown" in page
    assert len(pd.read_csv(audit.AUDIT / "doubts.csv")) == 3


def test_the_page_needs_nothing_from_elsewhere_and_equal_input_gives_equal_bytes(run: Run) -> None:
    page = run()

    assert not re.search(r"(?i)https?:|url\(|@import|<iframe|fetch\(|XMLHttp", page)
    assert all(link.startswith("data:") for link in re.findall(r'(?:src|href)="([^"]*)', page))
    assert run() == page


def test_labels_and_paths_are_escaped(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    table = audit.doubts_table

    def hostile(*arguments: Any) -> pd.DataFrame:
        return table(*arguments).assign(label=HOSTILE, suggested=HOSTILE)

    monkeypatch.setattr(audit, "doubts_table", hostile)
    page = run()

    assert "<img src=x" not in page
    assert page.count("</script>") == 1
    lines = pd.read_csv(audit.AUDIT / "overrides.csv")
    assert (lines["value"] == HOSTILE).all()
    assert read_overrides(audit.AUDIT / "overrides.csv").relabel[f"{0:064x}"] == HOSTILE


@pytest.mark.parametrize(
    ("change", "named"),
    [({"label": "cat"}, "p0.png"), ({"image_id": "f" * 64}, "p0.png"), ({"uri": "new"}, "p0.png")],
)
def test_a_cross_validation_of_other_data_is_refused(
    run: Run, change: dict[str, str], named: str
) -> None:
    split = pd.read_parquet("data/split.parquet")
    row = split["uri"] == "data/raw/p0.png"
    for column, value in change.items():
        split.loc[row, column] = value

    with pytest.raises(InputError, match=f"is of other data: data/raw/{named}.*run `python"):
        from_crossval(split)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--limit", "0"), "--limit must be at least 1"),
        (("--source", "crossval", "--backbone", "MobileNetV2"), "--backbone is for --source"),
    ],
)
def test_arguments_without_sense_are_refused(
    run: Run, arguments: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        run(*arguments)


def test_without_a_cross_validation_the_error_says_what_to_do(run: Run) -> None:
    (FOLDER / "crossval.json").unlink()

    with pytest.raises(InputError, match="run `python -m tools.crossval`, or take --source"):
        run("--source", "crossval")
