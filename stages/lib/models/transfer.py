"""A network that others have trained on ImageNet, with a new head for the classes at hand."""

import inspect
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from stages.lib.errors import InputError
from stages.lib.keras_runtime import keras
from stages.lib.models.input_output import Count, Share, head
from stages.lib.models.layers import ReversedChannels
from stages.lib.params import close_match

layers = keras.layers

BACKBONES = tuple(name for name, _ in inspect.getmembers(keras.applications, inspect.isfunction))

# Of ImageNet's pixels from 0 to 1: what EfficientNet's own first layers normalise by.
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406])
IMAGENET_STANDARD_DEVIATION = np.array([0.229, 0.224, 0.225])


def transfer(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    backbone: str = "MobileNetV2",
    weights: str = "imagenet",
    hidden: Count = 128,
    dropout: Share = 0.0,
) -> keras.Model:
    """Return a frozen backbone with global average pooling, one dense layer and an untrained head.

    input_shape: (height, width, 1 or 3), pixel values 0 to 255; what the backbone expects instead
    is made inside the model, and a grey picture is repeated in three channels.
    backbone: a network of keras.applications by name. weights: imagenet (fetched and kept by
    Keras), none (random), or a file of the backbone without its top, .weights.h5 or .h5.
    hidden: units of the dense layer; dropout: share of them left out. Output: probabilities (batch,
    num_classes).

    The backbone always runs as in inference, so that its batch normalisation keeps the statistics
    of ImageNet, also while some of its layers are trained.
    Raises InputError for an unknown backbone, too small pictures and weights that do not fit.
    """
    if backbone not in BACKBONES:
        raise InputError(
            f"{backbone!r} is no backbone of keras.applications{close_match(backbone, BACKBONES)}"
        )
    network = _load_backbone(backbone, weights, input_shape[:2])
    network.trainable = False
    inputs = layers.Input(input_shape, name="image")
    x = inputs if input_shape[2] == 3 else layers.Concatenate()([inputs, inputs, inputs])
    x = network(preprocess(x, backbone, from_file=_is_file(weights)), training=False)
    x = layers.GlobalAveragePooling2D(name="features")(x)
    x = layers.Dense(hidden, activation="relu")(x)
    x = layers.Dropout(dropout)(x)
    return keras.Model(inputs, head(x, num_classes), name="transfer")


def features(model: keras.Model) -> keras.Model:
    """Return the part of a transfer model up to the pooled features, (batch, channels).

    It shares its weights with the model. While the backbone is frozen the features of a picture
    never change, so that they can be computed once for all epochs.
    """
    return keras.Model(model.input, model.get_layer("features").output, name="features")


def free_from(model: keras.Model, layer_number: int) -> None:
    """Let a transfer model's backbone be trained from a layer on, counted from 0; compile it anew.

    Batch normalisation stays frozen, and so do all layers before. Raises InputError for a number
    that the backbone does not have.
    """
    network = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    if not 0 <= layer_number < len(network.layers):
        raise InputError(
            f"the backbone {network.name} has layers 0 to {len(network.layers) - 1}, got "
            f"{layer_number} as the first one to train"
        )
    network.trainable = True
    for number, layer in enumerate(network.layers):
        is_batch_norm = isinstance(layer, layers.BatchNormalization)
        layer.trainable = number >= layer_number and not is_batch_norm


def preprocess(x: keras.KerasTensor, backbone: str, from_file: bool = False) -> keras.KerasTensor:
    """Return what a backbone expects in place of RGB pixels from 0 to 255, by layers.

    Every `preprocess_input` of keras.applications is an affine map of each channel, and may turn
    the channels round; so three pictures of one pixel tell all about it.
    from_file: the backbone's weights are those of a file; see `_efficientnet_map`.
    """
    module: Any = inspect.getmodule(getattr(keras.applications, backbone))
    black, white, red = np.zeros((1, 1, 1, 3)), np.full((1, 1, 1, 3), 255.0), np.zeros((1, 1, 1, 3))
    red[..., 0] = 255.0
    low, high, of_red = (module.preprocess_input(p.copy()).ravel() for p in (black, white, red))
    if of_red[2] != low[2]:
        x = ReversedChannels()(x)
    scale, offset = (high - low) / 255, low
    if from_file and re.fullmatch(r"EfficientNetB\d", backbone):
        scale, offset = _efficientnet_map()
    if np.all(scale == 1) and np.all(offset == 0):
        return x
    return layers.Rescaling(scale.tolist(), offset.tolist(), dtype="float32")(x)


def _efficientnet_map() -> tuple[np.ndarray, np.ndarray]:
    """Return the factor and the summand of each channel for EfficientNet with weights from a file.

    With its ImageNet weights, keras.applications.EfficientNetB0 to B7 divide the normalised pixels
    by the root of the standard deviation once more, as the network was trained; with the same
    weights from a file they do not. This map of pixels from 0 to 255 has the same effect.
    """
    factor = 1 / np.sqrt(IMAGENET_STANDARD_DEVIATION)
    return factor, 255 * IMAGENET_MEAN * (1 - factor)


def _is_file(weights: str) -> bool:
    return weights not in ("imagenet", "none")


def _load_backbone(backbone: str, weights: str, size: tuple[int, int]) -> keras.Model:
    """Return the backbone for pictures of a size, (height, width), without its top."""
    if _is_file(weights) and not Path(weights).is_file():
        raise InputError(
            f"the weights file {weights} is missing; put it there, or name imagenet or none"
        )
    build = getattr(keras.applications, backbone)
    try:
        with warnings.catch_warnings():
            # What ImageNet's pictures measured is no matter to filters, which take any size.
            warnings.filterwarnings("ignore", "`input_shape` is undefined", UserWarning)
            network = build(
                weights="imagenet" if weights == "imagenet" else None,
                include_top=False,
                input_shape=(*size, 3),
            )
    except ValueError as error:
        if "at least" not in str(error):
            raise
        raise InputError(
            f"{backbone} does not take pictures of {size[0]}x{size[1]} (height x width): {error}; "
            "raise augment.height and augment.width, or choose another backbone"
        ) from error
    except Exception as error:  # Keras raises this very class where it cannot fetch a file
        if "URL fetch failure" not in str(error):
            raise
        raise InputError(
            f"the ImageNet weights of {backbone} cannot be fetched ({error}); fetch them elsewhere "
            "and name the file in train.options.weights and in train.watch"
        ) from error
    if _is_file(weights):
        _load_weights(network, backbone, weights)
    return network


def _load_weights(network: keras.Model, backbone: str, path: str) -> None:
    """Load a file's weights; raises InputError where it is no such file, or not this backbone's."""
    unset = [np.full_like(w, np.nan) if w.dtype.kind == "f" else w for w in network.get_weights()]
    network.set_weights(unset)
    try:
        with warnings.catch_warnings():
            # Keras warns of parts that files of its older versions lack, though they are there
            # under another name; whether all has been loaded is seen below.
            warnings.filterwarnings("ignore", "Skipping nested container", UserWarning)
            network.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise _misfit(backbone, path, reason) from error
    missing = [w.path for w in network.weights if np.isnan(np.sum(w.numpy()))]
    if missing:
        raise _misfit(backbone, path, f"no values for {len(missing)} weights, as {missing[0]}")


def _misfit(backbone: str, path: str, reason: str) -> InputError:
    return InputError(
        f"{path} does not hold the weights of {backbone} without its top ({reason}); name the "
        "backbone that it was made of, or another file"
    )
