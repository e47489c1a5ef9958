"""tools.verdicts: pure judgement; what is no finite number never passes."""

import math
from typing import Any

import numpy as np
import pytest

from tools.gate_rules import MetricRule
from tools.noise import SamePictures
from tools.revisions import Metrics
from tools.verdicts import (
    Noise,
    class_counts,
    figures_of,
    judge_metric,
    judge_recall,
    noise_of,
    reading,
)

HIGHER = MetricRule(metric="evaluate.accuracy", direction="higher", tolerance=0.01, floor=None)
LOWER = MetricRule(metric="evaluate.loss", direction="lower", tolerance=0.01, floor=None)
SILENCE = Noise(0.0, "")


def rule(floor: float | None, direction: Any = "higher") -> MetricRule:
    return MetricRule(metric="a.b", direction=direction, tolerance=0.0, floor=floor)


@pytest.mark.parametrize(
    ("which", "base", "head", "noise", "outcome"),
    [
        (HIGHER, 0.9, 0.95, 0.0, "ok"),
        (HIGHER, 0.9, 0.9, 0.0, "ok"),
        (HIGHER, 0.9, 0.89, 0.0, "ok"),  # 0.9 - 0.89 is 0.010000000000000009
        (HIGHER, 0.9, 0.8899, 0.0, "regression"),
        (HIGHER, 0.9, 0.86, 0.05, "ok"),
        (HIGHER, 0.9, 0.84, 0.05, "regression"),
        (LOWER, 0.5, 0.4, 0.0, "ok"),
        (LOWER, 0.5, 0.51, 0.0, "ok"),
        (LOWER, 0.5, 0.52, 0.0, "regression"),
    ],
)
def test_a_metric_may_be_worse_by_its_tolerance_or_by_the_noise(
    which: MetricRule, base: float, head: float, noise: float, outcome: str
) -> None:
    assert judge_metric(which, base, head, Noise(noise, "drawn"), 2.0).outcome == outcome


@pytest.mark.parametrize(
    ("limit", "value", "outcome"),
    [
        (rule(0.5), 0.5, "ok"),
        (rule(0.5), 0.49, "regression"),
        (rule(0.5, "lower"), 0.5, "ok"),
        (rule(0.5, "lower"), 0.51, "regression"),
        (rule(None), -1e9, "ok"),
    ],
)
def test_a_floor_holds_without_a_base_and_whatever_the_noise(
    limit: MetricRule, value: float, outcome: str
) -> None:
    assert judge_metric(limit, None, value, SILENCE, 2.0).outcome == outcome
    assert judge_metric(limit, value, value, Noise(9.0, ""), 2.0).outcome == outcome


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "0.9", True, [0.9], {}])
def test_what_is_no_finite_number_is_a_sentence(value: Any) -> None:
    found = reading(Metrics({"evaluate": {"accuracy": value}}, {}), "evaluate.accuracy", "head")

    assert isinstance(found, str)
    assert "evaluate.accuracy" in found and "head" in found


@pytest.mark.parametrize(("base", "head"), [("gone", 0.9), (0.9, "gone"), ("gone", "gone")])
def test_a_sentence_on_either_side_is_not_comparable(base: Any, head: Any) -> None:
    verdict = judge_metric(HIGHER, base, head, SILENCE, 2.0)

    assert verdict.outcome == "not comparable"
    assert "gone" in verdict.sentence


def test_without_counts_the_noise_is_that_of_the_intervals() -> None:
    figures = {"macro_f1_low": 0.8, "macro_f1_high": 0.9, "confidence_level": 0.95}

    assert noise_of("macro_f1", figures, figures, None, 2.0).amount == pytest.approx(
        0.0722, abs=1e-4
    )
    assert noise_of("macro_f1", figures, {}, None, 2.0).amount == 0


@pytest.mark.parametrize(
    "counts", [{"correct": 9}, {"correct": 9, "n": 5}, {"correct": -1, "n": 5}]
)
def test_counts_that_cannot_be_loosen_nothing(counts: dict[str, int]) -> None:
    assert noise_of("accuracy", counts, {"correct": 1, "n": 1}, None, 2.0).amount == 0


def test_figures_of_the_same_pictures_are_hand_computed() -> None:
    same = SamePictures(
        labels=np.array(["a", "a", "b", "b"]),
        base=np.array(["a", "a", "b", "a"]),
        head=np.array(["a", "b", "b", "b"]),
        base_loss=np.array([0.0, 0.0, 0.0, 4.0]),
        head_loss=np.array([1.0, 1.0, 1.0, 1.0]),
        how="",
    )

    base, head = figures_of(same)

    assert base == pytest.approx({"accuracy": 0.75, "macro_f1": (0.8 + 2 / 3) / 2, "loss": 1.0})
    assert head == pytest.approx({"accuracy": 0.75, "macro_f1": (2 / 3 + 0.8) / 2, "loss": 1.0})
    assert class_counts(same) == {"a": (2, 2, 1), "b": (2, 1, 2)}


def test_every_class_that_fell_is_named_and_no_other() -> None:
    found = judge_recall({"a": (100, 90, 50), "b": (100, 90, 88), "c": (50, 50, 10)}, 0.1, 2.0)

    assert [verdict.name for verdict in found] == ["recall of a", "recall of c"]
    assert "class a fell from 0.9000 to 0.5000 (90 and 50 right of 100)" in found[0].sentence


def test_where_no_class_fell_the_worst_is_shown() -> None:
    (found,) = judge_recall({"a": (100, 90, 91), "b": (100, 90, 85)}, 0.1, 2.0)

    assert (found.name, found.outcome, found.sentence) == ("recall of b", "ok", "")


def test_a_few_mistakes_in_a_small_class_are_noise() -> None:
    assert judge_recall({"a": (5, 5, 4), "b": (500, 450, 450)}, 0.1, 2.0)[0].outcome == "ok"


def test_no_class_at_all_is_not_comparable() -> None:
    assert judge_recall({}, 0.1, 2.0)[0].outcome == "not comparable"
