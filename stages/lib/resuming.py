"""Keeps what a training run needs to go on after it was killed, outside the pipeline's outputs."""

import hashlib
import io
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.lib.distribution import ALONE, Distribution

Weights = list[NDArray[Any]]
LATEST = "latest.npz"


class Moment(NamedTuple):
    """The end of an epoch. history: a row of figures per epoch; state: every variable that the
    next epoch changes or reads; best: the weights of the best epoch so far.
    """

    history: list[dict[str, float]]
    state: Weights
    best: Weights


class Checkpoints:
    """The latest moment of one training run, found again by what went into the run.

    Of several workers the chief keeps it, and all go on from the chief's; the folder of another one
    is for work that it can do again.
    """

    def __init__(self, folder: Path, key: str, distribution: Distribution = ALONE) -> None:
        self.distribution = distribution
        self.folder = folder / (key if distribution.is_chief else f"{key}-{distribution.rank}")

    def save(self, moment: Moment) -> None:
        """Write a moment; it takes the place of the one before all at once or not at all."""
        if not self.distribution.is_chief:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {f"state_{n:05}": array for n, array in enumerate(moment.state)}
        arrays |= {f"best_{n:05}": array for n, array in enumerate(moment.best)}
        history = np.frombuffer(json.dumps(moment.history).encode(), np.uint8)
        unfinished = self.folder / "unfinished.npz"
        np.savez(unfinished, history=history, **arrays)
        unfinished.replace(self.folder / LATEST)

    def load(self) -> Moment | None:
        """Return the latest moment; None where there is none."""
        path = self.folder / LATEST
        own = path.read_bytes() if self.distribution.is_chief and path.exists() else None
        stored = self.distribution.from_chief(own)
        if stored is None:
            return None
        with np.load(io.BytesIO(stored)) as arrays:
            history = json.loads(arrays["history"].tobytes())
            state, best = (
                [arrays[name] for name in sorted(arrays.files) if name.startswith(part)]
                for part in ("state_", "best_")
            )
        return Moment(history, state, best)

    def part(self, name: str) -> "Checkpoints":
        """Return the moments of a part of the run; they go with the whole."""
        return Checkpoints(self.folder, name, self.distribution)

    def remove(self) -> None:
        """Forget the run: it has come to its end."""
        shutil.rmtree(self.folder, ignore_errors=True)


def run_key(parts: Iterable[object], files: Iterable[Path]) -> str:
    """Return a name for a run: equal only where all the parts and the content of the files are."""
    digest = hashlib.sha256(repr(list(parts)).encode())
    for path in sorted(files):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:32]
