"""Hashes: equal content is equal, perceptual hashes are the library's, flat pictures stand out."""

from collections.abc import Callable

import imagehash
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stages.lib.hashing import (
    fingerprint,
    is_flat,
    perceptual_hash,
    perceptual_hashes,
    sha256_hex,
)
from stages.lib.images import to_grey


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_equal_bytes_and_only_they_have_equal_ids(one: bytes, other: bytes) -> None:
    assert (sha256_hex(one) == sha256_hex(other)) == (one == other)


def test_an_id_is_the_sha256_of_the_bytes() -> None:
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

    assert sha256_hex(b"abc") == expected


@pytest.mark.parametrize(("height", "width"), [(48, 64), (8, 8), (128, 20), (33, 31)])
@pytest.mark.parametrize("seed", range(5))
def test_a_perceptual_hash_is_that_of_the_library(
    textured_picture: Callable[..., np.ndarray], seed: int, height: int, width: int
) -> None:
    grey = to_grey(textured_picture(seed, height, width))

    found = f"{perceptual_hash(grey):016x}"

    assert found == str(imagehash.phash(Image.fromarray(grey)))


@pytest.mark.parametrize("seed", range(5))
def test_a_mirrored_view_hashes_like_a_mirrored_copy(
    textured_picture: Callable[..., np.ndarray], seed: int
) -> None:
    grey = to_grey(textured_picture(seed))
    mirrored_copy = np.asarray(Image.fromarray(grey).transpose(Image.Transpose.FLIP_LEFT_RIGHT))

    assert perceptual_hash(grey[:, ::-1]) == perceptual_hash(mirrored_copy)
    assert perceptual_hash(grey[:, ::-1]) != perceptual_hash(grey)


@pytest.mark.parametrize("value", [0, 1, 128, 255])
def test_flat_pictures_are_flagged(value: int) -> None:
    flat = perceptual_hash(np.full((48, 64), value, np.uint8))

    assert is_flat(np.array([flat], np.uint64)).tolist() == [True]


def test_textured_pictures_are_not_flagged(textured_picture: Callable[..., np.ndarray]) -> None:
    hashes = [perceptual_hash(to_grey(textured_picture(seed))) for seed in range(30)]

    assert not is_flat(np.array(hashes, np.uint64)).any()


def test_a_fingerprint_knows_the_set_and_not_its_order() -> None:
    assert fingerprint(["a", "b"]) == fingerprint(["b", "a"])
    assert len({fingerprint(parts) for parts in (["a"], ["a", "b"], ["a", "a"], [])}) == 4
    assert len(fingerprint([])) == 16


def photograph(seed: int) -> np.ndarray:
    """Return something like a photograph: 1/f noise, with detail of every size, and some grain."""
    random = np.random.default_rng(seed)
    height, width = random.integers(60, 200, 2)
    down = np.fft.fftfreq(height)[:, None]
    across = np.fft.rfftfreq(width)[None, :]
    frequency = np.maximum(np.hypot(down, across), 1 / max(height, width))
    waves = random.normal(size=frequency.shape) + 1j * random.normal(size=frequency.shape)
    picture = np.fft.irfft2(waves / frequency, (height, width))
    picture = (picture - picture.min()) / np.ptp(picture) * 255
    return np.clip(picture + random.normal(0, 5, picture.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("seed", range(100))
def test_both_hashes_of_a_photograph_are_those_of_the_library(seed: int) -> None:
    grey = photograph(seed)

    found = [f"{value:016x}" for value in perceptual_hashes(grey)]

    views = (grey, np.ascontiguousarray(grey[:, ::-1]))
    assert found == [str(imagehash.phash(Image.fromarray(view))) for view in views]


@pytest.mark.parametrize(
    "grey",
    [
        np.zeros((40, 40)),
        np.full((33, 70), 200),
        np.tile(np.arange(64), (64, 1)),
        np.tile(np.abs(np.arange(-32, 32)), (64, 1)),
        np.tile(np.arange(64), (64, 1)).T,
        np.add.outer(np.arange(64), np.arange(64)),
        np.indices((64, 64)).sum(axis=0) % 2 * 255,
        np.eye(64) * 255,
    ],
    ids=["black", "grey", "ramp", "valley", "down", "diagonal", "chessboard", "line"],
)
def test_where_rounding_decides_the_hash_is_the_librarys_too(grey: np.ndarray) -> None:
    grey = grey.astype(np.uint8)

    assert f"{perceptual_hash(grey):016x}" == str(imagehash.phash(Image.fromarray(grey)))
