"""Split: every class on every side, no group on two, and the arithmetic that checks it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from stages import clean, download, scan, split
from stages.lib.errors import InputError
from stages.lib.metrics import read_metrics
from stages.lib.table import CLEAN, SPLIT, SPLITS, read_table, write_table
from stages.split import (
    NO_FOLD,
    Params,
    assign_splits,
    count_leaked_test_images,
    count_leaking_pairs,
    count_ties_across,
    find_leaks,
    raise_on_leaks,
    require_shares,
    restore_duplicates,
    split_metrics,
    summary,
)

PARAMS = Params(
    seed=7,
    unit="group",
    val=0.2,
    test=0.1,
    n_folds=0,
    fold=0,
    small_classes="error",
)

# The sizes of each class's groups, one of them a giant now and then.
GROUP_SIZES = st.lists(
    st.lists(st.integers(1, 6) | st.sampled_from([1, 1, 40, 200]), min_size=3, max_size=30),
    min_size=2,
    max_size=4,
)
SHARES = st.sampled_from([(0.2, 0.1), (0.1, 0.1), (0.05, 0.05), (0.3, 0.3), (0.4, 0.5)])


def rows_of(classes: list[list[int]]) -> pd.DataFrame:
    """Return rows of classes c0, c1 … from the sizes of their groups."""
    rows = [
        (f"c{label}/{group}_{n}", f"c{label}", f"g{label}_{group}", "")
        for label, sizes in enumerate(classes)
        for group, size in enumerate(sizes)
        for n in range(size)
    ]
    return pd.DataFrame(rows, columns=["uri", "label", "group_id", "official_split"])


def rows_of_groups(groups: Sequence[Sequence[str]]) -> pd.DataFrame:
    """Return rows from the labels of each group's members."""
    members = [(label, f"g{n}") for n, labels in enumerate(groups) for label in labels]
    rows = pd.DataFrame(members, columns=["label", "group_id"])
    return rows.assign(official_split="", uri=[f"{n}.png" for n in range(len(rows))])


def sides_of(rows: pd.DataFrame, params: Params = PARAMS) -> pd.Series:
    """Return the side of every row."""
    return assign_splits(rows, params)[0]["split"]


def folds_of(rows: pd.DataFrame, params: Params) -> pd.Series:
    """Return the fold of every row."""
    return assign_splits(rows, params)[0]["fold"]


def by_uri(rows: pd.DataFrame, params: Params = PARAMS) -> dict[str, tuple[str, int]]:
    """Return the side and the fold of every file."""
    sides = assign_splits(rows, params)[0]
    return dict(zip(rows["uri"], zip(sides["split"], sides["fold"], strict=True), strict=True))


# --- Properties of any split --------------------------------------------------------------------

any_groups = given(GROUP_SIZES, SHARES, st.integers(0, 3))
few_examples = settings(max_examples=30, deadline=None)


@few_examples
@any_groups
def test_1_every_row_gets_one_of_the_three_sides(
    classes: list[list[int]], shares: tuple[float, float], seed: int
) -> None:
    rows = rows_of(classes)

    sides = sides_of(rows, replace(PARAMS, seed=seed, val=shares[0], test=shares[1]))

    assert list(sides.index) == list(rows.index)
    assert set(sides) == set(SPLITS)


@few_examples
@any_groups
def test_2_no_group_lies_on_two_sides(
    classes: list[list[int]], shares: tuple[float, float], seed: int
) -> None:
    rows = rows_of(classes)

    sides = sides_of(rows, replace(PARAMS, seed=seed, val=shares[0], test=shares[1]))

    assert (sides.groupby(rows["group_id"]).nunique() == 1).all()


@few_examples
@any_groups
def test_3_every_class_is_on_every_side(
    classes: list[list[int]], shares: tuple[float, float], seed: int
) -> None:
    rows = rows_of(classes)

    sides = sides_of(rows, replace(PARAMS, seed=seed, val=shares[0], test=shares[1]))

    assert (sides.groupby(rows["label"]).nunique() == 3).all()


@few_examples
@any_groups
def test_4_shares_are_within_one_group_of_their_target(
    classes: list[list[int]], shares: tuple[float, float], seed: int
) -> None:
    rows = rows_of(classes)
    targets = {"train": 1 - sum(shares), "val": shares[0], "test": shares[1]}
    # Where a share is less than the smallest group, one group is more than the share.
    large = [
        f"c{n}"
        for n, sizes in enumerate(classes)
        if min(targets.values()) * sum(sizes) >= min(sizes)
    ]
    assume(large)

    sides = sides_of(rows, replace(PARAMS, seed=seed, val=shares[0], test=shares[1]))

    for label in large:
        found = sides[rows["label"] == label].value_counts()
        sizes = classes[int(label[1:])]
        for name, share in targets.items():
            assert abs(found[name] - share * sum(sizes)) <= max(sizes)


