"""Feeds a model from memory-mapped arrays: shuffled and changed anew in every epoch, by seed."""

import math
from collections.abc import Iterator
from queue import Queue
from threading import Event, Thread
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from stages.lib.images import Picture, warp_picture
from stages.lib.params import STRICT
from stages.lib.seeds import rng_for

Share = Annotated[float, Field(ge=0, lt=1)]
Degrees = Annotated[float, Field(ge=0, le=180)]
READY = 4  # batches made ahead of the model
DRAWS = 11  # random numbers per image and epoch
MIRROR = 6  # the one of them that says whether it is mirrored


@dataclass(frozen=True, config=STRICT)
class TrainTransforms:
    """How pictures change anew in every epoch; the section train.transforms.

    horizontal_flip: each is mirrored in every other epoch, beginning with half of them, so that two
    epochs in a row hold both. shift: up to this share of a side each way.
    rotation, shear: up to so many degrees each way. zoom: each axis by a factor from 1 - zoom to
    1 + zoom. cutout: a square with this share of the shorter side turns grey. brightness: added, up
    to this share of white each way. contrast: values are spread by a factor from 1 - contrast to
    1 + contrast. What a picture does not fill is mirrored at its border.
    """

    horizontal_flip: bool
    shift: Annotated[float, Field(ge=0, le=0.5)]
    rotation: Degrees
    shear: Annotated[float, Field(ge=0, le=45)]
    zoom: Share
    cutout: Share
    brightness: Share
    contrast: Share

    @property
    def moves_whole_pixels(self) -> bool:
        """Tell whether nothing but mirroring and shifting is asked for, which needs no blur."""
        return self.rotation == self.shear == self.zoom == 0


