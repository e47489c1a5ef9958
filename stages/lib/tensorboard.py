"""Writes the figures of every epoch as event files, which TensorBoard draws while training runs."""

from collections.abc import Callable, Mapping
from pathlib import Path

from stages.lib.keras_runtime import tf

Observer = Callable[[Mapping[str, float]], None]


def ignore(row: Mapping[str, float]) -> None:
    """Be told of an epoch, and do nothing."""


def event_writer(folder: Path) -> Observer:
    """Return what writes a row of figures, each by its name, at the row's epoch.

    A run that was interrupted goes on in the same folder.
    """
    writer = tf.summary.create_file_writer(str(folder))

    def write(row: Mapping[str, float]) -> None:
        with writer.as_default(step=int(row["epoch"])):
            for name, value in row.items():
                if name != "epoch":
                    tf.summary.scalar(name, value)
        writer.flush()

    return write
