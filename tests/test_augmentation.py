"""Augmentation policies: read from params, refused by entry, equal seeds give equal children."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stages.lib.augmentation import (
    augment_picture,
    build_policy,
    policy_from_json,
    require_same_form,
)
from stages.lib.errors import InputError

FLIP = {"name": "HorizontalFlip", "p": 1.0}
AFFINE = {"name": "Affine", "rotate": [-15, 15], "scale": [0.85, 1.15], "p": 1.0}


def test_transforms_are_applied(textured_picture: Callable[..., np.ndarray]) -> None:
    picture = textured_picture(0)

    flipped = augment_picture(build_policy([FLIP]), picture, 1)

    np.testing.assert_array_equal(flipped, picture[:, ::-1])


def test_an_empty_policy_changes_nothing(textured_picture: Callable[..., np.ndarray]) -> None:
    picture = textured_picture(0)

    np.testing.assert_array_equal(augment_picture(build_policy([]), picture, 1), picture)


@pytest.mark.parametrize("seed", [1, 2**31, 2**32 + 5, 2**63 - 1])
def test_equal_seeds_give_equal_children_whatever_came_before(
    textured_picture: Callable[..., np.ndarray], seed: int
) -> None:
    picture, policy = textured_picture(0), build_policy([AFFINE])
    first = augment_picture(policy, picture, seed)
    for other in range(3):
        augment_picture(policy, textured_picture(other), other)

    again = augment_picture(policy, picture, seed)
    afresh = augment_picture(build_policy([AFFINE]), picture, seed)

    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, afresh)


def test_different_seeds_give_different_children(
    textured_picture: Callable[..., np.ndarray],
) -> None:
    policy, picture = build_policy([AFFINE]), textured_picture(0)

    children = {augment_picture(policy, picture, seed).tobytes() for seed in range(1, 21)}

    assert len(children | {picture.tobytes()}) == 21


def test_the_parent_is_not_changed(textured_picture: Callable[..., np.ndarray]) -> None:
    picture = textured_picture(0).copy()
    before = picture.copy()

    augment_picture(build_policy([FLIP, AFFINE]), picture, 3)

    np.testing.assert_array_equal(picture, before)


def test_a_policy_is_built_once_per_process() -> None:
    text = '[{"name": "HorizontalFlip", "p": 0.5}]'

    assert policy_from_json(text) is policy_from_json(text)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"name": "HorizontalFlop", "p": 0.5}, "name must be an albumentations transform"),
        ({"p": 0.5}, "got None"),
        ({"name": "Compose"}, "got 'Compose'"),
        ({"name": "__version__"}, "got '__version__'"),
        ({"name": "HorizontalFlip", "probability": 0.5}, "(HorizontalFlip): "),
        ({"name": "HorizontalFlip", "p": 1.5}, "(HorizontalFlip): "),
        ({"name": "Affine", "rotate": "far"}, "(Affine): "),
        # An abstract class of the library, whose error has no words: its kind has to do.
        ({"name": "BasicTransform"}, "(BasicTransform): NotImplementedError"),
    ],
)
@pytest.mark.parametrize("place", [1, 2])
def test_a_wrong_entry_is_named(entry: dict[str, Any], words: str, place: int) -> None:
    with pytest.raises(InputError) as caught:
        build_policy([*[FLIP] * (place - 1), entry, FLIP])

    assert f"augment.transforms, entry {place}" in str(caught.value)
    assert words in str(caught.value)


# --- Whether a policy fits the pictures ---------------------------------------------------------


@pytest.mark.parametrize("shape", [(16, 16, 3), (16, 40, 3), (40, 16, 1)])
def test_what_keeps_a_picture_as_it_is_passes(shape: tuple[int, int, int]) -> None:
    brightness = {"name": "RandomBrightnessContrast", "p": 0.5}

    require_same_form([FLIP, AFFINE, brightness], shape)
    require_same_form([], shape)


@pytest.mark.parametrize("p", [0.0, 0.01, 1.0])
@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"name": "CenterCrop", "height": 4, "width": 4}, "got uint8 (4, 4, 3)"),
        ({"name": "Normalize"}, "got float32 (16, 24, 3)"),
        ({"name": "RandomScale"}, "transforms must keep pictures uint8 (16, 24, 3)"),
        ({"name": "Transpose"}, "got uint8 (24, 16, 3)"),
        ({"name": "RandomRotate90"}, "got uint8 (24, 16, 3)"),
        ({"name": "RandomCrop", "height": 32, "width": 32}, "does not work on pictures uint8"),
    ],
)
def test_what_does_not_is_refused_by_name_and_place_however_rare(
    entry: dict[str, Any], words: str, p: float
) -> None:
    with pytest.raises(InputError) as caught:
        require_same_form([FLIP, {**entry, "p": p}], (16, 24, 3))

    assert f"augment.transforms, entry 2 ({entry['name']})" in str(caught.value)
    assert words in str(caught.value)


def test_a_quarter_turn_is_refused_only_where_it_changes_the_form() -> None:
    require_same_form([{"name": "RandomRotate90", "p": 1.0}], (16, 16, 3))


@pytest.mark.parametrize("name", ["ISONoise", "ChannelDropout"])
def test_what_needs_three_channels_is_refused_for_grey_pictures(name: str) -> None:
    require_same_form([{"name": name}], (16, 16, 3))

    with pytest.raises(InputError, match=rf"entry 1 \({name}\) does not work on .*\(16, 16, 1\)"):
        require_same_form([{"name": name}], (16, 16, 1))


def test_a_size_that_changes_by_rare_chance_is_refused_when_it_does(
    textured_picture: Callable[..., np.ndarray],
) -> None:
    rarely = build_policy([{"name": "RandomScale", "scale_limit": 0.3, "p": 0.2}])

    with pytest.raises(InputError, match="must keep pictures uint8"):
        for seed in range(100):
            augment_picture(rarely, textured_picture(0), seed)


# --- Seeds --------------------------------------------------------------------------------------


def test_all_bits_of_a_seed_count(textured_picture: Callable[..., np.ndarray]) -> None:
    policy, picture = build_policy([AFFINE]), textured_picture(0)

    children = {augment_picture(policy, picture, 5 + at * 2**32).tobytes() for at in range(1, 11)}

    assert len(children) == 10


def test_the_draws_of_one_transform_say_nothing_about_those_of_another(
    textured_picture: Callable[..., np.ndarray],
) -> None:
    flip = {"name": "HorizontalFlip", "p": 0.5}
    bright = {"name": "RandomBrightnessContrast", "contrast_limit": 0, "p": 0.5}
    policy, picture = build_policy([flip, bright]), textured_picture(0)
    mirrored = picture[:, ::-1]

    kinds = []
    for seed in range(400):
        child = augment_picture(policy, picture, seed).astype(int)
        flipped = np.abs(child - mirrored).mean() < np.abs(child - picture).mean()
        brightened = bool((child != (mirrored if flipped else picture)).any())
        kinds.append((flipped, brightened))

    # Independent halves: each of the four kinds is 100 of 400, give or take (9 is one deviation).
    assert all(60 < kinds.count((a, b)) < 140 for a in (False, True) for b in (False, True))