@few_examples
@given(GROUP_SIZES, st.integers(0, 3))
def test_5_the_order_and_the_index_of_the_rows_have_no_say(
    classes: list[list[int]], seed: int
) -> None:
    rows = rows_of(classes)
    shuffled = rows.sample(frac=1, random_state=seed)

    there = by_uri(rows)

    assert there == by_uri(shuffled) == by_uri(shuffled.reset_index(drop=True))


def test_6_another_seed_gives_another_split() -> None:
    rows = rows_of([[1] * 30, [1] * 30])

    splits = [tuple(sides_of(rows, replace(PARAMS, seed=seed))) for seed in range(5)]

    assert len(set(splits)) == 5


def test_7_equal_groups_meet_their_shares_exactly() -> None:
    rows = rows_of([[1] * 50, [2] * 50])

    found = pd.crosstab(rows["label"], sides_of(rows, PARAMS))[list(SPLITS)]

    assert found.to_numpy().tolist() == [[35, 10, 5], [70, 20, 10]]


@few_examples
@given(
    st.lists(st.lists(st.sampled_from("ab"), min_size=1, max_size=3), min_size=3, max_size=10),
    st.integers(0, 3),
)
def test_8_groups_of_several_classes_lack_no_class_on_any_side_or_are_refused(
    groups: list[list[str]], seed: int
) -> None:
    rows = rows_of_groups(groups)

    try:
        sides = sides_of(rows, replace(PARAMS, seed=seed))
    except InputError:
        return

    assert (sides.groupby(rows["label"]).nunique() == 3).all()


def test_9_a_class_tied_to_others_finds_its_place_where_there_is_one() -> None:
    groups = [["a"], ["a", "b", "b"], ["b", "b", "b"], ["a", "b", "b"]]
    rows = rows_of_groups(groups)

    for seed in range(8):
        sides = sides_of(rows, replace(PARAMS, seed=seed))

        assert (sides.groupby(rows["label"]).nunique() == 3).all()


def test_10_classes_tied_so_that_no_split_serves_all_are_an_error() -> None:
    # c needs its three groups on three sides, but a and b force the first two onto one.
    groups = ["ac", "bc", "ab", "ab", "c"]
    rows = rows_of_groups(groups)

    with pytest.raises(InputError, match=r"class '[abc]' finds no place in (train|val|test)"):
        sides_of(rows, PARAMS)


# --- Too few, and official sets -----------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[1, 1], [500, 1], [7]])
def test_too_few_groups_are_an_error_that_names_the_class(sizes: list[int]) -> None:
    rows = rows_of([[1] * 10, sizes])

    with pytest.raises(InputError) as caught:
        sides_of(rows, PARAMS)

    message = str(caught.value)
    assert "every class needs at least 3 different pictures" in message
    assert f"'c1' has {len(sizes)}" in message
    assert "'c0'" not in message


def official(rows: pd.DataFrame, name: str, every: int) -> pd.DataFrame:
    """Return the rows with every n-th group of an official set."""
    numbers = rows["group_id"].str.split("_").str[1].astype(int)
    return rows.assign(official_split=rows["official_split"].where(numbers % every != 0, name))


@pytest.mark.parametrize("names", [("test",), ("val",), ("val", "test")])
def test_official_sets_stay_what_they_are_and_nothing_is_added(names: tuple[str, ...]) -> None:
    rows = rows_of([[1, 2] * 20, [1] * 40])
    for name, every in zip(names, (4, 7), strict=False):
        rows = official(rows, name, every)

    sides = sides_of(rows, PARAMS)

    for name in names:
        assert ((sides == name) == (rows["official_split"] == name)).all()
    assert set(sides) == set(SPLITS)


def test_an_official_train_set_may_give_to_val_and_test() -> None:
    rows = rows_of([[1] * 20, [1] * 20]).assign(official_split="train")

    assert set(sides_of(rows, PARAMS)) == set(SPLITS)


