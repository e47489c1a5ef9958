"""Starts TensorFlow quietly and deterministically: the one door through which Keras enters.

The pipeline runs on TensorFlow. The models alone build on JAX and PyTorch too, where KERAS_BACKEND
names one of these and TensorFlow need not be there; `tf` is then None.
"""

import contextlib
import os
import platform
import sys
import tempfile
from collections.abc import Iterator

import numpy as np


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """Hold back what TensorFlow's C++ libraries print while they load; show it if loading fails.

    They write some lines past every log level, which would drown a stage's own words.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(terminal, held.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
with _quiet_start():
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # The search for devices prints as well, whenever it is first made.
        DEVICES = sorted({device.device_type for device in tf.config.list_physical_devices()})
    else:
        tf, DEVICES = None, []

__all__ = ["DEVICES", "describe_environment", "keras", "seed_everything", "tf"]


def seed_everything(seed: int, deterministic: bool = True) -> None:
    """Seed every generator that Keras uses.

    deterministic: demand operations that give equal bits on every run, for the whole process.
    """
    keras.utils.clear_session()  # layers are named by a running number, which gets into the files
    keras.utils.set_random_seed(seed % 2**32)
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def describe_environment() -> dict[str, str]:
    """Return the versions and the hardware class that a model's bytes depend on; no names, no
    clock.
    """
    return {
        "devices": "+".join(DEVICES),
        "keras": keras.__version__,
        "machine": platform.machine(),
        "numpy": np.__version__,
        "python": ".".join(platform.python_version_tuple()[:2]),
        "system": platform.system(),
        "tensorflow": tf.__version__,
    }
