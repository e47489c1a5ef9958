"""The rules of the gate: the gate section of params.yaml, and which revision's rules count."""

from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from stages.lib.params import STRICT, check_section
from tools.revisions import Revision, differences, params

Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# What clean's search for duplicates is done with, and in which direction it would find fewer: of a
# switch, false is lower.
SEARCH_LIMITS = {
    "hash_radius": "lower",
    "neighbours": "lower",
    "mirrored": "lower",
    "rotations": "lower",
    "group_similarity": "higher",
}


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
            f"the head changes the rule {name} ({old} → {new}); the base's counts here"
            for name, old, new in differences(of_base["gate"], of_head.get("gate"), "gate")
        ]
        return check_section(GateParams, "gate", of_base, f"params.yaml of {base}"), notes
    notes = ["the base has no rules of its own (no gate section): the head's count"] if base else []
    return check_section(GateParams, "gate", of_head, f"params.yaml of {head}"), notes


def loosened_leak_search(base: dict[str, Any], head: dict[str, Any]) -> list[str]:
    """Return a sentence for each limit by which the head's search finds fewer near-duplicates.

    base, head: params.yaml. A split without leaks says little when nobody looked for them: split
    keeps together what clean has found.
    """
    before, after = base.get("clean") or {}, head.get("clean") or {}
    loosened = []
    for key, fewer in SEARCH_LIMITS.items():
        old, new = before.get(key), after.get(key)
        if not isinstance(old, int | float) or old == new:
            continue
        if not isinstance(new, int | float) or (new < old) == (fewer == "lower"):
            loosened.append(f"the search for leaks is looser: clean.{key} went from {old} to {new}")
    return loosened
