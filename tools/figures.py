"""Judges the metrics of the head against the base's, the test figures on the same pictures."""

import io
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from stages.lib.errors import InputError
from tools.gate_rules import GateParams, MetricRule
from tools.noise import SamePictures
from tools.revisions import Metrics, Revision, read_file
from tools.same_pictures import of_one_test_set, of_the_heads_test_set
from tools.verdicts import (
    Noise,
    Verdict,
    class_counts,
    figures_of,
    judge_metric,
    judge_recall,
    noise_of,
    reading,
)

PER_CLASS = "metrics/plots/per_class.csv"
NO_NOISE = Noise(0.0, "")
REMEDY = (
    "make the base's model available (`dvc push` there, or a remote that holds it), or look at the "
    "report and merge past the gate by hand: the next change is then compared with this test set"
)


@dataclass(frozen=True)
class Tests:
    """How the test figures of base and head can be compared.

    same: the answers of both to the same pictures, where they are at hand. new_figures: they stand
    in for the metric files, whose test sets differ. problem: why they cannot be compared at all.
    """

    same: SamePictures | None = None
    new_figures: bool = False
    problem: str = ""


def compare_tests(
    base: Revision, head: Revision, before: Metrics, after: Metrics, folder: Path
) -> Tests:
    """Return how to compare the test figures; folder: for what is fetched from DVC."""
    prints = [side.figures.get("evaluate", {}).get("test_fingerprint") for side in (before, after)]
    if not all(isinstance(found, str) and found for found in prints):
        return Tests(problem="a side does not name its test set (evaluate.test_fingerprint)")
    if prints[0] == prints[1]:
        return Tests(of_one_test_set(base, head, folder))
    try:
        return Tests(of_the_heads_test_set(base, head, folder), new_figures=True)
    except InputError as error:
        return Tests(
            problem=f"the test set is another one ({prints[0]} → {prints[1]}), and the base's "
            f"model cannot answer the new one: {error}; {REMEDY}"
        )


def judge_metrics(
    rules: GateParams, before: Metrics | None, after: Metrics, tests: Tests
) -> list[Verdict]:
    """Return a verdict on each metric that has a rule."""
    verdicts = []
    for rule in rules.metrics:
        head = reading(after, rule.metric, "head")
        base = reading(before, rule.metric, "base") if before else None
        alone = judge_metric(rule, None, head, NO_NOISE, rules.z)
        if alone.outcome == "regression" and not isinstance(base, str):
            verdicts.append(replace(alone, base=base))
        elif before is None or isinstance(base, str) or isinstance(head, str):
            verdicts.append(judge_metric(rule, base, head, NO_NOISE, rules.z))
        elif rule.metric.startswith("evaluate.") and (tests.problem or tests.new_figures):
            verdicts.append(_judge_anew(rule, rules.z, alone, tests))
        else:
            stage, _, key = rule.metric.partition(".")
            left, right = before.figures[stage], after.figures[stage]
            same = tests.same if stage == "evaluate" else None
            noise = noise_of(key, left, right, same, rules.z)
            verdicts.append(judge_metric(rule, base, head, noise, rules.z))
    return verdicts


def judge_class_recall(
    rules: GateParams, base: Revision, head: Revision, tests: Tests
) -> list[Verdict]:
    """Return the verdicts on the recall of the classes, where the test figures compare at all."""
    if tests.problem:
        return []
    if tests.same:
        counts = class_counts(tests.same)
    else:
        before, after = _per_class(base), _per_class(head)
        counts = {
            label: (n, before[label][1], right)
            for label, (n, right) in after.items()
            if label in before and before[label][0] == n > 0
        }
    return judge_recall(counts, rules.recall_tolerance, rules.z)


def _judge_anew(rule: MetricRule, z: float, alone: Verdict, tests: Tests) -> Verdict:
    """Return the verdict on a test figure whose test sets differ; alone: that of its floor."""
    key = rule.metric.partition(".")[2]
    figures = figures_of(tests.same) if tests.same else ({}, {})
    if key not in figures[0]:
        other = f"{rule.metric}: the test sets differ, and it cannot be taken anew"
        return replace(alone, outcome="not comparable", sentence=tests.problem or other)
    noise = noise_of(key, *figures, tests.same, z)
    return judge_metric(replace(rule, floor=None), figures[0][key], figures[1][key], noise, z)


def _per_class(revision: Revision) -> dict[str, tuple[int, int]]:
    """Return label to how many test pictures and how many right; empty without a sound file."""
    try:
        table = pd.read_csv(
            io.BytesIO(read_file(revision, PER_CLASS) or b""),
            dtype={"label": "str"},
            keep_default_na=False,
        ).astype({"n": "int64", "correct": "int64"})
        rows = zip(table["label"], table["n"], table["correct"], strict=True)
        return {label: (int(n), int(correct)) for label, n, correct in rows}
    except (ValueError, KeyError):
        return {}
