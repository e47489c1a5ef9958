"""Models: shapes, scaling inside, and layers that equal Keras' own."""

import numpy as np
import pytest

from stages.lib.keras_runtime import keras, make_deterministic
from stages.lib.models import MODELS
from stages.lib.models.compact_cnn import compact_cnn
from stages.lib.models.layers import FusedBatchNormalization


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", [(32, 32, 3), (64, 48, 3), (96, 96, 3)])
def test_a_model_turns_pictures_of_any_shape_into_probabilities(
    name: str, shape: tuple[int, int, int]
) -> None:
    model = MODELS[name](shape, 5, 8, 0.3)
    pictures = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)

    probabilities = np.asarray(model(pictures))

    assert probabilities.shape == (3, 5)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_equal_seeds_give_equal_weights_and_other_seeds_others() -> None:
    def weights(seed: int) -> list[np.ndarray]:
        make_deterministic(seed)
        return [np.asarray(w) for w in compact_cnn((32, 32, 3), 4, 8, 0.0).get_weights()]

    first, again, other = weights(1), weights(1), weights(2)

    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("training", [True, False])
def test_the_fused_batch_normalisation_equals_that_of_keras(training: bool) -> None:
    pictures = np.random.default_rng(0).normal(2, 3, (64, 6, 6, 4)).astype(np.float32)
    fused = FusedBatchNormalization(momentum=0.9)
    plain = keras.layers.BatchNormalization(momentum=0.9)
    for _ in range(20):
        fused(pictures, training=True)
        plain(pictures, training=True)

    np.testing.assert_allclose(
        fused(pictures, training=training), plain(pictures, training=training), atol=2e-3
    )
    np.testing.assert_allclose(fused.moving_mean, plain.moving_mean, rtol=1e-5)
    np.testing.assert_allclose(fused.moving_variance, plain.moving_variance, rtol=1e-3)
