"""Published networks: the printed number of parameters, any size of picture, saved and loaded."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from stages.lib.errors import InputError
from stages.lib.keras_runtime import keras
from stages.lib.models import published
from stages.lib.models.layers import OWN_LAYERS

# Function, (height, width, channels), classes, printed parameters.
PRINTED = [
    (published.egypt_attempt, (224, 224, 3), 21, 89_004_373),
    (published.egypt_final, (256, 256, 3), 21, 118_364_501),
    (published.frames_cnn, (240, 360, 3), 6, 170_422),
    (published.animals_baseline, (128, 128, 3), 10, 3_305_930),
    (published.animals_optimised, (128, 128, 3), 10, 1_706_442),
    (published.cats_dogs, (256, 256, 3), 2, 3_696_625),
    (published.mnist_cnn, (28, 28, 1), 10, 225_034),
    (published.cifar_cnn_1, (32, 32, 3), 10, 621_258),
    (published.cifar_cnn_2, (32, 32, 3), 10, 458_698),
]
NETWORKS = [row[0] for row in PRINTED]

Network = Callable[..., keras.Model]

every_network = pytest.mark.parametrize("network", NETWORKS, ids=lambda f: f.__name__)


@pytest.fixture
def without_values() -> Iterator[None]:
    """Build models whose weights have a shape but no values: half a gigabyte less for the test."""
    with keras.StatelessScope(initialize_variables=False):
        yield
    keras.utils.clear_session()  # or the next model's values would bring these along


@pytest.fixture
def mixed_precision() -> Iterator[None]:
    """Compute in 16 bits for one test."""
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    yield
    keras.mixed_precision.set_global_policy(before)


def smallest_side(network: Network) -> int:
    """Return the smallest side that the network names where it refuses a picture."""
    with pytest.raises(InputError, match=network.__name__) as refusal:
        network((1, 1, 3), 3)
    return int(re.search(r"at least (\d+)x", str(refusal.value)).group(1))


def random_pictures(shape: tuple[int, int, int], count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def kinds(model: keras.Model) -> list[str]:
    return [type(layer).__name__ for layer in model.layers]


@pytest.mark.usefixtures("without_values")
@pytest.mark.parametrize(("network", "shape", "num_classes", "parameters"), PRINTED)
def test_a_network_has_exactly_the_printed_number_of_parameters(
    network: Network, shape: tuple[int, int, int], num_classes: int, parameters: int
) -> None:
    assert network(shape, num_classes).count_params() == parameters


@every_network
def test_the_smallest_side_is_what_leaves_one_pixel_after_the_last_pooling(
    network: Network,
) -> None:
    model = network((smallest_side(network), 400, 3), 3)

    side = 1
    for layer in reversed(model.layers):
        if isinstance(layer, keras.layers.MaxPooling2D):
            side *= 2
        if isinstance(layer, keras.layers.Conv2D) and layer.padding == "valid":
            side += layer.kernel_size[0] - 1
    assert side == smallest_side(network)


@every_network
def test_a_picture_one_pixel_too_small_is_refused_with_a_remedy(network: Network) -> None:
    side = smallest_side(network)

    with pytest.raises(InputError, match=f"{side}x{side}, got 400x{side - 1} .*augment.height"):
        network((400, side - 1, 3), 3)


@every_network
@pytest.mark.parametrize(("channels", "num_classes"), [(3, 4), (1, 2)])
def test_a_network_loads_back_to_equal_probabilities(
    network: Network, channels: int, num_classes: int, tmp_path: Path
) -> None:
    side = smallest_side(network)
    shape = (side, side + 3, channels)
    model = network(shape, num_classes)
    model.save_weights(tmp_path / "model.weights.h5")

    loaded = keras.models.model_from_json(model.to_json(), custom_objects=OWN_LAYERS)
    loaded.load_weights(tmp_path / "model.weights.h5")

    probabilities = np.asarray(model(random_pictures(shape)))
    assert probabilities.shape == (2, num_classes)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(loaded(random_pictures(shape)), probabilities)


@pytest.mark.usefixtures("mixed_precision")
@pytest.mark.parametrize("num_classes", [2, 3])
def test_probabilities_have_32_bits_whatever_the_layers_before_compute_in(
    num_classes: int,
) -> None:
    model = published.cifar_cnn_2((16, 16, 3), num_classes)

    probabilities = model(random_pictures((16, 16, 3)))

    assert model.layers[-4].compute_dtype == "bfloat16"
    assert probabilities.dtype == "float32"
    np.testing.assert_allclose(np.sum(probabilities, axis=1), 1, rtol=1e-6)


def test_pixels_are_scaled_to_one_within_the_network() -> None:
    model = published.mnist_cnn((28, 28, 1), 10)
    scaled = keras.Model(model.input, model.layers[1].output)

    np.testing.assert_allclose(
        scaled(np.full((1, 28, 28, 1), 255, np.uint8)), np.ones((1, 28, 28, 1)), rtol=1e-6
    )


@every_network
def test_batch_normalisation_follows_every_convolution_or_none(network: Network) -> None:
    side = smallest_side(network)
    convolution, normalisation = "Conv2D", "FusedBatchNormalization"

    found_with = kinds(network((side, side, 3), 3, batch_norm=True))
    found_without = kinds(network((side, side, 3), 3, batch_norm=False))

    after = [b for a, b in zip(found_with, found_with[1:], strict=False) if a == convolution]
    assert set(after) == {normalisation}
    assert normalisation not in found_without


@every_network
def test_l2_penalises_every_kernel_but_that_of_the_head(network: Network) -> None:
    side = smallest_side(network)

    model = network((side, side, 3), 3, l2=0.01)

    kernels = [w for w in model.trainable_weights if w.name == "kernel"]
    expected = 0.01 * sum(float(np.sum(np.square(w.numpy()))) for w in kernels[:-1])
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-4)
    assert not network((side, side, 3), 3, l2=0.0).losses


@every_network
def test_dropout_reaches_the_dense_layers(network: Network) -> None:
    side = smallest_side(network)

    model = network((side, side, 3), 3, dropout=0.35)

    last_but_head = model.layers[-2]
    assert isinstance(last_but_head, keras.layers.Dropout)
    assert last_but_head.rate == 0.35
