"""second_search: a near-duplicate across the split is found by its pixels; look-alikes are not."""

from collections.abc import Callable

import cv2
import numpy as np
import pandas as pd
import pytest
import simplejpeg
from numpy.typing import NDArray

from stages.lib.overrides import Overrides
from stages.lib.second_search import Side, find_across
from stages.lib.table import ACROSS

Picture = NDArray[np.uint8]
NO_OVERRIDES = Overrides(frozenset(), frozenset(), {}, frozenset())
SIDE = 64


def drawing(seed: int) -> Picture:
    """Return an image like no other: shapes over a textured ground."""
    rng = np.random.default_rng(seed)
    spots = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
    image = cv2.resize(spots, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    for _ in range(6):
        center = rng.integers(8, SIDE - 8, 2).tolist()
        color = rng.integers(0, 256, 3).tolist()
        cv2.circle(image, center, int(rng.integers(3, 9)), color, -1, cv2.LINE_AA)
    return np.asarray(image, np.uint8)


def look_alike(seed: int, marks: int, size: int) -> Picture:
    """Return one of a kind: the same drawing for all, with small marks of its own."""
    rng = np.random.default_rng(seed)
    image = drawing(999).copy()
    for _ in range(marks):
        center = rng.integers(10, SIDE - 10, 2).tolist()
        cv2.circle(image, center, size, rng.integers(0, 256, 3).tolist(), -1, cv2.LINE_AA)
    return image


def compressed(image: Picture, quality: int) -> Picture:
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=quality)
    return np.asarray(simplejpeg.decode_jpeg(data, colorspace="RGB"), np.uint8)


def reencoded(image: Picture) -> Picture:
    """Return a copy after a scaling and a JPEG encoding at another quality."""
    small = cv2.resize(image, (SIDE * 3 // 4, SIDE * 3 // 4), interpolation=cv2.INTER_AREA)
    pixels = compressed(np.asarray(small, np.uint8), 60)
    return np.asarray(cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC), np.uint8)


def side_of(split: str, images: list[Picture], children: int = 0, gray: bool = False) -> Side:
    """Return a split; its last `children` rows are augmented images."""
    array = np.stack(images)
    if gray:
        array = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None] for image in array])
    rows = np.arange(len(images))
    index = pd.DataFrame(
        {
            "split": split,
            "row": rows,
            "uri": [f"{split}/{row:02}.png" for row in rows],
            "image_id": [f"{split}{row:02}".ljust(64, "0") for row in rows],
            "label": "cup",
            "parent_id": np.where(rows >= len(rows) - children, "parent", ""),
        }
    )
    return Side(array, index)


def everything(test: Side, other: Side) -> NDArray[np.int64]:
    """Return as nearest to each test image every original of the other split."""
    originals = np.flatnonzero(other.index["parent_id"] == "")
    return np.tile(originals, (len(test.index), 1))


def search(
    test: Side,
    *others: Side,
    not_comparable: frozenset[str] = frozenset(),
    overrides: Overrides = NO_OVERRIDES,
) -> pd.DataFrame:
    nearest = [everything(test, other) for other in others]
    return find_across(test, others, nearest, not_comparable, overrides)


@pytest.fixture
def test_side() -> Side:
    return side_of("test", [drawing(seed) for seed in range(8)])


def train_with(*copies: Picture, **options: int) -> Side:
    return side_of("train", [*(drawing(100 + seed) for seed in range(16)), *copies], **options)


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize(
    ("change", "mirrored"), [(reencoded, False), (lambda image: reencoded(image[:, ::-1]), True)]
)
def test_a_reencoded_copy_is_found_and_named(
    change: Callable[[Picture], Picture], mirrored: bool, gray: bool
) -> None:
    test = side_of("test", [drawing(seed) for seed in range(8)], gray=gray)
    copies = [drawing(100 + seed) for seed in range(16)] + [change(drawing(3))]
    val = side_of("val", [drawing(200 + seed) for seed in range(4)], gray=gray)

    found = search(test, side_of("train", copies, gray=gray), val)

    assert list(found.columns) == list(ACROSS.columns)
    (pair,) = found.to_dict("records")
    assert (pair["test_uri"], pair["other_uri"]) == ("test/03.png", "train/16.png")
    assert (pair["other_split"], pair["mirrored"]) == ("train", mirrored)
    assert pair["similarity"] > 0.85 and pair["detail"] > 0.95


def test_a_copy_in_val_is_found_too(test_side: Side) -> None:
    val = side_of("val", [drawing(200), reencoded(drawing(5))])

    found = search(test_side, train_with(), val)

    assert found[["test_uri", "other_uri", "other_split"]].to_numpy().tolist() == [
        ["test/05.png", "val/01.png", "val"]
    ]


def test_different_images_are_no_near_duplicates(test_side: Side) -> None:
    assert search(test_side, train_with()).empty


# Marks and their size: many large ones differ in the detail itself, one small one hardly does, so
# that only the comparison with the rest of the set can tell.
@pytest.mark.parametrize(("marks", "size"), [(6, 4), (2, 3), (1, 2)])
@pytest.mark.parametrize("gray", [False, True])
def test_among_look_alikes_of_one_template_only_a_copy_is_found(
    marks: int, size: int, gray: bool
) -> None:
    test = side_of("test", [look_alike(seed, marks, size) for seed in range(12)], gray=gray)
    kind = [look_alike(100 + seed, marks, size) for seed in range(40)]
    copy = compressed(look_alike(7, marks, size), 90)

    assert search(test, side_of("train", kind, gray=gray)).empty
    found = search(test, side_of("train", [*kind, copy], gray=gray))
    assert found[["test_uri", "other_uri"]].to_numpy().tolist() == [["test/07.png", "train/40.png"]]


def test_only_what_is_proposed_is_compared(test_side: Side) -> None:
    train = train_with(reencoded(drawing(3)))
    nearest = np.tile([0, -1], (len(test_side.index), 1))

    assert find_across(test_side, [train], [nearest], frozenset(), NO_OVERRIDES).empty


def test_images_that_are_not_comparable_and_pairs_told_apart_are_left_out(
    test_side: Side,
) -> None:
    train = train_with(reencoded(drawing(3)))
    ids = tuple(sorted((test_side.index["image_id"][3], train.index["image_id"][16])))
    apart = Overrides(frozenset(), frozenset(), {}, frozenset({(ids[0], ids[1])}))

    assert len(search(test_side, train)) == 1
    assert search(test_side, train, not_comparable=frozenset({"test/03.png"})).empty
    assert search(test_side, train, not_comparable=frozenset({"train/16.png"})).empty
    assert search(test_side, train, overrides=apart).empty


def test_augmented_images_are_not_compared(test_side: Side) -> None:
    train = train_with(reencoded(drawing(3)), children=1)

    assert search(test_side, train).empty


def test_the_order_of_the_rows_does_not_affect_the_result(test_side: Side) -> None:
    copies = [reencoded(drawing(3)), reencoded(drawing(6))]
    rest = [drawing(100 + seed) for seed in range(16)]
    found = search(test_side, side_of("train", [*rest, *copies]))
    front = search(test_side, side_of("train", [*copies, *rest]))

    for table in (found, front):
        assert sorted(table["test_uri"]) == ["test/03.png", "test/06.png"]
    columns = ["similarity", "detail", "level"]
    by_uri = (
        table.sort_values("test_uri")[columns].to_numpy().tolist() for table in (found, front)
    )
    assert next(by_uri) == next(by_uri)
