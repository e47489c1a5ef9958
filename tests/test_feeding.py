"""Feeds: every picture once an epoch; transforms that go by seed, epoch and picture alone."""

from dataclasses import replace

import numpy as np
import pytest

from stages.lib.feeding import (
    DRAWS,
    NO_TRANSFORMS,
    Feed,
    TrainTransforms,
    placements,
    transform_batch,
)

ALL = TrainTransforms(True, 0.1, 15.0, 5.0, 0.1, 0.2, 0.1, 0.1)
MIDDLE = np.full((1, DRAWS), 0.5, np.float32)  # what changes nothing


def numbered(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures whose every pixel is their number, and that number as their class."""
    numbers = np.arange(count)
    pictures = np.broadcast_to(numbers[:, None, None, None], (count, 8, 8, 3))
    return pictures.astype(np.uint8), numbers


def draws(**changes: float) -> np.ndarray:
    """Return the middle of every draw, but for those named."""
    names = [
        "angle",
        "shear",
        "zoom_x",
        "zoom_y",
        "shift_x",
        "shift_y",
        "flip",
        "brightness",
        "contrast",
        "top",
        "left",
    ]
    row = MIDDLE.copy()
    for name, value in changes.items():
        row[0, names.index(name)] = value
    return row


@pytest.mark.parametrize("shuffle", [True, False])
def test_every_picture_comes_once_an_epoch_with_its_class(shuffle: bool) -> None:
    feed = Feed(*numbered(37), 8, seed=1, shuffle=shuffle)

    batches = list(feed.epoch(0))

    assert [len(batch.classes) for batch in batches] == [8, 8, 8, 8, 5]
    assert len(feed) == 5
    classes = np.concatenate([batch.classes for batch in batches])
    assert sorted(classes) == list(range(37))
    assert (list(classes) == list(range(37))) != shuffle
    for batch in batches:
        assert (batch.pictures == batch.classes[:, None, None, None]).all()
        assert (batch.weights == 1).all()


def test_epochs_and_seeds_differ_and_equal_ones_are_equal() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        feed = Feed(*numbered(37), 8, seed=seed, shuffle=True)
        return np.concatenate([batch.classes for batch in feed.epoch(epoch)]).tolist()

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


def test_a_picture_is_changed_alike_whatever_its_batch() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    numbers = np.arange(20)

    def changed(batch_size: int, epoch: int) -> np.ndarray:
        feed = Feed(pictures, numbers, batch_size, 5, shuffle=True, transforms=ALL)
        batches = list(feed.epoch(epoch))
        order = np.argsort(np.concatenate([batch.classes for batch in batches]))
        return np.concatenate([batch.pictures for batch in batches])[order]

    np.testing.assert_array_equal(changed(3, 0), changed(20, 0))
    assert (changed(3, 0) != changed(3, 1)).any(axis=(1, 2, 3)).all()


def test_two_epochs_in_a_row_hold_both_views_of_a_picture() -> None:
    rows = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 3), dtype=np.uint8)
    feed = Feed(rows, np.arange(40), 8, 1, transforms=replace(NO_TRANSFORMS, horizontal_flip=True))

    first, second, third = (
        np.concatenate([batch.pictures for batch in feed.epoch(number)]) for number in range(3)
    )

    np.testing.assert_array_equal(second, first[:, :, ::-1])
    assert not np.array_equal(second, third)
    mirrored = (first != rows).any(axis=(1, 2, 3))
    assert 10 < mirrored.sum() < 30


def test_class_weights_reach_every_picture() -> None:
    feed = Feed(*numbered(4), 2, class_weights=np.array([1, 2, 3, 4], np.float32))

    weights = np.concatenate([batch.weights for batch in feed.epoch(0)])

    assert weights.tolist() == [1, 2, 3, 4]


def test_an_error_while_a_batch_is_made_reaches_who_waits_for_it() -> None:
    feed = Feed(numbered(8)[0], np.arange(5), 4)

    with pytest.raises(IndexError):
        list(feed.epoch(0))


def test_an_epoch_may_be_left_half_way() -> None:
    feed = Feed(*numbered(200), 2)

    for batch in feed.epoch(0):
        assert batch.classes.tolist() == [0, 1]
        break


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (1, 6, 8, 3), dtype=np.uint8)


def test_the_middle_of_every_draw_changes_nothing(picture: np.ndarray) -> None:
    how = replace(ALL, horizontal_flip=False, cutout=0.0)

    np.testing.assert_array_equal(transform_batch(picture, MIDDLE, how), picture)


def test_half_of_the_pictures_are_mirrored(picture: np.ndarray) -> None:
    how = replace(NO_TRANSFORMS, horizontal_flip=True)

    mirrored, plain = (transform_batch(picture, draws(flip=at), how) for at in (0.49, 0.5))

    np.testing.assert_array_equal(mirrored, picture[:, :, ::-1])
    np.testing.assert_array_equal(plain, picture)


@pytest.mark.parametrize(("draw", "pixels"), [(0.0, -2), (0.5, 0), (0.99, 2)])
def test_a_shift_moves_whole_pixels_and_mirrors_the_border(
    picture: np.ndarray, draw: float, pixels: int
) -> None:
    how = replace(NO_TRANSFORMS, shift=0.25)

    moved = transform_batch(picture, draws(shift_x=draw), how)

    wide = np.pad(picture, ((0, 0), (0, 0), (2, 2), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(moved, wide[:, :, 2 + pixels : 10 + pixels])


def test_a_quarter_turn_turns_the_picture() -> None:
    square = np.random.default_rng(3).integers(0, 256, (1, 7, 7, 3), dtype=np.uint8)
    how = replace(NO_TRANSFORMS, rotation=90.0)

    turned = transform_batch(square, draws(angle=1.0), how)

    np.testing.assert_array_equal(turned[0], np.rot90(square[0]))


def test_zoom_and_shear_stretch_about_the_centre() -> None:
    zoom = placements(draws(zoom_x=1.0), replace(NO_TRANSFORMS, zoom=0.2), 5, 9)[0]
    shear = placements(draws(shear=1.0), replace(NO_TRANSFORMS, shear=45.0), 5, 9)[0]

    np.testing.assert_allclose(zoom @ [4, 2, 1], [4, 2])  # the centre stays
    np.testing.assert_allclose(zoom @ [5, 2, 1], [5.2, 2])
    np.testing.assert_allclose(shear @ [4, 3, 1], [5, 3])


@pytest.mark.parametrize(
    ("draw", "expected"),
    [({"brightness": 1.0}, 151), ({"contrast": 1.0}, 88), ({"contrast": 0.0}, 112)],
)
def test_brightness_adds_and_contrast_spreads(draw: dict[str, float], expected: int) -> None:
    grey = np.full((1, 4, 4, 3), 100, np.uint8)
    how = replace(NO_TRANSFORMS, brightness=0.2, contrast=0.43)

    changed = transform_batch(grey, draws(**draw), how)

    assert set(changed.ravel()) == {expected}


def test_a_cut_out_square_is_grey_and_no_larger_than_said() -> None:
    black = np.zeros((1, 8, 8, 3), np.uint8)
    how = replace(NO_TRANSFORMS, cutout=0.5)

    inside, corner = (
        transform_batch(black, draws(top=at, left=at), how)[0, :, :, 0] for at in (0.5, 0.0)
    )

    assert (inside == 128).sum() == 16
    assert (inside[2:6, 2:6] == 128).all()
    assert (corner == 128).sum() == 4


def test_grey_pictures_keep_their_one_channel() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (2, 6, 8, 1), dtype=np.uint8)

    assert transform_batch(grey, np.repeat(MIDDLE, 2, axis=0), ALL).shape == grey.shape
