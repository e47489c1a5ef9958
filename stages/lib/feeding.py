"""Feeds a model from memory-mapped arrays, shuffled by seed and epoch, batch by batch."""

import numpy as np
from numpy.typing import NDArray

from stages.lib.keras_runtime import keras
from stages.lib.seeds import rng_for


class ShuffledBatches(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches of (pictures uint8, class numbers); the order depends on seed and epoch alone."""

    def __init__(
        self, pictures: NDArray[np.uint8], classes: NDArray[np.int64], batch_size: int, seed: int
    ) -> None:
        super().__init__()
        self.pictures, self.classes = pictures, classes
        self.batch_size, self.seed, self.epoch = batch_size, seed, 0
        self._shuffle()

    def __len__(self) -> int:
        return -(-len(self.pictures) // self.batch_size)

    def __getitem__(self, number: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        # Sorted rows are read from the file in one direction; their order inside a batch changes
        # nothing.
        start = number * self.batch_size
        rows = np.sort(self.order[start : start + self.batch_size])
        return self.pictures[rows], self.classes[rows]

    def on_epoch_end(self) -> None:
        """Draw the next epoch's order."""
        self.epoch += 1
        self._shuffle()

    def _shuffle(self) -> None:
        self.order = rng_for(self.seed, "epoch", self.epoch).permutation(len(self.pictures))
