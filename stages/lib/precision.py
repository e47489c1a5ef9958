"""Chooses the numbers that training computes with, by what the processor is fast at."""

from pathlib import Path
from typing import Literal

from stages.lib.errors import InputError
from stages.lib.keras_runtime import DEVICES, keras, tf

Precision = Literal["auto", "float32", "bfloat16", "float16"]
CPU_FLAGS = Path("/proc/cpuinfo")
FAST_ON_CPU = ("avx512_bf16", "amx_bf16")  # instructions for bfloat16; without them it is slower
# NVIDIA's compute capabilities that brought tensor cores for each (CUDA C Programming Guide).
BFLOAT16_SINCE, FLOAT16_SINCE = (8, 0), (7, 0)


def choose_precision(wanted: Precision) -> str:
    """Return float32, bfloat16 or float16: what is wanted, or the fastest that this machine has.

    Weights, loss and the last layer stay float32 in any case.
    Raises InputError for float16 without a GPU.
    """
    if wanted == "float16" and "GPU" not in DEVICES:
        raise InputError(
            "train.precision float16 needs a GPU, this machine has none; set it to auto"
        )
    if wanted != "auto":
        return wanted
    if "GPU" in DEVICES:
        return _fast_on_gpu()
    return "bfloat16" if _has_fast_cpu() else "float32"


def use_precision(chosen: str) -> None:
    """Make Keras compute with it, for the whole process.

    A CPU's graphs are rewritten by TensorFlow where that pays, and the layers stay as they are; on
    a GPU the layers compute with it.
    """
    on_gpu = "GPU" in DEVICES
    rewrite = chosen == "bfloat16" and not on_gpu
    tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": rewrite})
    mixed = on_gpu and chosen != "float32"
    keras.mixed_precision.set_global_policy(f"mixed_{chosen}" if mixed else "float32")


def _has_fast_cpu() -> bool:
    if not CPU_FLAGS.is_file():
        return False
    words = set(CPU_FLAGS.read_text(encoding="utf-8").split())
    return not words.isdisjoint(FAST_ON_CPU)


def _fast_on_gpu() -> str:
    device = tf.config.list_physical_devices("GPU")[0]
    capability = tf.config.experimental.get_device_details(device).get("compute_capability", (0, 0))
    if capability >= BFLOAT16_SINCE:
        return "bfloat16"
    return "float16" if capability >= FLOAT16_SINCE else "float32"
