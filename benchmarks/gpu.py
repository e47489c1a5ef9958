"""Trains fast_cnn through Keras on a GPU: seconds to an accuracy, images per second, utilisation.

    KERAS_BACKEND=jax python benchmarks/gpu.py PROJECT [--epochs 20] [--goal 0.94]

PROJECT is a folder in which the pipeline ran as far as `augment`; the backend is tensorflow (the
default), jax or torch, of which the last two need no TensorFlow. The network is the pipeline's; the
loop is Keras' own `fit`, with transforms by Keras' layers on the device, so this shows what the
machine can do, not what the stage `train` takes. The clock starts with `fit` and compiling counts;
images per second are the median epoch's. The test set is read once, at the end. Utilisation is the
mean of what nvidia-smi says every half second; there is none without it.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from stages.lib.keras_runtime import keras  # noqa: E402
from stages.lib.models import adapt, build_model  # noqa: E402
from stages.lib.muon import Muon  # noqa: E402

ops = keras.ops
SEED = 7


class OneCycle(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """Up to the peak over a share of the steps, then down to nothing, both linearly."""

    def __init__(self, peak: float, steps: int, warmup: float) -> None:
        self.peak, self.steps, self.warmup = peak, steps, warmup

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of a step."""
        done = ops.cast(step, "float32") / self.steps
        return self.peak * ops.minimum(done / self.warmup, (1 - done) / (1 - self.warmup))

    def get_config(self) -> dict[str, Any]:
        """Return what it takes to build the schedule anew."""
        return {"peak": self.peak, "steps": self.steps, "warmup": self.warmup}


class Clock(keras.callbacks.Callback):  # type: ignore[misc]
    """Notes the seconds and the validation accuracy at the end of every epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.started = time.perf_counter()
        self.epochs: list[tuple[float, float, float]] = []  # learned, all, validation accuracy

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the epoch's own clock."""
        self.begun = time.perf_counter()

    def on_test_begin(self, logs: Any = None) -> None:
        """Stop it before validation."""
        self.learned = time.perf_counter() - self.begun

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Keep a row."""
        row = (self.learned, time.perf_counter() - self.started, logs["val_accuracy"])
        self.epochs.append(row)
        print(f"epoch {epoch + 1}: {row[1]:.1f} s, val accuracy {row[2]:.4f}", flush=True)


def load(project: Path, split: str) -> tuple[Any, Any]:
    """Return a split's pictures, in memory, and their classes."""
    index = pd.read_parquet(project / "data/dataset/index.parquet")
    names = sorted(index["label"].unique())
    rows = index[index["split"] == split].sort_values("row")
    return np.load(project / f"data/dataset/{split}.npy"), rows["label"].map(names.index).to_numpy()


def trainable(network: Any, shift: float, cutout: float) -> Any:
    """Return the network behind transforms that work in training alone."""
    inputs = keras.Input(network.input_shape[1:])
    x = keras.layers.RandomFlip("horizontal", seed=SEED)(inputs)
    x = keras.layers.RandomTranslation(shift, shift, "reflect", "nearest", seed=SEED)(x)
    x = keras.layers.RandomErasing(1.0, (cutout**2,) * 2, 128.0, (0, 255), seed=SEED)(x)
    return keras.Model(inputs, network(x))


def watch_utilisation(stopped: Event, found: list[float]) -> None:
    """Note what nvidia-smi says until told to stop."""
    query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    while not stopped.wait(0.5):
        said = subprocess.run(query, capture_output=True, text=True, check=False).stdout
        found += [float(line) for line in said.split() if line.isdecimal()][:1]


def main() -> None:
    """Train, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--rate", type=float, default=0.8, help="the highest learning rate")
    parser.add_argument("--goal", type=float, default=0.94)
    parser.add_argument("--precision", default="mixed_bfloat16", help="or float32, mixed_float16")
    parser.add_argument("--pictures", type=int, help="learn from so many only")
    wanted = parser.parse_args()
    keras.utils.set_random_seed(SEED)
    keras.mixed_precision.set_global_policy(wanted.precision)
    (pictures, classes), val = load(wanted.project, "train"), load(wanted.project, "val")
    drawn = np.random.default_rng(SEED).permutation(len(pictures))[: wanted.pictures]
    pictures, classes = pictures[drawn], classes[drawn]
    number = int(classes.max()) + 1
    network = build_model("fast_cnn", pictures.shape[1:], number, {"test_views": "mirror_shift"})
    adapt(network, pictures, SEED)
    model = trainable(network, shift=0.1, cutout=0.25)
    steps = wanted.epochs * -(-len(pictures) // wanted.batch)
    model.compile(
        Muon(
            OneCycle(wanted.rate, steps, 0.2), 0.85, nesterov=True, weight_decay=0.01,
            use_ema=True, ema_momentum=0.98,
        ),
        keras.losses.CategoricalCrossentropy(label_smoothing=0.2),
        metrics=["accuracy"],
        jit_compile=keras.backend.backend() == "jax",
    )  # fmt: skip
    clock, stopped, busy = Clock(), Event(), list[float]()
    watcher = Thread(target=watch_utilisation, args=(stopped, busy), daemon=True)
    if shutil.which("nvidia-smi"):
        watcher.start()
    history = [keras.callbacks.SwapEMAWeights(swap_on_epoch=True), clock]
    one_hot = (
        keras.utils.to_categorical(classes, number),
        keras.utils.to_categorical(val[1], number),
    )
    model.fit(
        pictures, one_hot[0], wanted.batch, wanted.epochs, 0, history,
        validation_data=(val[0], one_hot[1]), validation_batch_size=wanted.batch,
    )  # fmt: skip
    stopped.set()
    test, truth = load(wanted.project, "test")
    right = int((model.predict(test, wanted.batch, verbose=0).argmax(axis=1) == truth).sum())
    soon = [seconds for _, seconds, accuracy in clock.epochs if accuracy >= wanted.goal]
    speed = len(pictures) / statistics.median(learned for learned, _, _ in clock.epochs)
    print(
        f"{keras.backend.backend()}, {wanted.precision}: {clock.epochs[-1][1]:.1f} s in all, "
        f"{wanted.goal:.0%} of validation "
        + (f"after {soon[0]:.1f} s" if soon else "never")
        + f"; {speed:,.0f} images/s; test {right:,} of {len(truth):,} = {right / len(truth):.2%}"
        + (f"; GPU {np.mean(busy):.0f} % busy" if busy else "")
    )


if __name__ == "__main__":
    main()
