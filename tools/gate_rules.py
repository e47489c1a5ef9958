"""The rules of the gate: the gate section of params.yaml, and which revision's rules count."""

from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from stages.lib.params import STRICT, check_section
from tools.revisions import Revision, params

Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# What the search for leaks is done with, and in which direction it would find fewer.
LEAK_LIMITS = {"leak_radius": "lower", "leak_neighbours": "lower", "leak_similarity": "higher"}


@dataclass(frozen=True, config=STRICT)
class MetricRule:
    """What one metric may do: `tolerance` worse than in the base, never beyond `floor`.

    metric: stage.key, e.g. evaluate.accuracy. direction: which way is better. floor: the least
    value that passes, the largest where lower is better; None: no such limit.
    """

    metric: Annotated[str, Field(pattern=r"^\w+\.\w+$")]
    direction: Literal["higher", "lower"]
    tolerance: Amount
    floor: Annotated[float, Field(allow_inf_nan=False)] | None


@dataclass(frozen=True, config=STRICT)
class HealthRules:
    """What may happen to the data; that nothing leaks needs no rule, because nothing ever may."""

    removed_share: Share
    lost_share: Share
    lost_class_share: Share
    smallest_class: Annotated[int, Field(ge=0)]


@dataclass(frozen=True, config=STRICT)
class GateParams:
    """The gate section of params.yaml. Changes no result, so no stage depends on it."""

    metrics: Annotated[tuple[MetricRule, ...], Field(min_length=1)]
    z: Amount
    recall_tolerance: Share
    health: HealthRules


def rules_that_count(base: Revision | None, head: Revision) -> tuple[GateParams, list[str]]:
    """Return the base's rules, so that no change loosens its own gate, and what to say of it.

    Where the base has no rules the head's count.
    Raises InputError for rules that are missing in both or not valid.
    """
    of_base = params(base) if base else {}
    of_head = params(head)
    if base and "gate" in of_base:
        notes = [
            f"the head changes the rule gate.{name} ({old} → {new}); the base's counts here"
            for name, old, new in changed_rules(of_base["gate"], of_head.get("gate"))
        ]
        return check_section(GateParams, "gate", of_base, f"params.yaml of {base}"), notes
    notes = ["the base has no rules of its own (no gate section): the head's count"] if base else []
    return check_section(GateParams, "gate", of_head, f"params.yaml of {head}"), notes


def changed_rules(base: Any, head: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    """Return name, old and new value of every rule that differs, in the base's order."""
    if isinstance(base, dict) and isinstance(head, dict):
        keys = [*base, *(key for key in head if key not in base)]
        return [
            change
            for key in keys
            for change in changed_rules(base.get(key), head.get(key), f"{name}.{key}".strip("."))
        ]
    if _by_metric(base) and _by_metric(head):
        return changed_rules(
            {rule["metric"]: rule for rule in base}, {rule["metric"]: rule for rule in head}, name
        )
    return [] if base == head else [(name, base, head)]


def loosened_leak_search(base: dict[str, Any], head: dict[str, Any]) -> list[str]:
    """Return a sentence for each limit by which the head's search finds fewer leaks.

    base, head: params.yaml. A split without leaks says little when nobody looked for them.
    """
    before, after = base.get("split") or {}, head.get("split") or {}
    loosened = []
    for key, fewer in LEAK_LIMITS.items():
        old, new = before.get(key), after.get(key)
        if old is not None and (new is None or (new < old if fewer == "lower" else new > old)):
            loosened.append(f"the search for leaks is looser: split.{key} went from {old} to {new}")
    return loosened


def _by_metric(rules: Any) -> bool:
    return isinstance(rules, list) and all(
        isinstance(rule, dict) and "metric" in rule for rule in rules
    )
