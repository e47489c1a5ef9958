"""crossval: each picture answered once by a model that never saw it; what is run again, and when.

The folds themselves run in test_experiments.py.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from stages.lib.errors import InputError
from tools.crossval import text_lines
from tools.folds import make_plan
from tools.pooling import (
    common_class_names,
    confusion_of,
    fold_rows,
    pool,
    pooled_figures,
    require_no_official_test,
    require_rotating_test,
)

ROOT = Path(__file__).parents[1]
NAMES = ["ant", "bee"]
TRUTH = ["ant", "bee", "ant", "bee", "ant", "bee"]
ANSWERS = ["ant", "bee", "bee", "bee", "ant", "ant"]
FOLDS = [0, 1, 0, 1, 1, 0]


def table_of(fold: int) -> pd.DataFrame:
    """Predictions of one fold of TRUTH, ANSWERS and FOLDS."""
    rows = [
        {"uri": f"p{at}", "image_id": f"i{at}", "label": truth, "predicted": answer, "loss": 0.5}
        for at, (truth, answer, of) in enumerate(zip(TRUTH, ANSWERS, FOLDS, strict=True))
        if of == fold
    ]
    frame = pd.DataFrame(rows)
    return frame.assign(correct=frame["label"] == frame["predicted"], confidence=0.9)


def split_of(fold: int) -> pd.DataFrame:
    """The split in which that fold is test."""
    sides = ["test" if of == fold else "train" for of in FOLDS]
    uris = [f"p{at}" for at in range(len(FOLDS))]
    return pd.DataFrame({"uri": uris, "label": TRUTH, "fold": FOLDS, "split": sides})


def pooled() -> pd.DataFrame:
    return pool([table_of(0), table_of(1)], [split_of(0), split_of(1)])


def test_pooling_keeps_every_answer_and_the_fold_it_comes_from() -> None:
    found = pooled()

    assert found["uri"].tolist() == [f"p{at}" for at in range(6)]
    assert found["fold"].tolist() == FOLDS
    assert found["predicted"].tolist() == ANSWERS


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            lambda tables: [tables[0], pd.concat([tables[1], tables[0][:1]])],
            "p0 is answered by two",
        ),
        (lambda tables: [tables[0], tables[1][1:]], "p1 is answered by no fold"),
        (lambda tables: tables[::-1], "p0 is of another fold"),
    ],
)
def test_answers_that_do_not_make_up_one_whole_are_refused(
    spoil: Callable[[list[pd.DataFrame]], list[pd.DataFrame]], sentence: str
) -> None:
    tables = spoil([table_of(0), table_of(1)])

    with pytest.raises(InputError, match=f"{sentence}.*different runs"):
        pool(tables, [split_of(0), split_of(1)])


def test_a_picture_that_is_in_train_everywhere_needs_no_answer() -> None:
    split = pd.concat(
        [split_of(0), pd.DataFrame([{"uri": "rare", "label": "ant", "fold": -1, "split": "train"}])]
    )

    assert len(pool([table_of(0), table_of(1)], [split, split_of(1)])) == 6


def test_the_figures_are_those_of_scikit_learn_and_of_counting() -> None:
    rows = fold_rows(pooled(), NAMES, 0.95)
    figures = pooled_figures(pooled(), NAMES, rows, 0.95)

    assert rows["accuracy"].tolist() == pytest.approx([1 / 3, 1])
    assert figures["accuracy"] == pytest.approx(4 / 6)
    assert figures["accuracy_mean"] == pytest.approx(2 / 3)
    assert figures["accuracy_std"] == pytest.approx(np.std([1 / 3, 1], ddof=1))
    assert figures["macro_f1"] == pytest.approx(f1_score(TRUTH, ANSWERS, average="macro"))
    assert figures["accuracy_low"] < figures["accuracy"] < figures["accuracy_high"]
    assert figures["macro_f1_low"] < figures["macro_f1"] < figures["macro_f1_high"]
    assert confusion_of(pooled(), NAMES).tolist() == [[2, 1], [1, 2]]


def test_an_official_test_set_is_refused_before_and_after_a_fold() -> None:
    files = pd.DataFrame({"official_split": ["", "test"]})
    with pytest.raises(InputError, match="official test set"):
        require_no_official_test(files)
    with pytest.raises(InputError, match="official test set"):
        require_rotating_test(split_of(0).assign(split="val"), 0)
    require_no_official_test(pd.DataFrame({"official_split": ["", "train"]}))
    require_rotating_test(split_of(0), 0)


def test_folds_that_train_on_other_classes_are_refused() -> None:
    lacking = split_of(1).assign(label="ant")

    assert common_class_names([split_of(0), split_of(1)]) == NAMES
    with pytest.raises(InputError, match="fold 2 trains on other classes than fold 1: 'bee'"):
        common_class_names([split_of(0), lacking])


@pytest.fixture
def workspace(project: Callable[..., Path], tmp_path: Path) -> Callable[..., None]:
    """Return a function that makes params.yaml, beside dvc.yaml and what it depends on."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "a.png").write_bytes(b"a")
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/train.py").write_text("train = 1")

    def make(**sections: Any) -> None:
        project(**{"download": {"watch": "pictures"}, **sections})

    return make


def test_a_plan_has_the_same_key_only_for_the_same_code_params_and_data(
    workspace: Callable[..., None],
) -> None:
    workspace()
    key = make_plan(3, []).key
    assert make_plan(3, []).key == key

    workspace(split={"fold": 2, "n_folds": 3}, cache={"folder": "elsewhere"})
    assert make_plan(3, []).key == key, "what the folds set themselves, and what has no effect"
    workspace(report={"pairs": 3})
    assert make_plan(3, []).key == key, "folds have no report"

    others = {make_plan(3, ["train.epochs=3"]).key}
    workspace(train={"epochs": 3})
    others.add(make_plan(3, []).key)
    workspace()
    Path("pictures/b.png").write_bytes(b"b")
    others.add(make_plan(3, []).key)
    Path("pictures/b.png").unlink()
    Path("stages/train.py").write_text("train = 2")
    others.add(make_plan(3, []).key)
    assert len(others | {key}) == 5


@pytest.mark.parametrize(
    ("folds", "changes", "sentence"),
    [
        (1, [], "--folds must be at least 2, got 1"),
        (3, ["split.fold=1"], "crossval sets split.fold itself"),
        (3, ["+split.n_folds=4"], "crossval sets split.n_folds itself"),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(
    workspace: Callable[..., None], folds: int, changes: list[str], sentence: str
) -> None:
    workspace()

    with pytest.raises(InputError, match=re.escape(sentence)):
        make_plan(folds, changes)


def test_the_terminal_shows_every_fold_and_all_together() -> None:
    rows = fold_rows(pooled(), NAMES, 0.95)
    figures = pooled_figures(pooled(), NAMES, rows, 0.95)

    lines = text_lines({"figures": figures, "folds": rows.to_dict("records")})

    assert lines[0] == "  fold 1: accuracy 33.33% (1 of 3), macro F1 0.2500"
    assert lines[1] == "  fold 2: accuracy 100.00% (3 of 3), macro F1 1.0000"
    assert "accuracy 66.67% ± 47.14 points" in lines[2]
    assert "accuracy 66.67% (4 of 6; 95% interval 30.00% to 90.32%)" in lines[3]
