"""Schedules: every kind's values, and the plateau of Keras."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.lib.keras_runtime import keras
from stages.lib.schedules import (
    ScheduleParams,
    best_epoch,
    is_exhausted,
    learning_rate,
    plateau_drops,
)

PARAMS = ScheduleParams("constant", warmup=0.0, patience=2, factor=0.5, minimum=0.1)


def rates(
    kind: str, *at: float, warmup: float = 0.0, losses: tuple[float, ...] = ()
) -> list[float]:
    """Return the rates of a schedule of 10 epochs with a peak of 8."""
    params = replace(PARAMS, kind=kind, warmup=warmup)
    return [learning_rate(params, 8.0, 10, moment, losses) for moment in at]


@pytest.mark.parametrize(
    ("kind", "at", "expected"),
    [
        ("constant", (0, 3.7, 9.9), [8, 8, 8]),
        ("exponential", (0, 0.9, 1, 2.5, 9), [8, 8, 4, 2, 0.1]),
        ("cosine", (0, 2.5, 5, 10), [8, 0.1 + 7.9 * (1 + 0.5**0.5) / 2, 4.05, 0.1]),
        ("one_cycle", (0, 2.5, 5, 10), [8, 6.025, 4.05, 0.1]),
    ],
)
def test_a_schedule_goes_as_its_name_says(
    kind: str, at: tuple[float, ...], expected: list[float]
) -> None:
    assert rates(kind, *at) == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["constant", "plateau", "exponential", "cosine", "one_cycle"])
def test_every_schedule_rises_from_nothing_over_its_warm_up(kind: str) -> None:
    assert rates(kind, 0, 1, 1.5, warmup=0.2) == pytest.approx([0, 4, 6])


@pytest.mark.parametrize("kind", ["cosine", "one_cycle"])
def test_after_the_warm_up_the_way_down_begins_at_the_peak(kind: str) -> None:
    assert rates(kind, 2, 6, 10, warmup=0.2) == pytest.approx([8, 4.05, 0.1])


def test_a_plateau_halves_the_rate_down_to_the_minimum() -> None:
    losses = (1.0, *[1.0] * 20)

    assert rates("plateau", 0, losses=losses[:1]) == [8]
    assert rates("plateau", 3, losses=losses[:3]) == [4]
    assert rates("plateau", 5, losses=losses[:5]) == [2]
    assert rates("plateau", 21, losses=losses) == [0.1]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([0.5, 0.49995, 0.6, 0.4, 0.3]), max_size=15), st.integers(1, 4))
def test_the_plateau_is_that_of_keras(losses: list[float], patience: int) -> None:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(1.0))
    callback = keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=patience)
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, loss in enumerate(losses):
        callback.on_epoch_end(epoch, {"val_loss": loss})

    drops = plateau_drops(losses, patience)

    assert np.float32(0.5**drops) == np.asarray(model.optimizer.learning_rate)


@pytest.mark.parametrize(
    ("losses", "best", "stops"),
    [
        ([3.0], 0, False),
        ([3.0, 2.0, 2.5], 1, False),
        ([3.0, 2.0, 2.5, 2.1], 1, True),
        ([3.0, 2.0, 2.5, 1.9], 3, False),
        ([2.0, 2.0, 2.0], 0, True),
    ],
)
def test_training_stops_after_two_epochs_without_a_gain(
    losses: list[float], best: int, stops: bool
) -> None:
    assert best_epoch(losses) == best
    assert is_exhausted(losses, 2) == stops
