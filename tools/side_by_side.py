"""Lays the figures of several models side by side, and says of two whether they are told apart."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from stages.lib.errors import InputError
from stages.lib.intervals import bootstrap, mcnemar, paired_difference
from tools.noise import RESAMPLES, SEED, SamePictures, macro_f1_of

ABSENT = "–"
WITHOUT_EFFECT = ("parallel", "cache")  # sections of params.yaml that change no result

Figures = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Contender:
    """One column: a model and how it came about.

    figures: metrics by stage. params: params.yaml. history: a row for every epoch of its training.
    """

    name: str
    figures: Figures
    params: Mapping[str, Any]
    history: pd.DataFrame

    @property
    def fingerprint(self) -> str:
        """What names its test set."""
        return str(self.figures["evaluate"]["test_fingerprint"])


@dataclass(frozen=True)
class Pair:
    """How the right model differs from the left one on the same pictures.

    accuracy, macro_f1: right less left, with the ends of their intervals. gained, lost: pictures
    that one alone has right. p_value: that they are right equally often; adjusted where there are
    more pairs. how: which pictures.
    """

    left: str
    right: str
    accuracy: tuple[float, float, float]
    macro_f1: tuple[float, float, float]
    gained: int
    lost: int
    p_value: float
    confidence: float
    how: str

    @property
    def verdict(self) -> str:
        """Say in words whether the right one is better."""
        if self.p_value >= 1 - self.confidence:
            return "not told apart"
        return "better" if self.gained > self.lost else "worse"


def require_test_figures(contender: Contender) -> None:
    """Raise InputError where a model has no finite test figure."""
    evaluate = contender.figures.get("evaluate", {})
    for key in ("accuracy", "accuracy_low", "accuracy_high", "n", "correct"):
        value = evaluate.get(key)
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise InputError(
                f"metrics/evaluate.json of {contender.name} has no finite {key} (got {value!r}); "
                "run `dvc repro` there and commit what it writes"
            )
    if not isinstance(evaluate.get("test_fingerprint"), str):
        raise InputError(
            f"metrics/evaluate.json of {contender.name} has no test_fingerprint, so nobody knows "
            "which pictures its figure is of; run `dvc repro` there and commit what it writes"
        )


def pair_up(left: str, right: str, same: SamePictures, confidence: float) -> Pair:
    """Return the difference of two models from their answers to the same pictures."""
    of_left, of_right = same.base == same.labels, same.head == same.labels
    gained, lost = int((of_right & ~of_left).sum()), int((of_left & ~of_right).sum())
    return Pair(
        left,
        right,
        paired_difference(of_left, of_right, confidence),
        macro_f1_difference(same, confidence),
        gained,
        lost,
        mcnemar(lost, gained),
        confidence,
        same.how,
    )


def macro_f1_difference(same: SamePictures, confidence: float) -> tuple[float, float, float]:
    """Return right less left macro F1 with its interval, by resampling the pictures."""
    triples = np.stack([same.labels, same.base, same.head], axis=1)
    kinds, counts = np.unique(triples, axis=0, return_counts=True)
    left, right = macro_f1_of(kinds[:, 0], kinds[:, 1]), macro_f1_of(kinds[:, 0], kinds[:, 2])

    def difference(drawn: Any) -> Any:
        return right(drawn) - left(drawn)

    low, high = bootstrap(counts, difference, confidence, RESAMPLES, SEED)
    return float(difference(counts[None])[0]), low, high


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values adjusted for their number (S. Holm, Scandinavian Journal of Statistics 6,
    1979).
    """
    adjusted, reached = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(np.argsort(p_values, kind="stable")):
        reached = max(reached, min((len(p_values) - rank) * p_values[at], 1.0))
        adjusted[at] = reached
    return adjusted


def table_rows(contenders: Sequence[Contender]) -> list[tuple[str, list[str]]]:
    """Return the figures as text, a row for each that one of them has: its name and its cells."""
    rows = [(name, [write(one) for one in contenders]) for name, write in ROWS.items()]
    return [(name, cells) for name, cells in rows if set(cells) != {ABSENT}]


