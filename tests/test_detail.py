"""What two detail images say of each other: copies agree in every part, other things do not."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stages.lib.detail import (
    DETAIL_SIDE,
    NO_AGREEMENT,
    Agreement,
    compare_details,
    encode_detail,
    local_band,
)
from stages.lib.images import Picture
from stages.lib.registration import MIRRORED

STRAIGHT = np.array([[1, 0, 0], [0, 1, 0]], np.float32)


def scene(seed: int, height: int = 160, width: int = 200) -> Picture:
    """Return an image with texture of every scale, another one for every seed."""
    random = np.random.default_rng(seed)
    layers = [
        cv2.resize(random.random((side, side, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
        / np.log2(side)
        for side in (4, 9, 20, 45, 90)
    ]
    total = np.sum(layers, axis=0)
    return np.ascontiguousarray((total - total.min()) / np.ptp(total) * 255).astype(np.uint8)


def agreement(
    one: Picture, other: Picture, turn: int = 0, warp: NDArray[np.float32] = STRAIGHT
) -> Agreement:
    return compare_details(encode_detail(one), encode_detail(other), turn, warp)


def test_a_detail_image_is_squeezed_to_its_side_and_never_enlarged() -> None:
    large = cv2.imdecode(np.frombuffer(encode_detail(scene(1)), np.uint8), cv2.IMREAD_COLOR)
    small = cv2.imdecode(
        np.frombuffer(encode_detail(scene(1, 40, 200)), np.uint8), cv2.IMREAD_COLOR
    )
    assert large is not None and small is not None
    assert large.shape == (DETAIL_SIDE, DETAIL_SIDE, 3)
    assert small.shape == (40, DETAIL_SIDE, 3)


def test_an_image_agrees_with_itself_in_everything() -> None:
    found = agreement(scene(1), scene(1))

    assert found.side == DETAIL_SIDE
    assert found.correlation == pytest.approx(np.ones(4), abs=1e-3)
    assert found.energy == pytest.approx(np.zeros(4), abs=1e-3)
    assert (found.differing, found.inside) == (0, 0)
    assert found.color == pytest.approx(1, abs=1e-3)
    assert (found.color_error, found.tone) == pytest.approx((0, 0), abs=0.05)


def test_two_scenes_agree_in_nothing() -> None:
    found = agreement(scene(1), scene(2))

    assert found.correlation[:3].max() < 0.5
    assert found.median < 0.4
    assert found.differing > 0.4


@pytest.mark.parametrize("turn", [1, 2, 3, MIRRORED, MIRRORED + 1])
def test_a_turned_copy_agrees_once_it_is_turned_back(turn: int) -> None:
    # The right one, mirrored and then turned, is the left one; so turn the left one back.
    original = scene(3, 128, 128)
    right = np.rot90(original, -(turn % MIRRORED))
    right = right[:, ::-1] if turn >= MIRRORED else right

    assert agreement(original, np.ascontiguousarray(right), turn).correlation[1] > 0.99
    assert agreement(original, np.ascontiguousarray(right), 0).correlation[1] < 0.5


def test_a_rough_place_is_refined() -> None:
    rough = np.array([[1.02, 0, 0.6], [0, 0.99, -0.5]], np.float32)

    assert agreement(scene(1), scene(1), warp=rough).correlation[1] > 0.99


def test_a_missing_piece_lies_inside() -> None:
    other = scene(1)
    other[60:100, 80:130] = 128
    found = agreement(scene(1), other)

    assert 0 < found.inside == found.differing < 0.3
    assert found.median > 0.9


@pytest.mark.parametrize("place", [slice(0, 24), slice(-24, None)])
def test_a_caption_is_explained_and_left_out(place: slice) -> None:
    other = scene(1)
    other[place] = 0
    found = agreement(scene(1), other)

    assert found.inside == 0
    assert found.correlation[1] > 0.99


def test_rotated_corners_are_no_difference() -> None:
    turned = cv2.warpAffine(scene(1), cv2.getRotationMatrix2D((100, 80), 4, 1), (200, 160))
    cos, sin = np.cos(np.radians(4)), np.sin(np.radians(4))
    warp = np.array([[cos, sin, 0], [-sin, cos, 0]], np.float32)
    found = agreement(scene(1), np.asarray(turned, np.uint8), warp=warp)

    assert found.correlation[1] > 0.95
    assert found.inside < 0.02


def test_another_color_shows_and_gray_does_not() -> None:
    repainted, gray = scene(1), scene(1)
    repainted[60:100, 80:130, 0] //= 3
    gray[:] = gray.mean(axis=2, keepdims=True)

    assert agreement(scene(1), repainted).color_error > 12
    assert agreement(scene(1), gray).color == 1
    assert agreement(scene(1), scene(1)[:, :, ::-1].copy()).color < 0.5


def test_tone_is_what_a_second_light_changes() -> None:
    ramp = np.linspace(0.8, 1.1, 200)[None, :, None]
    lit = np.clip(scene(1) * ramp, 0, 255).astype(np.uint8)
    buffer = cv2.imencode(".jpg", scene(1), [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
    saved_again = np.asarray(cv2.imdecode(buffer, cv2.IMREAD_COLOR), np.uint8)

    assert agreement(scene(1), lit).tone > 5
    assert agreement(scene(1), saved_again).tone < 2.5


def test_blur_shows_as_lost_energy() -> None:
    blurred = cv2.GaussianBlur(scene(1), (0, 0), 3)
    found = agreement(scene(1), np.asarray(blurred, np.uint8))

    assert (np.diff(found.energy) > 0).all()  # the finest band lost most
    assert found.energy[0] < -0.5


def test_without_overlap_nothing_agrees() -> None:
    far = np.array([[1, 0, 40], [0, 1, 0]], np.float32)

    assert agreement(scene(1), scene(1), warp=far).correlation == pytest.approx(np.zeros(4))


def test_the_compared_band_is_one_that_the_image_holds() -> None:
    assert [local_band(side) for side in (128, 72, 71, 40)] == [1, 1, 2, 2]


def test_no_agreement_says_that_there_is_no_detail() -> None:
    assert NO_AGREEMENT.side == 0
