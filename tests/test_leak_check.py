"""leak_check: the words say what was checked, what was found and what nobody can know."""

import pandas as pd

from stages.lib.leak_check import check_sentence, leak_warning, search_metrics
from stages.lib.table import ACROSS

NONE = (
    "no near-duplicates found across the split by a second search (the model's features propose, "
    "pixels decide); people and objects are known only by the groups you gave"
)


def pairs_of(*similarities: float, test: str = "a.png") -> pd.DataFrame:
    rows = [
        {
            "test_uri": test,
            "other_uri": f"{at}.png",
            "other_split": "train",
            "test_id": "a",
            "other_id": str(at),
            "test_label": "cup",
            "other_label": "mug",
            "similarity": similarity,
            "mirrored": False,
            "detail": 0.99,
            "background": 0.0,
            "level": "group",
        }
        for at, similarity in enumerate(similarities)
    ]
    return pd.DataFrame(rows, columns=list(ACROSS.columns))


def test_nothing_found_is_said_with_what_was_checked() -> None:
    counts = search_metrics(pairs_of(), 0)

    assert counts == {
        "near_duplicates_across": 0,
        "test_images_with_near_duplicate": 0,
        "test_images_not_compared": 0,
    }
    assert check_sentence({"n": 9, **counts}) == NONE


def test_images_that_could_not_be_compared_are_counted() -> None:
    sentence = check_sentence({"n": 2000, **search_metrics(pairs_of(), 1200)})

    assert sentence == (
        f"{NONE}; 1,200 of 2,000 test images could not be compared: too flat, dark or small"
    )


def test_without_a_search_none_is_claimed() -> None:
    assert check_sentence({"n": 9}) == (
        "no second search for near-duplicates across the split was made "
        "(evaluate.compare_with_train); people and objects are known only by the groups you gave"
    )


def test_a_warning_names_the_most_similar_pair_and_the_remedy() -> None:
    pairs = pairs_of(0.8, 0.91, 0.75)

    text = leak_warning({"n": 40, **search_metrics(pairs, 0)}, pairs, leaky=False)

    assert text.startswith(
        "1 of 40 test images has a near-duplicate in train or val, 3 pairs in all, by a second "
        "search (the model's features propose, pixels decide); "
    )
    assert "a.png (cup) and 1.png (mug, train), similarity 0.91; " in text
    assert "data/near_duplicates_across.csv names them all" in text
    for remedy in ("clean.group_similarity", "download.clip_pattern", "not_duplicate"):
        assert remedy in text


def test_of_a_leaky_split_the_remedy_is_another_split() -> None:
    pairs = pd.concat([pairs_of(0.8), pairs_of(0.9, test="b.png")])

    text = leak_warning({"n": 40, **search_metrics(pairs, 0)}, pairs, leaky=True)

    assert text.startswith("2 of 40 test images have near-duplicates in train or val, 2 pairs")
    assert text.endswith("; set split.unit: group")
