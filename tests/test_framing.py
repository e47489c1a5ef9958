"""Framing: bars of one colour go, plain backgrounds stay."""

from collections.abc import Callable

import numpy as np
import pytest

from stages.lib.framing import WIDEST, without_frame

Texture = Callable[..., np.ndarray]


def framed(picture: np.ndarray, sides: tuple[int, int, int, int], value: int) -> np.ndarray:
    """Return a picture with plain lines added: top, bottom, left, right."""
    top, bottom, left, right = sides
    return np.pad(picture, ((top, bottom), (left, right), (0, 0)), constant_values=value)


@pytest.mark.parametrize("value", [0, 128, 255])
@pytest.mark.parametrize(
    "sides", [(5, 5, 5, 5), (1, 1, 1, 1), (3, 8, 2, 6), (9, 9, 0, 0), (0, 0, 7, 7)]
)
def test_a_frame_or_a_pair_of_bars_is_cut_away(
    textured_picture: Texture, sides: tuple[int, int, int, int], value: int
) -> None:
    # Far from the frame's colour everywhere, so that every line inside tells itself from it.
    picture = (textured_picture(1) * 0.35 + (0 if value >= 128 else 150)).astype(np.uint8)

    assert np.array_equal(without_frame(framed(picture, sides, value)), picture)


@pytest.mark.parametrize("sides", [(6, 0, 0, 0), (0, 6, 0, 0), (0, 0, 6, 0), (0, 0, 0, 6)])
def test_a_bar_on_one_side_alone_stays(
    textured_picture: Texture, sides: tuple[int, int, int, int]
) -> None:
    picture = framed(textured_picture(1), sides, 255)

    assert without_frame(picture).shape == picture.shape


def test_bars_of_two_colours_stay(textured_picture: Texture) -> None:
    picture = framed(textured_picture(1), (6, 0, 0, 0), 255)
    picture = framed(picture, (0, 6, 0, 0), 0)

    assert without_frame(picture).shape == picture.shape


def test_a_thing_before_a_plain_background_is_not_cut() -> None:
    picture = np.full((64, 64, 3), 250, np.uint8)
    rows, columns = np.ogrid[:64, :64]
    picture[(rows - 32) ** 2 + (columns - 32) ** 2 < 20**2] = (200, 30, 30)

    assert without_frame(picture).shape == picture.shape


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 2), (3, 50)])
def test_the_smallest_and_the_plainest_pictures_come_back_whole(shape: tuple[int, int]) -> None:
    picture = np.full((*shape, 3), 255, np.uint8)

    assert without_frame(picture).shape == picture.shape


def test_nothing_wider_than_the_limit_is_taken_for_a_frame(textured_picture: Texture) -> None:
    picture = framed(textured_picture(1), (60, 60, 0, 0), 255)
    assert WIDEST * len(picture) < 60

    assert without_frame(picture).shape == picture.shape


def test_what_compression_leaves_of_a_frame_is_still_a_frame(textured_picture: Texture) -> None:
    picture = framed(textured_picture(1), (6, 6, 6, 6), 240)
    noise = np.random.default_rng(0).integers(-9, 10, picture.shape)

    inside = without_frame(np.clip(picture + noise, 0, 255).astype(np.uint8))

    assert inside.shape == textured_picture(1).shape
