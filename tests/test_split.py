"""Split: every class on every side, no group on two, and the proof that nothing leaked."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reading import as_read

from stages import split
from stages.lib.errors import InputError
from stages.lib.overrides import Overrides
from stages.lib.table import SPLITS
from stages.split import Params, assign_splits, find_leaks, fractions, refuse_leaks

PARAMS = Params(seed=7, val=0.2, test=0.1, leak_radius=10, leak_neighbours=3, leak_similarity=0.7)
NOTHING = Overrides(frozenset(), frozenset(), {}, frozenset())
Scanned = Callable[..., pd.DataFrame]

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


def split_by_uri(rows: pd.DataFrame, params: Params = PARAMS) -> dict[str, str]:
    return dict(zip(rows["uri"], assign_splits(rows, params), strict=True))


# --- Properties of any split --------------------------------------------------------------------

any_groups = given(GROUP_SIZES, SHARES, st.integers(0, 3))
few_examples = settings(max_examples=30, deadline=None)


@few_examples
@any_groups
def test_1_every_row_gets_one_of_the_three_sides(
    classes: list[list[int]], shares: tuple[float, float], seed: int
) -> None:
    rows = rows_of(classes)

    sides = assign_splits(rows, replace(PARAMS, seed=seed, val=shares[0], test=shares[1]))

    assert list(sides.index) == list(rows.index)
    assert set(sides) == set(SPLITS)


@few_examples
@any_groups
def test_2_no_group_lies_on_two_sides(
    classes: list[list[int]], shares: tuple[float, float], seed: int
) -> None:
    rows = rows_of(classes)

    sides = assign_splits(rows, replace(PARAMS, seed=seed, val=shares[0], test=shares[1]))

    assert (sides.groupby(rows["group_id"]).nunique() == 1).all()


@few_examples
@any_groups
def test_3_every_class_is_on_every_side(
    classes: list[list[int]], shares: tuple[float, float], seed: int
) -> None:
    rows = rows_of(classes)

    sides = assign_splits(rows, replace(PARAMS, seed=seed, val=shares[0], test=shares[1]))

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

    sides = assign_splits(rows, replace(PARAMS, seed=seed, val=shares[0], test=shares[1]))

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

    there = split_by_uri(rows)

    assert there == split_by_uri(shuffled) == split_by_uri(shuffled.reset_index(drop=True))


def test_6_another_seed_gives_another_split() -> None:
    rows = rows_of([[1] * 30, [1] * 30])

    splits = [tuple(assign_splits(rows, replace(PARAMS, seed=seed))) for seed in range(5)]

    assert len(set(splits)) == 5


def test_7_equal_groups_meet_their_shares_exactly() -> None:
    rows = rows_of([[1] * 50, [2] * 50])

    found = pd.crosstab(rows["label"], assign_splits(rows, PARAMS))[list(SPLITS)]

    assert found.to_numpy().tolist() == [[35, 10, 5], [70, 20, 10]]


@few_examples
@given(
    st.lists(st.lists(st.sampled_from("ab"), min_size=1, max_size=3), min_size=3, max_size=10),
    st.integers(0, 3),
)
def test_8_groups_of_several_classes_lack_no_class_on_any_side_or_are_refused(
    groups: list[list[str]], seed: int
) -> None:
    members = [(label, f"g{n}") for n, labels in enumerate(groups) for label in labels]
    rows = pd.DataFrame(members, columns=["label", "group_id"]).assign(official_split="")

    try:
        sides = assign_splits(rows, replace(PARAMS, seed=seed))
    except InputError:
        return

    assert (sides.groupby(rows["label"]).nunique() == 3).all()


def test_9_a_class_tied_to_others_finds_its_place_where_there_is_one() -> None:
    groups = [["a"], ["a", "b", "b"], ["b", "b", "b"], ["a", "b", "b"]]
    members = [(label, f"g{n}") for n, labels in enumerate(groups) for label in labels]
    rows = pd.DataFrame(members, columns=["label", "group_id"]).assign(official_split="")

    for seed in range(8):
        sides = assign_splits(rows, replace(PARAMS, seed=seed))

        assert (sides.groupby(rows["label"]).nunique() == 3).all()


def test_10_classes_tied_so_that_no_split_serves_all_are_an_error() -> None:
    # c needs its three groups on three sides, but a and b force the first two onto one.
    groups = ["ac", "bc", "ab", "ab", "c"]
    members = [(label, f"g{n}") for n, labels in enumerate(groups) for label in labels]
    rows = pd.DataFrame(members, columns=["label", "group_id"]).assign(official_split="")

    with pytest.raises(InputError, match=r"class '[abc]' finds no place in (train|val|test)"):
        assign_splits(rows, PARAMS)


# --- Too few, and official sets -----------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[1, 1], [500, 1], [7]])
def test_too_few_groups_are_an_error_that_names_the_class(sizes: list[int]) -> None:
    rows = rows_of([[1] * 10, sizes])

    with pytest.raises(InputError) as caught:
        assign_splits(rows, PARAMS)

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

    sides = assign_splits(rows, PARAMS)

    for name in names:
        assert ((sides == name) == (rows["official_split"] == name)).all()
    assert set(sides) == set(SPLITS)


def test_an_official_train_set_may_give_to_val_and_test() -> None:
    rows = rows_of([[1] * 20, [1] * 20]).assign(official_split="train")

    assert set(assign_splits(rows, PARAMS)) == set(SPLITS)


@pytest.mark.parametrize(
    ("given_sets", "expected"),
    [
        (set(), {"train": 0.7, "val": 0.2, "test": 0.1}),
        ({"val"}, {"train": 0.9, "val": 0.0, "test": 0.1}),
        ({"test"}, {"train": 0.8, "val": 0.2, "test": 0.0}),
        ({"val", "test"}, {"train": 1.0, "val": 0.0, "test": 0.0}),
    ],
)
def test_shares_of_what_no_official_set_places(
    given_sets: set[str], expected: dict[str, float]
) -> None:
    assert fractions(given_sets, PARAMS) == pytest.approx(expected)


def test_a_class_that_only_the_official_test_set_has_is_named() -> None:
    rows = rows_of([[1] * 20, [1] * 20, [1] * 5])
    rows = rows.assign(official_split=np.where(rows["label"] == "c2", "test", ""))
    rows = official(rows, "test", 4)

    with pytest.raises(InputError, match="'c2' has 0"):
        assign_splits(rows, PARAMS)


@pytest.mark.parametrize(("val", "test"), [(0.5, 0.5), (0.9, 0.2)])
def test_shares_that_leave_nothing_for_train_are_refused(
    project: Callable[..., Path], val: float, test: float
) -> None:
    project(split={"val": val, "test": test})

    with pytest.raises(InputError, match=f"must leave something for train, got {val}"):
        split.main()


# --- Leaks --------------------------------------------------------------------------------------


@pytest.fixture
def clean_split(scanned: Scanned, picture_file: Callable[..., bytes]) -> pd.DataFrame:
    """Return six different pictures, two on each side, each a group of its own."""
    rows = scanned({f"cat/{n}.png": picture_file(n) for n in range(6)})
    return rows.assign(group_id=rows["image_id"], split=["train", "val", "test"] * 2)


def leaks_in(
    rows: pd.DataFrame, overrides: Overrides = NOTHING, params: Params = PARAMS
) -> pd.DataFrame:
    """Return the leaks of a split. rows: with thumbnails as bytes."""
    return find_leaks(*as_read(rows), overrides, params)


def with_file(rows: pd.DataFrame, scanned: Scanned, data: bytes, split: str) -> pd.DataFrame:
    """Return the rows and one more, a group of its own, on the given side."""
    more = scanned({"cat/planted.png": data})
    more = more.assign(group_id="planted", split=split)
    return pd.concat([rows, more], ignore_index=True)


def test_different_pictures_are_no_leak(clean_split: pd.DataFrame) -> None:
    leaks = leaks_in(clean_split)

    assert leaks.empty
    refuse_leaks(leaks)


@pytest.mark.parametrize("side", ["val", "test"])
@pytest.mark.parametrize("kind", ["equal", "reencoded", "smaller", "mirrored", "cropped"])
def test_a_copy_on_another_side_is_found_whatever_its_group_says(
    clean_split: pd.DataFrame,
    scanned: Scanned,
    textured_picture: Callable[..., np.ndarray],
    encode: Callable[..., bytes],
    kind: str,
    side: str,
) -> None:
    picture = textured_picture(0)  # that of the first row, in train
    copies = {
        "equal": encode(picture),
        "reencoded": encode(picture, "jpeg_rough"),
        "smaller": encode(textured_picture(0, 36, 48), "jpeg"),
        "mirrored": encode(np.ascontiguousarray(picture[:, ::-1]), "jpeg"),
        "cropped": encode(np.ascontiguousarray(picture[3:-3, 4:-4])),
    }
    rows = with_file(clean_split, scanned, copies[kind], side)
    if kind == "cropped":  # this one is found among the neighbours alone
        two = rows["phash"].to_numpy()[[0, -1]]
        assert np.bitwise_count(two[0] ^ two[1]) > PARAMS.leak_radius

    leaks = leaks_in(rows)

    assert leaks[["left", "right"]].to_numpy().tolist() == [["cat/0.png", "cat/planted.png"]]
    assert leaks["similarity"].iloc[0] >= PARAMS.leak_similarity
    with pytest.raises(InputError, match=r"1 pairs .* cat/0\.png and cat/planted\.png"):
        refuse_leaks(leaks)


def test_a_copy_on_the_same_side_is_no_leak(
    clean_split: pd.DataFrame, scanned: Scanned, picture_file: Callable[..., bytes]
) -> None:
    rows = with_file(clean_split, scanned, picture_file(0, "jpeg"), "train")

    assert leaks_in(rows).empty


def test_a_torn_group_is_a_leak_even_where_the_pixels_differ(clean_split: pd.DataFrame) -> None:
    torn = clean_split.assign(group_id=["a", "a", "b", "c", "d", "e"])

    leaks = leaks_in(torn)

    assert leaks.to_numpy().tolist() == [["cat/0.png", "cat/1.png", 1.0]]


@pytest.mark.parametrize(("other", "leaks"), [("walk", 1), ("run", 0)])
def test_two_frames_of_a_clip_on_two_sides_are_a_leak(
    clean_split: pd.DataFrame, other: str, leaks: int
) -> None:
    clips = clean_split.assign(clip=["walk", other, "", "", "", ""])

    found = leaks_in(clips)

    expected = [["cat/0.png", "cat/1.png", 1.0]] * leaks
    assert found.to_numpy().tolist() == expected


def test_two_that_resemble_each_other_less_than_asked_for_are_no_leak(
    clean_split: pd.DataFrame,
    scanned: Scanned,
    textured_picture: Callable[..., np.ndarray],
    encode: Callable[..., bytes],
) -> None:
    mixed = (0.7 * textured_picture(0) + 0.3 * textured_picture(9)).astype(np.uint8)
    rows = with_file(clean_split, scanned, encode(mixed), "test")

    found = [leaks_in(rows, params=replace(PARAMS, leak_similarity=at)) for at in (0.7, 0.99)]

    assert [len(leaks) for leaks in found] == [1, 0]


def test_a_whole_group_is_no_leak(clean_split: pd.DataFrame) -> None:
    whole = clean_split.assign(group_id=["a", "b", "c", "a", "b", "c"])

    assert leaks_in(whole).empty


@pytest.mark.parametrize("swap", [False, True])
def test_a_pair_told_apart_by_a_person_is_no_leak(
    clean_split: pd.DataFrame, scanned: Scanned, picture_file: Callable[..., bytes], swap: bool
) -> None:
    rows = with_file(clean_split, scanned, picture_file(0, "jpeg"), "test")
    pair = sorted(rows["image_id"].iloc[[0, -1]])
    told = replace(NOTHING, not_duplicate=frozenset({(pair[0], pair[1])}))

    assert leaks_in(rows.iloc[:: -1 if swap else 1], told).empty
    assert len(leaks_in(rows)) == 1


def test_the_worst_leak_is_named_first() -> None:
    leaks = pd.DataFrame(
        [("a", "b", 0.91), ("c", "d", 0.99), ("e", "f", 0.95)],
        columns=["left", "right", "similarity"],
    )

    with pytest.raises(InputError, match=r"3 pairs .* first c and d \(similarity 0\.990\)"):
        refuse_leaks(leaks)