@pytest.mark.parametrize(
    ("given_sets", "expected"),
    [
        ((), {"train": 70, "val": 20, "test": 10}),
        (("val",), {"train": 90, "val": 100, "test": 10}),
        (("test",), {"train": 80, "val": 20, "test": 100}),
        (("val", "test"), {"train": 100, "val": 100, "test": 100}),
    ],
)
def test_shares_are_those_of_what_no_official_set_places(
    given_sets: tuple[str, ...], expected: dict[str, int]
) -> None:
    rows = rows_of([[1] * 100])
    more = [rows_of([[1] * 100]).assign(official_split=name) for name in given_sets]
    more = [
        part.assign(**{k: name + part[k] for k in ("uri", "group_id")})
        for name, part in zip(given_sets, more, strict=True)
    ]
    rows = pd.concat([rows, *more], ignore_index=True)

    assert sides_of(rows).value_counts().to_dict() == expected


def test_a_class_that_only_the_official_test_set_has_is_named() -> None:
    rows = rows_of([[1] * 20, [1] * 20, [1] * 5])
    rows = rows.assign(official_split=np.where(rows["label"] == "c2", "test", ""))
    rows = official(rows, "test", 4)

    for small in ("error", "train"):
        with pytest.raises(InputError, match="class 'c2' has pictures in an official .* alone"):
            sides_of(rows, replace(PARAMS, small_classes=small))


@pytest.mark.parametrize(("val", "test"), [(0.5, 0.5), (0.9, 0.2)])
def test_shares_that_leave_nothing_for_train_are_refused(
    project: Callable[..., Path], val: float, test: float
) -> None:
    project(split={"val": val, "test": test})

    with pytest.raises(InputError, match=f"val \\+ split.test must leave something .* got {val}"):
        split.main()


@pytest.mark.parametrize(("n_folds", "fold"), [(1, 0), (0, 1), (4, 4), (0, 3)])
def test_folds_that_do_not_exist_are_refused(n_folds: int, fold: int) -> None:
    with pytest.raises(InputError, match=f"got n_folds {n_folds} and fold {fold}"):
        require_shares(replace(PARAMS, n_folds=n_folds, fold=fold))


def test_a_fold_too_large_to_leave_anything_for_train_is_refused() -> None:
    with pytest.raises(InputError, match=r"split.1/n_folds must leave something .* 0.5 \+ 0.5"):
        require_shares(replace(PARAMS, n_folds=2, val=0.5))


# --- Folds --------------------------------------------------------------------------------------

FOLDS = [replace(PARAMS, n_folds=4, fold=fold) for fold in range(4)]


# Enough groups that a class outlasts the loss of a fold.
FOLDED_SIZES = st.lists(
    st.lists(st.integers(1, 6) | st.sampled_from([1, 1, 40, 200]), min_size=9, max_size=30),
    min_size=2,
    max_size=4,
)


@few_examples
@given(FOLDED_SIZES, st.integers(0, 3), st.integers(2, 3))
def test_11_the_test_sets_of_the_folds_are_the_whole_set_each_image_once(
    classes: list[list[int]], seed: int, n_folds: int
) -> None:
    rows = rows_of(classes)
    folds = [replace(PARAMS, seed=seed, n_folds=n_folds, fold=fold) for fold in range(n_folds)]

    sides = [assign_splits(rows, params)[0] for params in folds]

    tested = pd.concat([(side["split"] == "test").astype(int) for side in sides], axis=1)
    assert (tested.sum(axis=1) == 1).all()
    for number, side in enumerate(sides):
        assert side["fold"].equals(sides[0]["fold"])
        assert ((side["fold"] == number) == (side["split"] == "test")).all()


@few_examples
@given(FOLDED_SIZES, st.integers(0, 3), st.integers(2, 3))
def test_12_folds_divide_no_group_and_hold_every_class_in_its_share(
    classes: list[list[int]], seed: int, n_folds: int
) -> None:
    rows = rows_of(classes)

    fold = folds_of(rows, replace(PARAMS, seed=seed, n_folds=n_folds))

    assert (fold.groupby(rows["group_id"]).nunique() == 1).all()
    counts = pd.crosstab(rows["label"], fold)
    assert list(counts.columns) == list(range(n_folds))
    assert (counts > 0).all(axis=None)
    for number, sizes in enumerate(classes):
        off_target = (counts.loc[f"c{number}"] - sum(sizes) / n_folds).abs()
        assert (off_target <= max(sizes)).all()


