"""Augmentation policies written in params (the one place where albumentations enters)."""

import json
import os
import warnings
from functools import cache
from typing import Any

from stages.lib.errors import InputError
from stages.lib.images import Picture

# Its import would ask the package index for a newer version otherwise.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
import albumentations  # noqa: E402

Policy = list[dict[str, Any]]


def build_policy(policy: Policy) -> albumentations.Compose:
    """Return the transforms of a policy, applied in order.

    policy: a list like `{name: HorizontalFlip, p: 0.5}`; every key but `name` is an argument of the
    albumentations class of that name.
    Raises InputError naming the entry for an unknown name or argument.
    """
    steps = []
    for number, entry in enumerate(policy, start=1):
        arguments = {key: value for key, value in entry.items() if key != "name"}
        where = f"augment.transforms, entry {number}"
        transform = getattr(albumentations, str(entry.get("name")), None)
        if not (
            isinstance(transform, type) and issubclass(transform, albumentations.BasicTransform)
        ):
            raise InputError(
                f"{where}: name must be an albumentations transform, got {entry.get('name')!r}"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # unknown arguments are only warned of
            try:
                steps.append(transform(**arguments))
            except (TypeError, ValueError, UserWarning) as error:
                raise InputError(f"{where} ({entry['name']}): {error}") from error
    return albumentations.Compose(steps)


@cache
def policy_from_json(policy: str) -> albumentations.Compose:
    """Return `build_policy` of a policy written as JSON, built once per process."""
    return build_policy(json.loads(policy))


def augment_picture(policy: albumentations.Compose, pixels: Picture, seed: int) -> Picture:
    """Return one augmented child of (height, width, 3) pixels; equal seeds give equal children."""
    policy.set_random_seed(seed % 2**32)
    child: Picture = policy(image=pixels)["image"]
    return child
