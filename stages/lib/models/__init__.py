"""The models that `train.model` can name: each a function from shapes to an untrained model."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, ValidationError, create_model

from stages.lib.errors import InputError
from stages.lib.keras_runtime import keras
from stages.lib.models.compact_cnn import compact_cnn
from stages.lib.models.fast_cnn import fast_cnn
from stages.lib.models.filters_kmeans import fit_filters_kmeans
from stages.lib.models.layers import PatchWhitening
from stages.lib.models.published import (
    animals_baseline,
    animals_optimised,
    cats_dogs,
    cifar_cnn_1,
    cifar_cnn_2,
    egypt_attempt,
    egypt_final,
    frames_cnn,
    mnist_cnn,
)
from stages.lib.models.transfer import transfer
from stages.lib.params import close_match
from stages.lib.seeds import rng_for

ADAPTED_TO = 5000  # pictures

MODELS: dict[str, Callable[..., keras.Model]] = {
    "compact_cnn": compact_cnn,
    "fast_cnn": fast_cnn,
    "transfer": transfer,
    "egypt_attempt": egypt_attempt,
    "egypt_final": egypt_final,
    "frames_cnn": frames_cnn,
    "animals_baseline": animals_baseline,
    "animals_optimised": animals_optimised,
    "cats_dogs": cats_dogs,
    "mnist_cnn": mnist_cnn,
    "cifar_cnn_1": cifar_cnn_1,
    "cifar_cnn_2": cifar_cnn_2,
}
# Models that are fitted at once, without gradients: functions from pictures and classes.
FITTED: dict[str, Callable[..., keras.Model]] = {"filters_kmeans": fit_filters_kmeans}


def build_model(
    name: str, input_shape: tuple[int, int, int], num_classes: int, options: Mapping[str, Any]
) -> keras.Model:
    """Return the untrained model of that name.

    input_shape: (height, width, channels); options: keywords of its function, each of which has a
    default. Raises InputError naming the key for an unknown model or option, or a wrong type.
    """
    check_options(name, options)
    return MODELS[name](input_shape, num_classes, **options)


def adapt(model: keras.Model, pictures: NDArray[np.uint8], seed: int) -> None:
    """Fit the layers that take their weights from pictures at once, without gradients.

    pictures: of train, (images, height, width, channels); a seeded sample of them is read.
    """
    stems = [layer for layer in model.layers if isinstance(layer, PatchWhitening)]
    if stems:
        drawn = rng_for(seed, "adapt").permutation(len(pictures))[:ADAPTED_TO]
        for stem in stems:
            stem.adapt(np.asarray(pictures[np.sort(drawn)]))


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Hold the options of a model against the signature of its function.

    Raises InputError naming the key for an unknown model or option, or a wrong type.
    """
    functions = MODELS | FITTED
    if name not in functions:
        raise InputError(f"train.model: unknown model {name!r}{close_match(name, functions)}")
    function = functions[name]
    types = get_type_hints(function, include_extras=True)
    known: dict[str, Any] = {
        parameter.name: (types[parameter.name], parameter.default)
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    for key in options:
        if key not in known:
            raise InputError(f"train.options: unknown option {key!r}{close_match(key, known)}")
    try:
        # Strict, so that a text is no number: the options come from params.yaml.
        create_model("Options", __config__=ConfigDict(strict=True), **known)(**options)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        raise InputError(
            f"train.options.{key}: {problem['msg']}, got {problem['input']!r}"
        ) from error
