"""Progress for people: a bar with a rate on a terminal, plain lines everywhere else."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

SECONDS_BETWEEN_LINES = 10.0


def track(items: Iterable[T], total: int, description: str, unit: str) -> Iterator[T]:
    """Yield the items, showing how many of `total` are done and how many `unit` a second."""
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=description, unit=f" {unit}", leave=False)
        return
    started = shown = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - shown >= SECONDS_BETWEEN_LINES and done < total:
            shown = now
            rate = done / (now - started)
            speed = f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"
            print(f"{description}: {done:,} of {total:,} {unit}, {speed}/s", flush=True)


def open_bar(total: int, description: str, unit: str) -> tqdm:
    """Return a bar to `update` and `close` by hand; it shows on a terminal alone."""
    hidden = not sys.stderr.isatty()
    return tqdm(total=total, desc=description, unit=f" {unit}", leave=False, disable=hidden)


def summarise(stage: str, sentence: str, leaky: bool = False) -> None:
    """Print the one line that a stage ends with; leaky: it says that the split is."""
    print(f"{stage}: {sentence}{' (leaky split)' if leaky else ''}", flush=True)
