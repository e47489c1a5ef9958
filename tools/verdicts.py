"""Judges figures of the head against those of the base: pure, and it fails closed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tools.gate_rules import MetricRule
from tools.noise import (
    SamePictures,
    interval_noise,
    macro_f1,
    paired_accuracy_noise,
    paired_loss_noise,
    paired_macro_f1_noise,
    share_noise,
    shared_z,
)
from tools.revisions import Metrics

Outcome = Literal["ok", "regression", "not comparable"]
Figures = Mapping[str, Any]
ROUNDING = 1e-9  # 0.9 - 0.89 is a little more than 0.01
APART_BY_CHANCE = "as separate samples"


@dataclass(frozen=True)
class Verdict:
    """One line of the gate's table; sentence: what is wrong, "" where nothing is.

    allowed: by how much the head may be worse; None where there is no base.
    """

    name: str
    base: float | None
    head: float | None
    allowed: float | None
    outcome: Outcome
    sentence: str = ""


@dataclass(frozen=True)
class Noise:
    """How much worse a figure may be by chance; how: of what that is the noise, for people."""

    amount: float
    how: str


def reading(metrics: Metrics, name: str, side: str) -> float | str:
    """Return a metric, or a sentence where there is no finite number to compare.

    name: stage.key. side: whose metrics these are, for the sentence.
    """
    stage, _, key = name.partition(".")
    if stage in metrics.broken:
        return f"metrics/{stage}.json of the {side} is no JSON object: {metrics.broken[stage]}"
    if stage not in metrics.figures:
        return f"metrics/{stage}.json is missing in the {side}, so there is no {name}"
    value = metrics.figures[stage].get(key)
    if value is None:
        return f"{name} is missing in the {side}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{name} of the {side} must be a number, found {value!r}"
    return value if math.isfinite(value) else f"{name} of the {side} must be finite, found {value}"


def judge_metric(
    rule: MetricRule, base: float | str | None, head: float | str, noise: Noise, z: float
) -> Verdict:
    """Return the verdict on one metric; base: None to judge by the floor alone."""
    if isinstance(base, str) or isinstance(head, str):
        problems = "; ".join(side for side in (base, head) if isinstance(side, str))
        known = [side if isinstance(side, int | float) else None for side in (base, head)]
        return Verdict(rule.metric, known[0], known[1], None, "not comparable", problems)
    sign = 1 if rule.direction == "higher" else -1
    if rule.floor is not None and sign * (rule.floor - head) > ROUNDING:
        where = "below the least" if sign > 0 else "above the most"
        sentence = f"{rule.metric} is {shown(head)}, {where} that passes, {shown(rule.floor)}"
        return Verdict(rule.metric, base, head, None, "regression", sentence)
    if base is None:
        return Verdict(rule.metric, None, head, None, "ok")
    allowed, worse = max(rule.tolerance, noise.amount), sign * (base - head)
    if worse - allowed <= ROUNDING:
        return Verdict(rule.metric, base, head, allowed, "ok")
    why = f"{z:g} standard errors, {noise.how}" if noise.amount > rule.tolerance else "tolerance"
    sentence = (
        f"{rule.metric} {'fell' if sign > 0 else 'rose'} from {shown(base)} to {shown(head)}, "
        f"by {shown(worse)}; at most {shown(allowed)} is allowed ({why})"
    )
    return Verdict(rule.metric, base, head, allowed, "regression", sentence)


def noise_of(name: str, base: Figures, head: Figures, same: SamePictures | None, z: float) -> Noise:
    """Return the noise of the difference of one metric of the evaluate stage.

    base, head: the stage's metrics. same: the answers to the same pictures, where they are at hand.
    A metric of which nothing tells the noise has none: its tolerance is all.
    """
    paired = {
        "accuracy": paired_accuracy_noise,
        "macro_f1": paired_macro_f1_noise,
        "loss": paired_loss_noise,
    }
    if same and name in paired:
        return Noise(paired[name](same, z), same.how)
    if name == "accuracy":
        counts = [_whole(side, "correct", "n") for side in (base, head)]
        if counts[0] and counts[1]:
            n = (counts[0][1], counts[1][1])
            how = f"{n[0]:,} and {n[1]:,} test pictures {APART_BY_CHANCE}"
            return Noise(share_noise(counts[0], counts[1], z), how)
    bounds = [
        _finite(side, f"{name}_low", f"{name}_high", "confidence_level") for side in (base, head)
    ]
    if bounds[0] and bounds[1] and bounds[0][2] == bounds[1][2]:
        left, right = bounds[0][:2], bounds[1][:2]
        amount = interval_noise((left[0], left[1]), (right[0], right[1]), bounds[0][2], z)
        return Noise(amount, f"by their intervals, {APART_BY_CHANCE}")
    return Noise(0.0, "")


def figures_of(same: SamePictures) -> tuple[dict[str, float], dict[str, float]]:
    """Return the figures of base and head on the same pictures, under evaluate's names."""
    base, head = (
        {
            "accuracy": float((answers == same.labels).mean()),
            "macro_f1": macro_f1(same.labels, answers),
            "loss": float(loss.mean()),
        }
        for answers, loss in ((same.base, same.base_loss), (same.head, same.head_loss))
    )
    return base, head


def class_counts(same: SamePictures) -> dict[str, tuple[int, int, int]]:
    """Return label to how many pictures there are, and how many base and head get right."""
    counts = {}
    for label in sorted(set(same.labels)):
        of_class = same.labels == label
        counts[str(label)] = (
            int(of_class.sum()),
            int((same.base[of_class] == label).sum()),
            int((same.head[of_class] == label).sum()),
        )
    return counts


def judge_recall(
    counts: Mapping[str, tuple[int, int, int]], tolerance: float, z: float
) -> list[Verdict]:
    """Return a verdict on each class whose recall fell too far, else one on the worst.

    counts: as `class_counts` returns. The classes share one chance of a false alarm.
    """
    if not counts:
        sentence = "there is no class of which both have test pictures"
        return [Verdict("recall of each class", None, None, None, "not comparable", sentence)]
    z_each = shared_z(z, len(counts))
    verdicts = []
    for label, (n, base, head) in counts.items():
        allowed = max(tolerance, share_noise((base, n), (head, n), z_each))
        worse = (base - head) / n
        sentence = (
            f"the recall of class {label} fell from {shown(base / n)} to {shown(head / n)} "
            f"({base} and {head} right of {n}); at most {shown(allowed)} less is allowed"
        )
        failed = worse - allowed > ROUNDING
        outcome: Outcome = "regression" if failed else "ok"
        verdicts.append(
            Verdict(f"recall of {label}", base / n, head / n, allowed, outcome, sentence * failed)
        )
    failing = [verdict for verdict in verdicts if verdict.outcome == "regression"]
    return failing or [max(verdicts, key=_excess)]


def shown(value: float) -> str:
    """Return a figure as people read it: counts whole, all else with four decimals."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _excess(verdict: Verdict) -> float:
    assert verdict.base is not None and verdict.head is not None and verdict.allowed is not None
    return verdict.base - verdict.head - verdict.allowed


def _finite(figures: Figures, *keys: str) -> tuple[float, ...] | None:
    values = [figures.get(key) for key in keys]
    if all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        return tuple(float(value) for value in values if value is not None)
    return None


def _whole(figures: Figures, *keys: str) -> tuple[int, int] | None:
    values = _finite(figures, *keys)
    return (int(values[0]), int(values[1])) if values and values[1] >= values[0] >= 0 else None
