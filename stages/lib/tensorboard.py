"""Writes the figures of every epoch as event files, which TensorBoard draws while training runs.

TensorFlow's `tf.summary.scalar` needs TensorBoard to be installed; what it writes is little, and is
written here without: a tensor with a word on which of TensorBoard's plugins draws it.
"""

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
    metadata = tf.compat.v1.SummaryMetadata(data_class="DATA_CLASS_SCALAR")
    metadata.plugin_data.plugin_name = "scalars"

    def write(row: Mapping[str, float]) -> None:
        with writer.as_default(step=int(row["epoch"])):
            for name, value in row.items():
                if name != "epoch":
                    tf.summary.write(name, tf.constant(value, tf.float32), metadata=metadata)
        writer.flush()

    return write
