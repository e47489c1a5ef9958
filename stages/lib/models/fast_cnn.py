"""A convolutional network that learns small pictures from scratch in few epochs."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from stages.lib.errors import InputError
from stages.lib.keras_runtime import keras
from stages.lib.models.input_output import head, image_input
from stages.lib.models.layers import FusedBatchNormalization, MeanOfViews, PatchWhitening, Views

layers = keras.layers

SMALLEST_SIDE = 16
STEM_SIDE = 32  # larger pictures are brought to about this side by the stem
LAST_SIDE = 4  # blocks, each of which halves the side, are added until it is below this

# The following are from the paper named below.
BATCH_NORM_MOMENTUM, BATCH_NORM_EPSILON = 0.6, 1e-12
OFFSET_FACTOR = 8.0  # the offsets of batch normalisation learn its square times as fast
HEAD_SCALE = 1 / 9


def fast_cnn(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    widths: Annotated[list[int], Field(min_length=1)] | None = None,
    stem: Annotated[int, Field(ge=2, multiple_of=2)] = 24,
    activation: Literal["gelu", "hard_silu", "relu"] = "hard_silu",
    test_views: Literal["one", "mirror", "mirror_shift"] = "mirror",
) -> keras.Model:
    """Return an untrained classifier of RGB or grey pictures, to be trained by SGD.

    input_shape: (height, width, channels), pixel values 0 to 255. widths: channels of each block
    (None: 64, then 256). stem: filters of the whitened patches (the stem is to be adapted to
    training pictures by `models.adapt`). test_views: what of a picture is judged at test time; the
    answer to several views is the mean of their logits. Output: probabilities (batch, num_classes).
    The layers are those of K. Jordan, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU,
    arXiv:2404.00498, 2024, written anew.
    """
    inputs = image_input(input_shape, "fast_cnn", SMALLEST_SIDE)
    x = inputs if test_views == "one" else Views(test_views)(inputs)
    reduction = max(round(min(input_shape[:2]) / STEM_SIDE), 1)
    x = PatchWhitening(stem, 2 * reduction, reduction)(x)
    x = layers.Activation(activation)(x)
    for width in widths or _default_widths(min(x.shape[1:3])):
        if min(x.shape[1:3]) < 2:
            raise InputError(
                f"train.options.widths of fast_cnn: {len(widths or [])} blocks are too many for "
                f"pictures of {input_shape[0]}x{input_shape[1]}; each halves the side"
            )
        x = _convolution(x, width, activation, pooled=True)
        x = _convolution(x, width, activation)
    x = layers.Rescaling(HEAD_SCALE)(layers.GlobalMaxPooling2D()(x))
    x = x if test_views == "one" else MeanOfViews(test_views)(x)
    return keras.Model(inputs, head(x, num_classes), name="fast_cnn")


def _default_widths(side: int) -> list[int]:
    """Return 64, 256, 256 … for as many blocks as bring the side below LAST_SIDE."""
    widths = [64]
    while (side := side // 2) >= LAST_SIDE:
        widths.append(256)
    return widths


def _convolution(
    x: keras.KerasTensor, channels: int, activation: str, *, pooled: bool = False
) -> keras.KerasTensor:
    convolution = layers.Conv2D(channels, 3, padding="same", use_bias=False)
    inputs, x = x.shape[-1], convolution(x)
    kernel = np.asarray(convolution.kernel).copy()
    passed = np.arange(min(inputs, channels))
    kernel[..., passed] = 0.0
    kernel[1, 1, passed, passed] = 1.0  # these filters begin by passing on what they are given
    convolution.kernel.assign(kernel)
    x = layers.MaxPooling2D()(x) if pooled else x
    x = FusedBatchNormalization(
        OFFSET_FACTOR, scale=False, momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON
    )(x)
    return layers.Activation(activation)(x)
