"""Says in words what was checked for leaks across the split, and what was found."""

from typing import Any

import pandas as pd

TABLE = "data/near_duplicates_across.csv"
LIMIT_OF_GROUPS = "people and objects are known only by the groups you gave"


def search_metrics(pairs: pd.DataFrame, not_compared: int) -> dict[str, int]:
    """Return the counts of the second search.

    pairs: columns of `table.ACROSS`. not_compared: test images in which it can see nothing.
    """
    return {
        "near_duplicates_across": len(pairs),
        "test_images_with_near_duplicate": int(pairs["test_uri"].nunique()),
        "test_images_not_compared": not_compared,
    }


def check_sentence(evaluate: dict[str, Any]) -> str:
    """Return what the second search found, and what no search can know.

    evaluate: the metrics of that stage; without the counts of `search_metrics` no search was made.
    """
    if "near_duplicates_across" not in evaluate:
        return (
            "no second search for near-duplicates across the split was made "
            f"(evaluate.compare_with_train); {LIMIT_OF_GROUPS}"
        )
    pairs, images = (
        evaluate[name] for name in ("near_duplicates_across", "test_images_with_near_duplicate")
    )
    blind = evaluate["test_images_not_compared"]
    unseen = (
        f"; {blind:,} of {evaluate['n']:,} test images could not be compared: too flat, dark or "
        "small"
        if blind
        else ""
    )
    if pairs:
        found = (
            f"{images:,} of {evaluate['n']:,} test images "
            f"{'has a near-duplicate' if images == 1 else 'have near-duplicates'} in train or val, "
            f"{pairs:,} {'pair' if pairs == 1 else 'pairs'} in all, by a second search"
        )
    else:
        found = "no near-duplicates found across the split by a second search"
    how = "(the model's features propose, pixels decide)"
    return f"{found} {how}; {LIMIT_OF_GROUPS}{unseen}"


def leak_warning(evaluate: dict[str, Any], pairs: pd.DataFrame, leaky: bool) -> str:
    """Return what was found with the most similar pair, and the remedy.

    pairs: columns of `table.ACROSS`, at least one row. leaky: the split was made by image.
    """
    first = pairs.sort_values(
        ["similarity", "test_uri", "other_uri"], ascending=[False, True, True]
    ).iloc[0]
    example = (
        f"e.g. {first['test_uri']} ({first['test_label']}) and {first['other_uri']} "
        f"({first['other_label']}, {first['other_split']}), similarity {first['similarity']:.2f}; "
        f"{TABLE} names them all"
    )
    remedy = (
        "set split.unit: group"
        if leaky
        else "the test figure may be too high: lower clean.group_similarity, or name what belongs "
        "together with download.clip_pattern; where the two are different things, write a "
        "not_duplicate line to overrides.csv"
    )
    return f"{check_sentence(evaluate)}; {example}; {remedy}"
