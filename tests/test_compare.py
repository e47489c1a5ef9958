"""compare: figures side by side, pairs on the same pictures, and no comparison of what differs.

Two real experiments are compared in test_experiments.py.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from stages.lib.errors import InputError
from tools import compare
from tools.noise import SamePictures
from tools.revisions import Revision
from tools.side_by_side import (
    ABSENT,
    Contender,
    changed_params,
    holm,
    macro_f1_difference,
    pair_up,
    require_test_figures,
    table_rows,
    train_seconds,
)

EVALUATE = {
    "accuracy": 0.9,
    "accuracy_low": 0.826,
    "accuracy_high": 0.945,
    "n": 100,
    "correct": 90,
    "macro_f1": 0.88,
    "test_fingerprint": "aa",
}


def contender(name: str = "one", **evaluate: Any) -> Contender:
    figures = {"evaluate": {**EVALUATE, **evaluate}, "train": {"parameters": 1234567}}
    history = pd.DataFrame({"epoch": [1, 2], "val_accuracy": [0.5, 0.8], "val_loss": [2.0, 1.0]})
    return Contender(name, figures, {"train": {"epochs": 2, "seed": 7}}, history)


def answers(right_by_left: str, right_by_right: str) -> SamePictures:
    """Answers to pictures of two classes; `1` marks those that a model has right."""
    labels = np.array(["ant", "bee"] * 50)[: len(right_by_left)]
    other = np.where(labels == "ant", "bee", "ant")
    left, right = (
        np.where(np.array(list(marks)) == "1", labels, other)
        for marks in (right_by_left, right_by_right)
    )
    loss = np.ones(len(labels))
    return SamePictures(labels, left, right, loss, loss, "on the same pictures")


def test_a_pair_counts_the_pictures_that_one_alone_has_right() -> None:
    same = answers("1100110011" * 4, "1111111110" * 4)

    pair = pair_up("left", "right", same, 0.95)

    assert (pair.gained, pair.lost) == (16, 4)
    assert pair.accuracy[0] == pytest.approx(12 / 40)
    assert pair.accuracy[1] < pair.accuracy[0] < pair.accuracy[2]
    assert pair.p_value == pytest.approx(0.0118179, abs=1e-6), "binomial test of 4 in 20"
    assert pair.verdict == "better"


@pytest.mark.parametrize(
    ("left", "right", "verdict"),
    [
        ("1" * 40, "0" * 10 + "1" * 30, "worse"),
        ("0" * 10 + "1" * 30, "1" * 40, "better"),
        ("1" * 38 + "00", "1" * 40, "not told apart"),
        ("1" * 40, "1" * 40, "not told apart"),
    ],
)
def test_the_verdict_is_careful(left: str, right: str, verdict: str) -> None:
    assert pair_up("left", "right", answers(left, right), 0.95).verdict == verdict


def test_the_difference_of_macro_f1_is_that_of_scikit_learn() -> None:
    same = answers("1100110011" * 4, "1110101110" * 4)
    left, right = (
        f1_score(same.labels, found, average="macro") for found in (same.base, same.head)
    )

    difference, low, high = macro_f1_difference(same, 0.95)

    assert difference == pytest.approx(right - left)
    assert low < difference < high


def test_holms_adjustment_is_the_published_one() -> None:
    # 0.01 * 4, 0.013 * 3, 0.02 * 2, 0.05: each no smaller than the one before
    assert holm([0.05, 0.01, 0.02, 0.013]) == pytest.approx([0.05, 0.04, 0.04, 0.04])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_figure_that_one_has_makes_a_row_and_what_nobody_has_makes_none() -> None:
    rows = dict(table_rows([contender(), contender("other", loss=0.3)]))

    assert rows["test accuracy"][0] == "90.00% (82.60% to 94.50%)"
    assert rows["right"] == ["90 of 100"] * 2
    assert rows["macro F1"][0] == "0.8800", "no interval in older metrics"
    assert rows["loss"] == [ABSENT, "0.3000"]
    assert rows["parameters"][0] == "1,234,567"
    assert "calibration error" not in rows
    assert "warning" not in rows


def test_a_figure_that_is_no_finite_number_is_shown_as_it_is() -> None:
    rows = dict(table_rows([contender(loss=float("nan"), balanced_accuracy="none")]))

    assert rows["loss"] == ["nan"]
    assert rows["balanced accuracy"] == ["none"]


def test_a_leaky_split_is_marked() -> None:
    rows = dict(table_rows([contender(), contender("by file", leaky=True)]))

    assert rows["warning"] == [ABSENT, "LEAKY SPLIT, do not trust"]


def test_only_params_that_differ_are_shown_and_none_without_effect() -> None:
    left, right = contender(), contender()
    more = {"train": {"epochs": 3, "seed": 7, "options": {"width": 8}}, "parallel": {"workers": 3}}
    right = Contender("right", right.figures, more, right.history)

    assert changed_params([left, right]) == [
        ("train.epochs", ["2", "3"]),
        ("train.options.width", [ABSENT, "8"]),
    ]


def test_a_training_time_of_another_run_is_not_shown() -> None:
    figures: dict[str, dict[str, Any]] = {
        "train": {"epochs": 10},
        "augment": {"train": 320},
        "train_timing": {"seconds": 7.3, "images_per_second": 438.4},
    }

    assert train_seconds(figures) == 7.3
    assert train_seconds({**figures, "train": {"epochs": 20}}) is None
    assert train_seconds({**figures, "augment": {"train": 64}}) is None
    assert train_seconds({}) is None


@pytest.mark.parametrize("value", [None, float("nan"), "90 %"])
def test_a_model_without_a_test_figure_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match="of one has no finite accuracy .*run `dvc repro`"):
        require_test_figures(contender(accuracy=value))


def test_a_figure_of_nobody_knows_which_pictures_is_refused() -> None:
    with pytest.raises(InputError, match="has no test_fingerprint"):
        require_test_figures(contender(test_fingerprint=None))


# --- the command ---------------------------------------------------------------------------------

Command = Callable[..., int]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Return a function that runs compare on revisions given by name, and the exit status."""
    monkeypatch.chdir(tmp_path)
    known: dict[str, Contender] = {}

    def bring(left: Revision, right: Revision, folder: Path) -> SamePictures | None:
        if "lost" in (left.name, right.name):
            return None
        return answers("1" * 38 + "00", "0" * 12 + "1" * 28)

    monkeypatch.setattr(compare, "resolve", lambda name: Revision(name, "c0ffee0" * 5))
    monkeypatch.setattr(compare, "read_contender", lambda revision: known[revision.name])
    monkeypatch.setattr(compare, "of_one_test_set", bring)

    def run(*arguments: str, **fingerprints: str) -> int:
        for name, fingerprint in fingerprints.items():
            known[name] = contender(name, test_fingerprint=fingerprint)
        monkeypatch.setattr(sys, "argv", ["compare", *arguments])
        try:
            compare.main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return run


