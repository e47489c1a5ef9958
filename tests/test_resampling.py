"""The resize with remembered weights is Pillow's, bit for bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stages.lib import resampling
from stages.lib.resampling import resize_to_square

SIDE = 32


def by_pillow(grey: np.ndarray) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(grey))
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def test_the_pinned_pillow_is_the_one_that_it_follows() -> None:
    assert resampling._agrees(SIDE)


@given(height=st.integers(1, 560), width=st.integers(1, 560), seed=st.integers(0, 99))
def test_noise_of_any_size_is_resized_as_pillow_does(height: int, width: int, seed: int) -> None:
    grey = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)

    np.testing.assert_array_equal(resize_to_square(grey, SIDE), by_pillow(grey))


@pytest.mark.parametrize("short", range(64, 129, 8))
@pytest.mark.parametrize("ratio", [1, 1.25, 4 / 3, 1.5, 16 / 9, 2, 3])
def test_the_sizes_of_working_pictures_either_way_up(short: int, ratio: float) -> None:
    grey = np.random.default_rng(short).integers(0, 256, (short, round(short * ratio)))
    grey = grey.astype(np.uint8)

    for view in (grey, grey.T, grey[:, ::-1]):
        np.testing.assert_array_equal(resize_to_square(view, SIDE), by_pillow(view))


@pytest.mark.parametrize("width", range(SIDE, 140, 4))
def test_the_order_of_rows_and_columns_changes_where_pillows_does(width: int) -> None:
    for height in range(2 * width - SIDE - 1, 2 * width - SIDE + 3):
        grey = np.random.default_rng(width).integers(0, 256, (height, width), dtype=np.uint8)
        np.testing.assert_array_equal(resize_to_square(grey, SIDE), by_pillow(grey))


def test_hard_edges_do_not_run_over() -> None:
    edges = np.zeros((100, 130), np.uint8)
    edges[::2], edges[:, 60:] = 255, 255

    np.testing.assert_array_equal(resize_to_square(edges, SIDE), by_pillow(edges))


def test_another_pillow_than_expected_resizes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "_agrees", lambda side: False)
    monkeypatch.setattr(resampling, "_by_weights", lambda *_: pytest.fail("used"))
    grey = np.arange(10_000, dtype=np.uint32).reshape(100, 100).astype(np.uint8)

    np.testing.assert_array_equal(resize_to_square(grey, SIDE), by_pillow(grey))