NO_TRANSFORMS = TrainTransforms(False, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


class Batch(NamedTuple):
    """pictures: (images, height, width, channels) uint8, or features of them. classes: (images,)
    int64. weights: what each counts in the loss, (images,) float32.
    """

    pictures: NDArray[Any]
    classes: NDArray[np.int64]
    weights: NDArray[np.float32]


class Feed:
    """Batches of a split. What an epoch holds depends on the seed and its number alone."""

    def __init__(
        self,
        pictures: NDArray[Any],
        classes: NDArray[np.int64],
        batch_size: int,
        seed: int = 0,
        *,
        shuffle: bool = False,
        transforms: TrainTransforms = NO_TRANSFORMS,
        class_weights: NDArray[np.float32] | None = None,
    ) -> None:
        """Remember where the pictures are; pictures: mapped from a file, of any size."""
        self.pictures, self.classes = pictures, classes
        self.batch_size, self.seed, self.shuffle = batch_size, seed, shuffle
        self.transforms, self.class_weights = transforms, class_weights

    def over(self, inputs: NDArray[Any], transforms: TrainTransforms) -> "Feed":
        """Return the same feed over other inputs of the same images, one row for each."""
        return Feed(
            inputs,
            self.classes,
            self.batch_size,
            self.seed,
            shuffle=self.shuffle,
            transforms=transforms,
            class_weights=self.class_weights,
        )

    def __len__(self) -> int:
        return math.ceil(len(self.pictures) / self.batch_size)

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, made ahead by a thread of their own."""
        order = np.arange(len(self.pictures))
        if self.shuffle:
            order = rng_for(self.seed, "epoch", number).permutation(len(self.pictures))
        draws = None
        if self.transforms != NO_TRANSFORMS:
            shape = (len(self.pictures), DRAWS)
            draws = rng_for(self.seed, "transforms", number).random(shape, dtype=np.float32)
            first = rng_for(self.seed, "mirror").random(len(self.pictures), dtype=np.float32)
            draws[:, MIRROR] = first if number % 2 == 0 else 1 - first
        return _made_ahead(self._batch(rows, draws) for rows in self._parts(order))

    def _parts(self, order: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        for start in range(0, len(order), self.batch_size):
            # Sorted rows are read from the file in one direction; inside a batch no order counts.
            yield np.sort(order[start : start + self.batch_size])

    def _batch(self, rows: NDArray[np.int64], draws: NDArray[np.float32] | None) -> Batch:
        pictures, classes = np.asarray(self.pictures[rows]), self.classes[rows]
        if draws is not None:
            pictures = transform_batch(pictures, draws[rows], self.transforms)
        weights = np.ones(len(rows), np.float32)
        if self.class_weights is not None:
            weights = self.class_weights[classes]
        return Batch(pictures, classes, weights)


def transform_batch(
    pictures: NDArray[np.uint8], draws: NDArray[np.float32], how: TrainTransforms
) -> NDArray[np.uint8]:
    """Return each picture changed at random.

    pictures: (images, height, width, channels); draws: (images, DRAWS) numbers from 0 to 1.
    """
    changed = np.empty_like(pictures)
    height, width = pictures.shape[1:3]
    maps = placements(draws, how, height, width)
    for at, (picture, place) in enumerate(zip(pictures, maps, strict=True)):
        changed[at] = warp_picture(picture, place, smooth=not how.moves_whole_pixels)
    if how.brightness or how.contrast:
        for picture, levels in zip(changed, _levels(draws, how), strict=True):
            picture[:] = levels[picture]
    if how.cutout:
        _cut_out(changed, draws, how.cutout)
    return changed


def placements(
    draws: NDArray[np.float32], how: TrainTransforms, height: int, width: int
) -> NDArray[np.float64]:
    """Return for each picture the map from its new pixels (x, y) to the old ones, (images, 2, 3).

    draws, how: as of `transform_batch`.
    """
    both_ways = 2 * draws.astype(np.float64) - 1  # -1 to 1
    angle = np.deg2rad(both_ways[:, 0] * how.rotation)
    shear = np.deg2rad(both_ways[:, 1] * how.shear)
    scale_x, scale_y = 1 + both_ways[:, 2] * how.zoom, 1 + both_ways[:, 3] * how.zoom
    shift_x, shift_y = both_ways[:, 4] * how.shift * width, both_ways[:, 5] * how.shift * height
    if how.moves_whole_pixels:
        shift_x, shift_y = np.rint(shift_x), np.rint(shift_y)
    mirror = np.where(how.horizontal_flip & (draws[:, MIRROR] < 0.5), -1.0, 1.0)
    cos, sin, slope = np.cos(angle), np.sin(angle), np.tan(shear)
    linear = np.stack(
        [
            np.stack([mirror * scale_x * cos, mirror * scale_x * (slope * cos - sin)], axis=1),
            np.stack([scale_y * sin, scale_y * (slope * sin + cos)], axis=1),
        ],
        axis=1,
    )
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    offset = centre - linear @ centre + np.stack([shift_x, shift_y], axis=1)
    return np.concatenate([linear, offset[:, :, None]], axis=2)


def _levels(draws: NDArray[np.float32], how: TrainTransforms) -> Picture:
    """Return for each picture the new value of each of the 256 old ones."""
    both_ways = 2 * draws[:, 7:9] - 1
    values = np.arange(256, dtype=np.float32) - 127.5
    spread = values * (1 + both_ways[:, 1:] * how.contrast)
    levels = spread + 127.5 + 255 * both_ways[:, :1] * how.brightness
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def _cut_out(pictures: NDArray[np.uint8], draws: NDArray[np.float32], share: float) -> None:
    """Paint a grey square into each picture, in place; its centre lies anywhere in the picture."""
    height, width = pictures.shape[1:3]
    side = max(round(share * min(height, width)), 1)
    tops = (draws[:, 9] * height).astype(np.int64) - side // 2
    lefts = (draws[:, 10] * width).astype(np.int64) - side // 2
    for picture, top, left in zip(pictures, tops, lefts, strict=True):
        picture[max(top, 0) : top + side, max(left, 0) : left + side] = 128


def _made_ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yield what comes, made by a thread that is up to READY batches ahead."""
    queue: Queue[Batch | BaseException | None] = Queue(READY)
    stopped = Event()

    def make() -> None:
        try:
            for batch in batches:
                queue.put(batch)
                if stopped.is_set():
                    return
            queue.put(None)
        except BaseException as error:  # it belongs to whoever waits for the batch
            queue.put(error)

    thread = Thread(target=make, daemon=True)
    thread.start()
    try:
        while (batch := queue.get()) is not None:
            if isinstance(batch, BaseException):
                raise batch
            yield batch
    finally:
        stopped.set()
        while thread.is_alive():  # it may wait for a free place
            if not queue.empty():
                queue.get()
            thread.join(0.01)