def changed_params(contenders: Sequence[Contender]) -> list[tuple[str, list[str]]]:
    """Return the params that are not the same everywhere: their name and what each has."""
    flat = [_flat(one.params) for one in contenders]
    names = sorted({name for params in flat for name in params})
    rows = [(name, [params.get(name, ABSENT) for params in flat]) for name in names]
    return [(name, cells) for name, cells in rows if len(set(cells)) > 1]


def train_seconds(figures: Figures) -> float | None:
    """Return how long training took; None where train_timing.json is of another run.

    DVC does not own that file, so a model that comes back from its cache brings none along: epochs
    and pictures must fit the speed that it names.
    """
    timing, train = figures.get("train_timing", {}), figures.get("train", {})
    pictures = figures.get("augment", {}).get("train", 0)
    seconds, speed = timing.get("seconds", 0), timing.get("images_per_second", 0)
    expected = train.get("epochs", 0) * pictures
    # seconds are rounded to tenths
    fits = expected and abs(seconds * speed - expected) <= 0.1 * speed + seconds
    return float(seconds) if fits else None


def _flat(params: Mapping[str, Any], before: str = "") -> dict[str, str]:
    found = {}
    for key, value in params.items():
        if not before and key in WITHOUT_EFFECT:
            continue
        if isinstance(value, Mapping) and value:
            found.update(_flat(value, f"{before}{key}."))
        else:
            plain = value if isinstance(value, str) else json.dumps(value, default=str)
            found[f"{before}{key}"] = plain
    return found


def _number(value: Any, form: str) -> str:
    """Return a number as text; what is none, or not finite, as it is."""
    if value is None:
        return ABSENT
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return str(value)
    return format(int(value) if form.endswith("d") else value, form)


def _metric(stage: str, key: str, form: str) -> Callable[[Contender], str]:
    def write(one: Contender) -> str:
        return _number(one.figures.get(stage, {}).get(key), form)

    return write


def _interval(key: str, form: str) -> Callable[[Contender], str]:
    def write(one: Contender) -> str:
        figures = one.figures["evaluate"]
        value, low, high = (figures.get(f"{key}{end}") for end in ("", "_low", "_high"))
        bounds = f" ({_number(low, form)} to {_number(high, form)})"
        return _number(value, form) + ("" if None in (value, low, high) else bounds)

    return write


def _leaky(one: Contender) -> str:
    return "LEAKY SPLIT, do not trust" if one.figures["evaluate"].get("leaky") else ABSENT


def _seconds(one: Contender) -> str:
    seconds = train_seconds(one.figures)
    return ABSENT if seconds is None else f"{seconds:,.1f} s"


def _megabytes(one: Contender) -> str:
    size = one.figures.get("export", {}).get("bytes")
    return ABSENT if size is None else f"{size / 1e6:,.1f} MB"


ROWS: dict[str, Callable[[Contender], str]] = {
    "warning": _leaky,
    "test accuracy": _interval("accuracy", ".2%"),
    "right": lambda one: (
        f"{one.figures['evaluate']['correct']:,} of {one.figures['evaluate']['n']:,}"
    ),
    "macro F1": _interval("macro_f1", ".4f"),
    "balanced accuracy": _metric("evaluate", "balanced_accuracy", ".2%"),
    "loss": _metric("evaluate", "loss", ".4f"),
    "calibration error": _metric("evaluate", "expected_calibration_error", ".4f"),
    "train accuracy": _metric("evaluate", "train_accuracy", ".2%"),
    "val accuracy": _metric("train", "val_accuracy", ".2%"),
    "parameters": _metric("train", "parameters", ",d"),
    "exported model": _megabytes,
    "epochs": _metric("train", "epochs", "d"),
    "best epoch": _metric("train", "best_epoch", "d"),
    "training time": _seconds,
    "training pictures": _metric("augment", "train", ",d"),
    "leaks": _metric("split", "leaks", "d"),
    "test set": lambda one: one.fingerprint,
}
