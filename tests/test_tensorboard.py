"""tensorboard: event files hold every figure at its epoch, in the form that TensorBoard draws."""

from pathlib import Path
from typing import Any

import pytest

from stages.lib.keras_runtime import tf
from stages.lib.tensorboard import event_writer

SCALAR = tf.compat.v1.SummaryMetadata(data_class="DATA_CLASS_SCALAR").data_class


def scalars_in(folder: Path) -> dict[tuple[str, int], Any]:
    """Return the values by name and epoch, and hold each to what draws it."""
    found = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                metadata = value.metadata
                assert metadata.plugin_data.plugin_name == "scalars"
                assert metadata.data_class == SCALAR
                found[value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    return found


def test_a_run_and_its_continuation_are_in_one_folder(tmp_path: Path) -> None:
    first = event_writer(tmp_path / "run")
    first({"epoch": 1, "loss": 0.5, "val_loss": 0.75})
    first({"epoch": 2, "loss": 0.25, "val_loss": 0.5})
    event_writer(tmp_path / "run")({"epoch": 3, "loss": 0.125, "val_loss": 0.5})

    assert scalars_in(tmp_path / "run") == pytest.approx(
        {
            ("loss", 1): 0.5,
            ("loss", 2): 0.25,
            ("loss", 3): 0.125,
            ("val_loss", 1): 0.75,
            ("val_loss", 2): 0.5,
            ("val_loss", 3): 0.5,
        }
    )