@few_examples
@given(FOLDED_SIZES, st.integers(0, 2))
def test_13_the_rest_of_a_fold_is_divided_between_train_and_val(
    classes: list[list[int]], fold: int
) -> None:
    rows = rows_of(classes)

    sides = sides_of(rows, replace(PARAMS, n_folds=3, fold=fold))

    assert (sides.groupby(rows["group_id"]).nunique() == 1).all()
    trained = set(rows["label"][sides == "train"])
    assert trained == set(rows["label"])
    assert (sides == "val").any()


def test_14_the_order_of_the_rows_has_no_say_in_folds_and_the_seed_has() -> None:
    rows = rows_of([[1, 2, 1] * 8, [3, 1] * 9])
    shuffled = rows.sample(frac=1, random_state=3)

    assert by_uri(rows, FOLDS[1]) == by_uri(shuffled, FOLDS[1])
    assert by_uri(rows, FOLDS[1]) != by_uri(rows, replace(FOLDS[1], seed=8))


def test_15_folds_of_many_small_classes_are_equal_in_size() -> None:
    rows = rows_of([[1] * 9 for _ in range(20)])

    sizes = folds_of(rows, FOLDS[0]).value_counts()

    assert sizes.to_dict() == dict.fromkeys(range(4), 45)


def test_val_keeps_its_share_of_all_beside_a_fold() -> None:
    rows = rows_of([[1] * 100, [1] * 100])

    for params in FOLDS:
        counts = sides_of(rows, params).value_counts().to_dict()
        assert counts == {"train": 110, "val": 40, "test": 50}


def test_with_an_official_test_set_the_folds_are_those_of_val() -> None:
    rows = official(rows_of([[1] * 40, [1] * 40]), "test", 4)

    sides = [assign_splits(rows, params)[0] for params in FOLDS]

    for number, side in enumerate(sides):
        assert ((side["split"] == "test") == (rows["official_split"] == "test")).all()
        assert ((side["split"] == "val") == (side["fold"] == number)).all()
        assert (side["fold"][side["split"] == "test"] == NO_FOLD).all()


def test_with_an_official_val_set_the_folds_are_those_of_test() -> None:
    rows = official(rows_of([[1] * 40, [1] * 40]), "val", 4)

    side = assign_splits(rows, FOLDS[2])[0]

    assert ((side["split"] == "val") == (rows["official_split"] == "val")).all()
    assert ((side["split"] == "test") == (side["fold"] == 2)).all()


def test_folds_of_two_official_sets_are_refused() -> None:
    rows = official(official(rows_of([[1] * 40]), "test", 4), "val", 3)

    with pytest.raises(InputError, match="both val and test are official sets"):
        assign_splits(rows, FOLDS[0])


# --- Small classes ------------------------------------------------------------------------------

SPARING = replace(PARAMS, small_classes="train")


@pytest.mark.parametrize("params", [SPARING, replace(FOLDS[3], small_classes="train")])
def test_small_classes_go_to_train_where_asked_for(params: Params) -> None:
    rows = rows_of([[1] * 40, [3, 2], [1] * 40])

    sides, small = assign_splits(rows, params)

    assert small == ["c1"]
    c1 = rows["label"] == "c1"
    assert set(sides["split"][c1]) == {"train"}
    assert set(sides["fold"][c1]) == {NO_FOLD}
    assert (sides["split"][~c1].groupby(rows["label"]).nunique() == 3).all()


def test_a_group_that_holds_a_small_class_goes_with_it_and_may_make_another_one_small() -> None:
    rows = rows_of_groups([*["a"] * 9, "bbc", "b", "b", "c"])

    sides, small = assign_splits(rows, SPARING)

    assert small == ["b", "c"]
    assert set(sides["split"][rows["label"] != "a"]) == {"train"}


def test_classes_tied_so_that_no_split_serves_all_are_spared_as_well() -> None:
    rows = rows_of_groups(["ac", "bc", "ab", "ab", "c", *["d"] * 6])

    sides, small = assign_splits(rows, SPARING)

    assert small
    assert "d" not in small
    assert set(sides["split"][rows["label"].isin(small)]) == {"train"}


def test_where_every_class_is_small_nothing_is_left_to_test() -> None:
    with pytest.raises(InputError, match="nothing is left for val"):
        assign_splits(rows_of([[1], [1, 1]]), SPARING)