def test_different_test_sets_end_with_status_2_and_a_sentence(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("main", "other", main="aa", other="bb") == 2

    said = capsys.readouterr()
    assert said.out == ""
    assert "main was tested on aa, other on bb" in said.err
    assert "--re-evaluate" in said.err


def test_a_single_revision_is_held_against_the_workspace(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("main", main="aa", workspace="aa") == 0

    said = capsys.readouterr().out
    assert re.match(r" +main +workspace\n", said)
    assert "workspace against main: worse; on the same pictures" in said
    assert "2 newly right, 12 newly wrong" in said


def test_the_others_are_held_against_the_first_and_p_values_adjusted(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    command("a", "b", "c", a="aa", b="aa", c="aa")

    said = capsys.readouterr().out
    assert re.findall(r"^(\w) against (\w):", said, re.MULTILINE) == [("b", "a"), ("c", "a")]
    assert said.count("adjusted for 2 pairs (Holm)") == 2


def test_without_predictions_the_intervals_are_all_there_is(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("a", "lost", a="aa", lost="aa") == 0

    said = capsys.readouterr().out
    assert "90.00% (82.60% to 94.50%)" in said
    assert "lost against a: the predictions of both are not in DVC's cache" in said
    assert "McNemar" not in said


def test_re_evaluation_that_nobody_can_take_ends_with_status_2(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(left: Revision, right: Revision, folder: Path) -> SamePictures:
        raise InputError("only 3 of 100 test pictures are new to the base's model")

    monkeypatch.setattr(compare, "of_the_heads_test_set", refuse)

    assert command("a", "--re-evaluate", a="bb", workspace="aa") == 2

    assert "not comparable: only 3 of 100 test pictures" in capsys.readouterr().err


def test_re_evaluation_says_that_the_table_is_no_comparison(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    same = answers("1" * 30, "1" * 30)
    monkeypatch.setattr(compare, "of_the_heads_test_set", lambda *_: same)

    assert command("a", "--re-evaluate", a="bb", workspace="aa") == 0

    said = capsys.readouterr().out
    assert "in the table each has its own" in said
    assert "workspace against a: not told apart" in said


def test_markdown_and_page_say_what_the_terminal_says(command: Command) -> None:
    command(
        "a|b", "c", "--markdown", "out/t.md", "--html", "out/p.html", **{"a|b": "aa", "c": "aa"}
    )

    text, page = Path("out/t.md").read_text(), Path("out/p.html").read_text()
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert table[0] == r"|  | a\|b | c |"
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
    for said in ("90.00% (82.60% to 94.50%)", "2 newly right, 12 newly wrong"):
        assert said in text
        assert said in page
    assert page.count("<polyline") == 4, "two charts of two models"
    assert not re.search(r"(?i)https?:|url\(|@import|<script", page)


def test_a_name_cannot_break_out_of_the_page(command: Command) -> None:
    hostile = "<img src=x onerror=alert(1)>"

    command(hostile, "c", "--html", "p.html", **{hostile: "aa", "c": "aa"})

    page = Path("p.html").read_text()
    assert "<img" not in page
    assert "&lt;img" in page
