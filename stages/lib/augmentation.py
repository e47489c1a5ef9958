"""Augmentation policies written in params (the one place where albumentations enters)."""

import json
import os
import random
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from stages.lib.errors import InputError
from stages.lib.images import Picture
from stages.lib.seeds import rng_for

# Its import would ask the package index for a newer version otherwise.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
import albumentations  # noqa: E402

Policy = list[dict[str, Any]]
Transforms = Sequence[albumentations.BasicTransform]

# Times that each transform is tried: what changes a picture's size by chance shows it in some.
TRIALS = 8


def build_policy(policy: Policy) -> Transforms:
    """Return the transforms of a policy, to be applied in order.

    policy: a list like `{name: HorizontalFlip, p: 0.5}`; every key but `name` is an argument of the
    albumentations class of that name.
    Raises InputError naming the entry for an unknown name or argument.
    """
    return [_build(entry, _place(number, entry)) for number, entry in enumerate(policy, start=1)]


def require_same_form(policy: Policy, shape: tuple[int, int, int]) -> None:
    """Raise InputError naming the first entry of a policy that cannot be used on pictures of this
    shape, or whose result is no uint8 picture of the same.

    shape: height, width, channels. Each transform is run alone, and always, on noise.
    """
    noise = rng_for(0, *shape).integers(0, 256, shape, dtype=np.uint8)
    for number, entry in enumerate(policy, start=1):
        place = _place(number, entry)
        always = _build({**entry, "p": 1.0}, place)
        for seed in range(1, TRIALS + 1):
            try:
                augment_picture([always], noise, seed)
            except InputError as error:
                raise InputError(f"{place}: {error}") from error
            except Exception as error:  # likewise, and OpenCV has others
                raise InputError(
                    f"{place} does not work on pictures {_form(noise)}: {_sentence(error)}"
                ) from error


@cache
def policy_from_json(policy: str) -> Transforms:
    """Return `build_policy` of a policy written as JSON, built once per process."""
    return build_policy(json.loads(policy))


def augment_picture(transforms: Transforms, pixels: Picture, seed: int) -> Picture:
    """Return one augmented child of (height, width, channels) pixels; equal seeds give equal
    children.

    Raises InputError where the child's form is not its parent's.
    """
    # One stream for all: with `set_random_seed` each transform would draw the same numbers, and
    # every picture that is flipped would be turned to the same side.
    generator, plain_generator = np.random.default_rng(seed), random.Random(seed)
    child = pixels
    for transform in transforms:
        transform.set_random_state(generator, plain_generator)
        child = transform(image=child)["image"]
    if (child.shape, child.dtype) != (pixels.shape, pixels.dtype):
        raise InputError(
            f"transforms must keep pictures {_form(pixels)}, got {_form(child)}; leave out what "
            "crops, resizes, turns by quarters or normalises"
        )
    return child


def _build(entry: dict[str, Any], place: str) -> albumentations.BasicTransform:
    arguments = {key: value for key, value in entry.items() if key != "name"}
    transform = getattr(albumentations, str(entry.get("name")), None)
    if not (isinstance(transform, type) and issubclass(transform, albumentations.BasicTransform)):
        raise InputError(
            f"{place}: name must be an albumentations transform, got {entry.get('name')!r}"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # unknown arguments are only warned of
        try:
            return transform(**arguments)
        except Exception as error:  # each transform has a way of its own to say no
            raise InputError(f"{place}: {_sentence(error)}") from error


def _place(number: int, entry: dict[str, Any]) -> str:
    return f"augment.transforms, entry {number} ({entry.get('name')})"


def _form(pixels: Picture) -> str:
    return f"{pixels.dtype} {pixels.shape}"


def _sentence(error: Exception) -> str:
    """Return what an error says in one line, or its name where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
