"""Muon: orthogonal steps for filters of convolutions, plain steps for everything else."""

import numpy as np
import pytest

from stages.lib.keras_runtime import keras
from stages.lib.muon import FILTER_RATE, Muon, is_filter_bank, orthogonal
from stages.lib.training import OptimizerParams, make_optimizer

RATE = 0.5


def moved(
    optimizer: keras.optimizers.Optimizer, gradient: np.ndarray, steps: int = 1
) -> np.ndarray:
    """Return where zeros come to under a constant gradient."""
    variable = keras.Variable(np.zeros_like(gradient))
    optimizer.build([variable])
    for _ in range(steps):
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    return np.asarray(variable)


def drawn(*shape: int) -> np.ndarray:
    """Return normal numbers, the same ones for a shape in every run."""
    return np.random.default_rng(shape).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(40, 16), (16, 40), (12, 12), (1, 9)])
def test_it_turns_singular_values_into_about_one_and_keeps_the_vectors(
    shape: tuple[int, int],
) -> None:
    """Held against NumPy's decomposition, of tall, wide and square matrices."""
    matrix = drawn(*shape)
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    seen = left.T @ np.asarray(orthogonal(keras.ops.convert_to_tensor(matrix))) @ right.T
    assert np.abs(seen - np.diag(np.diag(seen))).max() < 1e-4
    strong = values / np.linalg.norm(matrix) > 0.05
    assert strong.any()
    assert np.all((np.diag(seen)[strong] > 0.5) & (np.diag(seen)[strong] < 1.25))


@pytest.mark.parametrize("momentum", [0.0, 0.85])
def test_a_step_of_filters_is_as_long_whatever_the_gradient(momentum: float) -> None:
    """A thousandth of the gradient moves them as far, and a zero gradient not at all."""
    gradient = drawn(3, 3, 4, 8)
    step = moved(Muon(RATE, momentum), gradient)
    np.testing.assert_allclose(moved(Muon(RATE, momentum), gradient / 1000), step, atol=1e-4)
    lengths = np.linalg.svd(step.reshape(-1, 8), compute_uv=False)
    assert np.all((lengths > 0.5 * RATE * FILTER_RATE) & (lengths < 1.25 * RATE * FILTER_RATE))
    assert not moved(Muon(RATE, momentum), np.zeros_like(gradient)).any()


@pytest.mark.parametrize("shape", [(5,), (6, 3), (3, 3, 4, 1)])
def test_other_weights_take_the_steps_of_sgd(shape: tuple[int, ...]) -> None:
    """Offsets, dense layers and depthwise filters move as by Keras' own optimiser."""
    assert not is_filter_bank(shape)
    params = OptimizerParams("muon", momentum=0.9, weight_decay=0.01)
    plain = OptimizerParams("sgd", momentum=0.9, weight_decay=0.01)
    ours, theirs = (moved(make_optimizer(p, RATE), drawn(*shape), 4) for p in (params, plain))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_weight_decay_bounds_the_length_of_filters() -> None:
    """Without it they would grow with every step of the same direction."""
    gradient = drawn(3, 3, 4, 8)
    bounded, free = (
        moved(make_optimizer(OptimizerParams("muon", 0.85, decay), RATE), gradient, 60)
        for decay in (0.2, 0.0)
    )
    assert np.linalg.norm(bounded) < 0.3 * np.linalg.norm(free)
