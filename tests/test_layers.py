"""Layers of our own: each equals a plain computation with numpy, and is known by name."""

import numpy as np
import pytest

from stages.lib.keras_runtime import keras, tf
from stages.lib.models import layers
from stages.lib.models.layers import (
    OWN_LAYERS,
    BlockAverage,
    BothClasses,
    ClassesOfClusters,
    FusedBatchNormalization,
    ReversedChannels,
)


def test_both_classes_are_one_minus_the_sigmoid_and_the_sigmoid() -> None:
    logits = np.array([[-30.0], [-1.0], [0.0], [2.5]], np.float32)

    both = np.asarray(BothClasses()(logits))

    second = 1 / (1 + np.exp(-logits[:, 0]))
    np.testing.assert_allclose(both, np.stack([1 - second, second], axis=1), atol=1e-7)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_yes_or_no_that_is_surely_wrong_still_has_a_gradient(compiled: bool) -> None:
    def gradient(logit: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(logit)
            probabilities = BothClasses()(logit)
            loss = keras.losses.sparse_categorical_crossentropy(np.array([0]), probabilities)
        return tape.gradient(loss, logit)

    found = (tf.function(gradient) if compiled else gradient)(tf.constant([[40.0]]))

    np.testing.assert_allclose(found, [[1]], rtol=1e-6)


def test_reversed_channels_turn_rgb_into_bgr() -> None:
    pictures = np.random.default_rng(0).normal(size=(2, 4, 5, 3)).astype(np.float32)

    np.testing.assert_array_equal(ReversedChannels()(pictures), pictures[..., ::-1])


@pytest.mark.parametrize("values", [12, 13, 17, 5])
def test_block_averages_are_those_of_the_blocks_that_numpy_cuts(values: int) -> None:
    rows = np.random.default_rng(0).normal(size=(3, values)).astype(np.float32)

    averages = BlockAverage(5)(rows)

    expected = [[block.mean() for block in np.array_split(row, 5)] for row in rows]
    np.testing.assert_allclose(averages, expected, rtol=1e-5, atol=1e-6)


def test_the_best_cluster_of_each_class_speaks_for_it() -> None:
    # Three clusters of class 2 nearly as good as the one of class 0 do not outvote it.
    scores = np.array([[3.0, 2.9, 2.9, 2.9], [0.0, 8.0, 1.0, -4.0]], np.float32)

    found = np.asarray(ClassesOfClusters([0, 2, 2, 2], 4, temperature=2.0)(scores))

    best = np.exp(np.array([[3.0, 2.9], [0.0, 8.0]]) / 2)
    expected = np.zeros((2, 4))
    expected[:, [0, 2]] = best / best.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert (found[:, [1, 3]] == 0).all()


def test_every_layer_of_our_own_is_known_by_name() -> None:
    own = {
        name: value
        for name, value in vars(layers).items()
        if isinstance(value, type) and value.__module__ == layers.__name__
    }

    assert own == OWN_LAYERS


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_the_fused_batch_normalisation_keeps_32_bit_statistics_under_mixed_precision(
    policy: str,
) -> None:
    pictures = np.random.default_rng(0).normal(2, 3, (16, 6, 6, 4)).astype(np.float32)
    fused = FusedBatchNormalization(momentum=0.5, dtype=policy)
    plain = keras.layers.BatchNormalization(momentum=0.5)

    outputs = fused(pictures, training=True)
    plain(pictures, training=True)

    assert outputs.dtype == policy.removeprefix("mixed_")
    assert {weight.dtype for weight in fused.weights} == {"float32"}
    np.testing.assert_allclose(fused.moving_mean, plain.moving_mean, rtol=1e-2)
    np.testing.assert_allclose(fused.moving_variance, plain.moving_variance, rtol=1e-2)
