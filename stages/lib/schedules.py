"""Learning rates: functions of how far training has come, so that a resumed run needs no memory."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from stages.lib.params import STRICT

Factor = Annotated[float, Field(gt=0, lt=1)]
NOTICEABLE = 1e-4  # a smaller gain of the validation loss is none, as in Keras' ReduceLROnPlateau


@dataclass(frozen=True, config=STRICT)
class ScheduleParams:
    """How the learning rate goes from train.learning_rate; the section train.schedule.

    kind: constant; plateau (times factor after `patience` epochs without a better validation
    loss); exponential (times factor every epoch); cosine (half a cosine, down to the minimum at
    the last epoch); one_cycle (up linearly over the warm-up, then down linearly to the minimum).
    warmup: the share of the epochs in which the rate rises linearly from 0, in every kind.
    minimum: the rate falls no lower.
    """

    kind: Literal["constant", "plateau", "exponential", "cosine", "one_cycle"]
    warmup: Annotated[float, Field(ge=0, lt=1)]
    patience: Annotated[int, Field(ge=1)]
    factor: Factor
    minimum: Annotated[float, Field(ge=0)]


def learning_rate(
    params: ScheduleParams, peak: float, epochs: int, at: float, val_losses: Sequence[float]
) -> float:
    """Return the learning rate `at` so many epochs from the start, parts of one included.

    peak: the highest rate; epochs: how many there are in all; val_losses: of the epochs done.
    """
    rise = params.warmup * epochs
    if at < rise:
        return peak * at / rise
    done = (at - rise) / (epochs - rise)
    if params.kind == "plateau":
        drops = plateau_drops(val_losses, params.patience)
        return max(peak * params.factor**drops, params.minimum)
    if params.kind == "exponential":
        return float(max(peak * params.factor ** math.floor(at), params.minimum))
    if params.kind == "cosine":
        share = (1 + math.cos(math.pi * done)) / 2
        return params.minimum + (peak - params.minimum) * share
    if params.kind == "one_cycle":
        return params.minimum + (peak - params.minimum) * (1 - done)
    return peak


def plateau_drops(val_losses: Sequence[float], patience: int) -> int:
    """Return how often `patience` epochs in a row brought no better validation loss.

    The count starts anew after a drop, as in Keras' ReduceLROnPlateau without a cool-down.
    """
    best, waited, drops = math.inf, 0, 0
    for loss in val_losses:
        if loss < best - NOTICEABLE:
            best, waited = loss, 0
            continue
        waited += 1
        if waited >= patience:
            drops, waited = drops + 1, 0
    return drops


def is_exhausted(val_losses: Sequence[float], patience: int) -> bool:
    """Tell whether the last `patience` epochs brought no better validation loss."""
    return len(val_losses) - 1 - best_epoch(val_losses) >= patience


def best_epoch(val_losses: Sequence[float]) -> int:
    """Return the number, from 0, of the first epoch with the lowest validation loss."""
    return min(range(len(val_losses)), key=lambda epoch: val_losses[epoch])
