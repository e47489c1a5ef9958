"""Augmentation policies: read from params, refused by entry, equal seeds give equal children."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stages.lib.augmentation import augment_picture, build_policy, policy_from_json
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
    ],
)
@pytest.mark.parametrize("place", [1, 2])
def test_a_wrong_entry_is_named(entry: dict[str, Any], words: str, place: int) -> None:
    with pytest.raises(InputError) as caught:
        build_policy([*[FLIP] * (place - 1), entry, FLIP])

    assert f"augment.transforms, entry {place}" in str(caught.value)
    assert words in str(caught.value)