def test_small_classes_are_counted_and_named() -> None:
    rows = rows_of([[1] * 40, [3, 2]]).assign(image_id="x")
    sides, small = assign_splits(rows, SPARING)

    metrics = split_metrics(rows.assign(**sides), 0, small, SPARING)

    assert metrics["small_classes"] == 1
    line = summary(metrics, small, SPARING)
    assert line == (
        "train 33, val 8, test 4; all of 'c1' in train, too few to divide; no group on two sides"
    )


# --- Leaks --------------------------------------------------------------------------------------


def divided(*groups: tuple[str, str]) -> pd.DataFrame:
    """Return rows a0, a1, b0 … from each group's name and the sides of its members.

    A side is one letter: r is train, v val, t test.
    """
    sides = {"r": "train", "v": "val", "t": "test"}
    members = [
        (f"{name}{at}", name, sides[side], "cat", f"{name}{at}" * 4)
        for name, letters in groups
        for at, side in enumerate(letters)
    ]
    return pd.DataFrame(members, columns=["uri", "group_id", "split", "label", "image_id"])


def tied(*pairs: tuple[str, str, str]) -> pd.DataFrame:
    """Return the columns of data/duplicates.csv that split reads."""
    return pd.DataFrame(pairs, columns=["left_uri", "right_uri", "level"])


WHOLE = divided(("a", "rrr"), ("b", "vv"), ("c", "t"), ("d", "tt"), ("e", "r"))


def test_whole_groups_are_no_leak() -> None:
    leaks = find_leaks(WHOLE)

    assert list(leaks.columns) == ["group_id", "left", "right"]
    assert leaks.empty
    assert count_leaking_pairs(WHOLE) == 0
    raise_on_leaks(leaks)


@pytest.mark.parametrize("seed", range(3))
def test_each_divided_group_is_named_once_with_two_images_on_two_sides(seed: int) -> None:
    rows = divided(("a", "rrr"), ("b", "vrv"), ("c", "rtv"), ("d", "tt"))

    leaks = find_leaks(rows.sample(frac=1, random_state=seed))

    assert leaks.to_numpy().tolist() == [["b", "b0", "b1"], ["c", "c0", "c2"]]
    with pytest.raises(InputError, match=r"2 groups lie on two sides .* first b with b0 and b1;"):
        raise_on_leaks(leaks)


@pytest.mark.parametrize(
    ("groups", "pairs"),
    [
        ([("a", "rr"), ("b", "tt")], 0),
        ([("a", "rt")], 1),
        ([("a", "rrt")], 2),
        ([("a", "rrrvvt")], 3 * 2 + 3 * 1 + 2 * 1),
        ([("a", "rt"), ("b", "v"), ("c", "vvtt")], 1 + 4),
    ],
)
def test_leaking_pairs_are_those_of_one_group_on_two_sides(
    groups: list[tuple[str, str]], pairs: int
) -> None:
    rows = divided(*groups)
    members = list(rows.itertuples())

    counted = count_leaking_pairs(rows)

    by_hand = sum(
        one.group_id == other.group_id and one.split != other.split
        for one, other in combinations(members, 2)
    )
    assert counted == by_hand == pairs


@pytest.mark.parametrize(
    ("pair", "across"),
    [
        (("a0", "b0", "group"), 1),
        (("a0", "b0", "remove"), 1),
        (("b0", "a0", "group"), 1),
        (("a0", "b0", "look_alike"), 0),
        (("a0", "e0", "group"), 0),  # on the same side
        (("a0", "a1", "group"), 0),  # of one group
        (("a0", "gone", "group"), 0),  # clean left one of them out
        (("gone", "also gone", "group"), 0),
    ],
)
def test_ties_across_are_pairs_of_two_groups_on_two_sides(
    pair: tuple[str, str, str], across: int
) -> None:
    assert count_ties_across(WHOLE, tied(pair)) == across


def test_every_tie_across_is_counted() -> None:
    pairs = [(f"a{at}", right, "group") for at in range(3) for right in ("b0", "c0", "e0")]

    assert count_ties_across(WHOLE, tied(*pairs)) == 6
    assert count_ties_across(WHOLE, tied()) == 0


def test_a_pair_of_one_group_is_a_leak_and_no_tie_across() -> None:
    rows = divided(("a", "rt"))

    assert count_ties_across(rows, tied(("a0", "a1", "group"))) == 0
    assert count_leaking_pairs(rows) == 1


def test_what_crosses_the_sides_is_said() -> None:
    metrics = split_metrics(divided(("a", "rrt"), ("b", "v")), 1200, [], BY_IMAGE)

    assert (metrics["leaks"], metrics["ties_across"]) == (2, 1200)
    assert metrics["leaked_test_images"] == 1
    assert summary(metrics, [], BY_IMAGE) == (
        "train 2, val 1, test 1; 2 leaking pairs; 1,200 weak ties across, not joined by clean"
    )


