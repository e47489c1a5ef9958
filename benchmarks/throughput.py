"""Holds training's images per second against PyTorch's, for one network in the same run.

    python benchmarks/throughput.py --torch /path/to/a/python/with/torch

Both train fast_cnn (2 million parameters, pictures of 32×32) in batches of 512 on random pixels, in
bfloat16 where the processor is fast at it: ours as `train` does, with its feed of mirrored and
shifted pictures, its optimiser and deterministic operations; PyTorch in its fastest form on a
processor, channels last under autocast, on one batch that lies ready. They run alternately, each in
a process of its own; a figure is the median of a process's steps after the first two, and of all
rounds. Also printed: ours without deterministic operations, in float32, and the feed alone.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from stages.lib.feeding import NO_TRANSFORMS, Batch, Feed  # noqa: E402

BATCH, SIDE, CLASSES = 512, 32, 10
WARM_UP, STEPS = 2, 10
TORCH = """
import json, statistics, sys, time, warnings
import torch
from torch import nn
warnings.simplefilter("ignore")
activation, threads, batch, side, warm_up, steps = json.loads(sys.argv[1])
torch.set_num_threads(threads)
act = {"relu": nn.ReLU, "hard_silu": nn.Hardswish, "gelu": nn.GELU}[activation]

def block(before, after):
    return [
        nn.Conv2d(before, after, 3, padding="same", bias=False), nn.MaxPool2d(2),
        nn.BatchNorm2d(after), act(),
        nn.Conv2d(after, after, 3, padding="same", bias=False), nn.BatchNorm2d(after), act(),
    ]

model = nn.Sequential(
    nn.Conv2d(3, 24, 2), act(), *block(24, 64), *block(64, 256), *block(256, 256),
    nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(256, 10),
).to(memory_format=torch.channels_last)
optimizer = torch.optim.SGD(model.parameters(), 0.01, 0.85, nesterov=True, weight_decay=1e-4)
criterion = nn.CrossEntropyLoss(label_smoothing=0.2)
pictures = torch.randn(batch, 3, side, side).to(memory_format=torch.channels_last)
classes = torch.randint(0, 10, (batch,))
seconds = []
for _ in range(warm_up + steps):
    started = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = criterion(model(pictures), classes)
    loss.backward()
    optimizer.step()
    loss.item()
    seconds.append(time.perf_counter() - started)
print(batch / statistics.median(seconds[warm_up:]))
"""


def ours(activation: str, precision: str, deterministic: bool) -> float:
    """Return images per second of `train`'s own step and feed."""
    # The parent process starts no TensorFlow, which would hold memory and threads beside the rest.
    from stages.lib.keras_runtime import seed_everything
    from stages.lib.models import adapt, build_model
    from stages.lib.precision import choose_precision, use_precision
    from stages.lib.schedules import ScheduleParams
    from stages.lib.training import OptimizerParams, Recipe, Trainer, make_optimizer

    use_precision(choose_precision(precision))
    seed_everything(7, deterministic)
    feed = random_feed(BATCH * (WARM_UP + STEPS + 1))
    model = build_model("fast_cnn", (SIDE, SIDE, 3), CLASSES, {"activation": activation})
    adapt(model, feed.pictures, 7)
    schedule = ScheduleParams("one_cycle", 0.2, 1, 0.5, 0.0)
    recipe = Recipe(1, 0.1, schedule, "val_accuracy", 1, 0.2, 0.0)
    optimizer = make_optimizer(OptimizerParams("sgd", 0.85, 0.001), recipe.peak)
    trainer = Trainer(model, optimizer, recipe)
    moments = []  # when each batch was asked for

    def clocked(number: int) -> Iterator[Batch]:
        for batch in made(number):
            moments.append(time.perf_counter())
            yield batch

    made, feed.epoch = feed.epoch, clocked
    trainer.train(feed, 0, [])
    return BATCH / statistics.median(np.diff(moments)[WARM_UP:])


def fed() -> float:
    """Return images per second that the feed makes, mirrored and shifted."""
    feed = random_feed(BATCH * 40)
    started = time.perf_counter()
    images = sum(len(batch.classes) for batch in feed.epoch(0))
    return images / (time.perf_counter() - started)


def random_feed(images: int) -> Feed:
    """Return a feed of random pixels."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (images, SIDE, SIDE, 3), dtype=np.uint8)
    transforms = replace(NO_TRANSFORMS, horizontal_flip=True, shift=0.0625)
    return Feed(
        pictures,
        rng.integers(0, CLASSES, images),
        BATCH,
        7,
        shuffle=True,
        transforms=transforms,
    )


def in_a_process(*command: str) -> float:
    """Return the number that a command prints last."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def main() -> None:
    """Run all of it in turns and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", help="a python that can import torch")
    parser.add_argument("--activation", default="hard_silu,relu,gelu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        case = json.loads(arguments.one)
        print(fed() if case == "feed" else ours(*case))
        return
    activations = arguments.activation.split(",")
    runs: dict[str, Callable[[], float]] = {}

    def own(name: str, case: object) -> None:
        runs[name] = lambda: in_a_process(sys.executable, __file__, "--one", json.dumps(case))

    for activation in activations:
        own(f"ours, {activation}", [activation, "auto", True])
        if arguments.torch:
            given = json.dumps([activation, os.cpu_count(), BATCH, SIDE, WARM_UP, STEPS])
            runs[f"PyTorch, {activation}"] = lambda given=given: in_a_process(
                arguments.torch, "-c", TORCH, given
            )
    own(f"ours, {activations[0]}, not deterministic", [activations[0], "auto", False])
    own(f"ours, {activations[0]}, float32", [activations[0], "float32", True])
    own("the feed alone", "feed")
    found: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(arguments.rounds):
        for name, run in runs.items():
            found[name].append(run())
            print(f"round {number + 1}: {name}: {found[name][-1]:,.0f} images/s", flush=True)
    print("\n| what | images/s, median (range) | of PyTorch |\n|---|---|---|")
    for name, figures in found.items():
        peer = found.get(name.replace("ours", "PyTorch")) if name.startswith("ours") else None
        pairs = zip(figures, peer or [], strict=False)
        ratio = f"{statistics.median(a / b for a, b in pairs):.2f}" if peer else ""
        low, high = min(figures), max(figures)
        print(
            f"| {name} | {statistics.median(figures):,.0f} ({low:,.0f} to {high:,.0f}) | {ratio} |"
        )


if __name__ == "__main__":
    main()
