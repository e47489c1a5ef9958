"""Judges what became of the data: leaks, pictures left out or lost, classes that shrank."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from stages.lib.table import SPLIT, read_table
from tools.gate_rules import HealthRules, loosened_leak_search
from tools.revisions import Metrics, Revision, fetch_output, read_file
from tools.verdicts import Verdict, reading, shown

SPLIT_TABLE = "data/split.parquet"
KEPT_BY_CLASS = "metrics/plots/classes.csv"


def judge_health(rules: HealthRules, base: Metrics | None, head: Metrics) -> list[Verdict]:
    """Return a verdict on each rule about the data as a whole; base: None without one."""
    return [
        _judge_leaks(head),
        _judge_removed(rules.removed_share, head),
        _at_least("split.smallest_train_class", rules.smallest_class, head),
        *(
            _judge_loss(name, what, rules.lost_share, base, head)
            for name, what in (
                ("download.files", "files of the source"),
                ("clean.kept", "pictures that clean keeps"),
                ("split.test", "test pictures"),
            )
            if base
        ),
    ]


def leaky_stage(metrics: Metrics) -> str:
    """Return the first stage whose metrics say that the split is leaky, "" where none does."""
    return next((name for name, held in metrics.figures.items() if held.get("leaky")), "")


def judge_leak_search(base: dict[str, Any], head: dict[str, Any]) -> list[Verdict]:
    """Return a verdict on each limit by which the head's search finds fewer near-duplicates.

    base, head: params.yaml. A split without leaks says little when nobody looked for them.
    """
    return [
        Verdict("search for leaks", None, None, None, "regression", sentence)
        for sentence in loosened_leak_search(base, head)
    ]


def judge_classes(allowed: float, changes: pd.DataFrame) -> list[Verdict]:
    """Return a verdict on each class that lost too many pictures, else one on the worst.

    allowed: share of a class. changes: as `changes_of_pictures` or `changes_of_counts` returns.
    """
    shares = (changes["had"] - changes["still"]) / changes["had"]
    failing = changes[shares > allowed]
    rows = failing if len(failing) else changes.loc[shares.nlargest(1).index]
    return [
        Verdict(
            f"pictures of {row.label}",
            int(row.had),
            int(row.still),
            allowed * int(row.had),
            "regression" if len(failing) else "ok",
            _class_sentence(row, allowed) if len(failing) else "",
        )
        for row in rows.itertuples()
    ]


def changes_of_pictures(base_split: pd.DataFrame, head_split: pd.DataFrame) -> pd.DataFrame:
    """Return a row per class of the base: label, had, still and what became of the others.

    base_split, head_split: data/split.parquet of each. still: how many of the base's pictures bear
    this label in the head too. Pictures that came anew do not make up for those that are gone.
    """
    pairs = base_split[["image_id", "label"]].drop_duplicates()
    now = head_split.drop_duplicates("image_id").set_index("image_id")["label"]
    # A picture under two labels still bears each of them.
    of_head = set(zip(head_split["image_id"], head_split["label"], strict=True))
    still = [pair in of_head for pair in zip(pairs["image_id"], pairs["label"], strict=True)]
    pairs = pairs.assign(still=still, now=pairs["image_id"].map(now).astype(object))
    rows = []
    for label, of_class in pairs.groupby("label", sort=True):
        others = of_class.loc[~of_class["still"], "now"]
        named = others.dropna().value_counts()
        fates = [f"{int(others.isna().sum()):,} missing"] if others.isna().any() else []
        fates += [f"{count:,} labelled {other} now" for other, count in named.items()]
        rows.append((label, len(of_class), int(of_class["still"].sum()), ", ".join(fates)))
    return pd.DataFrame(rows, columns=["label", "had", "still", "fate"])


def changes_of_counts(base: pd.DataFrame, head: pd.DataFrame) -> pd.DataFrame:
    """Return what `changes_of_pictures` does, from each class's number of pictures alone.

    base, head: metrics/plots/classes.csv of each.
    """
    kept = dict(zip(head["label"], head["kept"], strict=True))
    had = base[base["kept"] > 0]
    still = [
        min(int(count), int(kept.get(label, 0)))
        for label, count in zip(had["label"], had["kept"], strict=True)
    ]
    return pd.DataFrame(
        {"label": had["label"], "had": had["kept"].astype(int), "still": still, "fate": ""}
    ).reset_index(drop=True)


def kept_by_class(revision: Revision) -> pd.DataFrame | None:
    """Return label and kept of each class, None where the file is missing or not one."""
    content = read_file(revision, KEPT_BY_CLASS)
    if content is None:
        return None
    try:
        table = pd.read_csv(io.BytesIO(content), dtype={"label": "str"}, keep_default_na=False)
        return table.astype({"kept": "int64"})[["label", "kept"]]
    except (ValueError, KeyError):
        return None


def judge_data(
    rules: HealthRules, base: Revision, head: Revision, folder: Path
) -> tuple[list[Verdict], list[str]]:
    """Return the verdicts on what became of each class of the base, and notes."""
    sides = ((base, "base"), (head, "head"))
    found = [fetch_output(side, SPLIT_TABLE, folder / name) for side, name in sides]
    if found[0] and found[1]:
        before, after = (read_table(path, SPLIT) for path in found if path)
        changes = changes_of_pictures(before, after)
        return judge_classes(rules.lost_class_share, changes), []
    counts = [kept_by_class(side) for side, _ in sides]
    if counts[0] is None or counts[1] is None or not len(counts[0]):
        sentence = f"{KEPT_BY_CLASS} is missing or damaged in the base or in the head"
        return [Verdict("pictures of a class", None, None, None, "not comparable", sentence)], []
    note = "classes are compared by their number of pictures: those themselves are not at hand"
    changes = changes_of_counts(counts[0], counts[1])
    return judge_classes(rules.lost_class_share, changes), [note]


def _class_sentence(row: Any, allowed: float) -> str:
    gone = row.had - row.still
    fate = f" ({row.fate})" if row.fate else ""
    return (
        f"class {row.label} lost {gone:,} of the {row.had:,} pictures that it has in the base"
        f"{fate}: {gone / row.had:.1%}, at most {allowed:.1%} is allowed"
    )


def _judge_leaks(head: Metrics) -> Verdict:
    name, leaky = "split.leaks", leaky_stage(head)
    leaks = reading(head, name, "head")
    if leaky:
        figures: Mapping[str, Any] = head.figures.get("split", {})
        twins = figures.get("leaked_test_images", "an unknown number")
        sentence = (
            f"the split of the head leaks on purpose (metrics/{leaky}.json says leaky): {twins} of "
            f"{figures.get('test', 'its')} test pictures show the same as one in train; set "
            "split.unit to group"
        )
        value = leaks if isinstance(leaks, int | float) else None
        return Verdict(name, None, value, 0, "regression", sentence)
    if isinstance(leaks, str):
        return Verdict(name, None, None, 0, "not comparable", leaks)
    if leaks == 0:
        return Verdict(name, None, leaks, 0, "ok")
    sentence = f"{shown(leaks)} pairs show the same on two sides of the split, none may"
    return Verdict(name, None, leaks, 0, "regression", sentence)


def _judge_removed(most: float, head: Metrics) -> Verdict:
    name = "removed share"
    removed, kept = (reading(head, f"clean.{key}", "head") for key in ("removed", "kept"))
    for value in (removed, kept):
        if isinstance(value, str):
            return Verdict(name, None, None, most, "not comparable", value)
    assert not isinstance(removed, str) and not isinstance(kept, str)
    share = removed / max(removed + kept, 1)
    if share <= most:
        return Verdict(name, None, share, most, "ok")
    sentence = f"clean leaves out {shown(removed)} files, {share:.1%}; at most {most:.1%} may go"
    return Verdict(name, None, share, most, "regression", sentence)


def _at_least(name: str, least: int, head: Metrics) -> Verdict:
    value = reading(head, name, "head")
    if isinstance(value, str):
        return Verdict(name, None, None, None, "not comparable", value)
    if value >= least:
        return Verdict(name, None, value, None, "ok")
    sentence = f"{name} is {shown(value)}, and {least:,} is the least that passes"
    return Verdict(name, None, value, None, "regression", sentence)


def _judge_loss(name: str, what: str, most: float, base: Metrics, head: Metrics) -> Verdict:
    before, after = reading(base, name, "base"), reading(head, name, "head")
    problems = [side for side in (before, after) if isinstance(side, str)]
    if isinstance(before, str) or isinstance(after, str):
        return Verdict(name, None, None, None, "not comparable", "; ".join(problems))
    share = (before - after) / max(before, 1)
    if share <= most:
        return Verdict(name, before, after, most * before, "ok")
    sentence = (
        f"{share:.1%} of the {what} are gone, {shown(before)} in the base and {shown(after)} now; "
        f"at most {most:.1%} is allowed"
    )
    return Verdict(name, before, after, most * before, "regression", sentence)