# --- By image, the leaky way --------------------------------------------------------------------

BY_IMAGE = replace(PARAMS, unit="image")


def test_by_image_groups_are_divided() -> None:
    rows = rows_of([[10] * 6, [10] * 6])

    whole, torn = (sides_of(rows, params) for params in (PARAMS, BY_IMAGE))

    assert whole.groupby(rows["group_id"]).nunique().max() == 1
    assert torn.groupby(rows["group_id"]).nunique().max() == 3


def test_what_went_because_of_another_picture_comes_back() -> None:
    scan = pd.DataFrame(
        {"uri": list("abcdef"), "label": "old", "image_id": list("ABCDEF"), "official_split": ""}
    )
    kept = scan[:2].assign(label="cat", group_id="A")
    removed = pd.DataFrame(
        {
            "uri": list("cdef"),
            "label": ["cat", "dog", "cat", "cat"],
            "reason": ["near_duplicate", "label_conflict", "truncated", "too_small"],
            "group_id": ["A", "D", "", ""],
        }
    )

    together = restore_duplicates(kept, scan, removed)

    assert together["uri"].tolist() == list("abcd")
    assert together["label"].tolist() == ["cat", "cat", "cat", "dog"]
    assert together["group_id"].tolist() == ["A", "A", "A", "D"]
    assert together["image_id"].tolist() == list("ABCD")


def test_test_images_with_a_copy_in_train_are_counted_once_each() -> None:
    # Of a both test images count, of b none: only its val images lie beside them. Nor do c and d.
    rows = divided(("a", "rrtt"), ("b", "vtt"), ("c", "t"), ("d", "rv"), ("e", "vrt"))

    assert count_leaked_test_images(rows) == 3
    assert count_leaked_test_images(WHOLE) == 0


@pytest.mark.parametrize("unit", ["group", "image"])
def test_the_stage_marks_what_it_splits_by_image(
    project: Callable[..., Path],
    write_files: Callable[..., None],
    picture_file: Callable[..., bytes],
    capsys: pytest.CaptureFixture[str],
    unit: str,
) -> None:
    files = {
        f"{label}/{n}.png": picture_file(n + 100 * (label == "dog"))
        for label in ("cat", "dog")
        for n in range(12)
    }
    copies = {f"cat/{n}_copy.jpg": picture_file(n, "jpeg") for n in range(12)}
    folder = project(download={"source": "pictures"}, split={"unit": unit})
    write_files(folder / "pictures", files | copies)
    for stage in (download, scan, clean, split):
        stage.main()
    said = capsys.readouterr().out

    rows = read_table(Path("data/split.parquet"), SPLIT)
    metrics = read_metrics("split")
    assert set(rows["unit"]) == {unit}
    if unit == "group":
        assert len(rows) == 24
        assert metrics["leaks"] == 0
        assert not {"leaky", "leaked_test_images"} & set(metrics)
        assert "WARNING" not in said
    else:
        assert len(rows) == 36
        assert metrics["leaks"] > 0
        assert metrics["leaky"] is True
        assert 0 < metrics["leaked_test_images"] <= metrics["test"]
        assert "split: WARNING: split.unit is image" in said


def test_the_stage_stops_on_a_group_that_official_sets_divide(
    project: Callable[..., Path],
    write_files: Callable[..., None],
    picture_file: Callable[..., bytes],
) -> None:
    files = {
        f"{label}/{n}.png": picture_file(n + 100 * (label == "dog"))
        for label in ("cat", "dog")
        for n in range(12)
    }
    folder = project(download={"source": "pictures"})
    write_files(folder / "pictures", files)
    for stage in (download, scan, clean):
        stage.main()
    kept = read_table(Path("data/clean.parquet"), CLEAN)
    first, second = kept["uri"].iloc[[0, 1]]
    official = kept["uri"].map({first: "test"}).fillna("").astype(object)
    torn = kept["group_id"].where(kept["uri"] != second, kept["group_id"].iloc[0])
    write_table(
        Path("data/clean.parquet"), kept.assign(official_split=official, group_id=torn), CLEAN
    )

    with pytest.raises(InputError, match="1 groups lie on two sides of the split, first"):
        split.main()
    assert not Path("data/split.parquet").exists()
