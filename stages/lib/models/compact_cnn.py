"""A small convolutional network to train from scratch on a CPU."""

from typing import Annotated

from pydantic import Field

from stages.lib.keras_runtime import keras
from stages.lib.models.input_output import head, image_input
from stages.lib.models.layers import FusedBatchNormalization

layers = keras.layers

SMALLEST_SIDE = 8
SMALL_SIDE = 48  # below this the stem keeps the full resolution; above it, it reduces it by four
LAST_SIDE = 8  # blocks are added until the picture is about this small

# Some hundred steps train a small data set; Keras' default of 0.99 would still remember the first
# ones.
BATCH_NORM_MOMENTUM = 0.9


def compact_cnn(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    width: Annotated[int, Field(ge=4)] = 32,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3,
) -> keras.Model:
    """Return an untrained classifier of RGB or grey pictures.

    input_shape: (height, width, channels), pixel values 0 to 255; scaling is part of the model.
    width: channels of the stem, doubled by every block. Output: probabilities (batch, num_classes).
    """
    inputs = image_input(input_shape, "compact_cnn", SMALLEST_SIDE)
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(inputs)
    side = min(input_shape[:2])
    if side >= SMALL_SIDE:
        x = _convolution(x, width, kernel=5, strides=2)
        side //= 2
    else:
        x = _convolution(x, width, kernel=3)
    channels = width
    while True:
        x = layers.MaxPooling2D()(x)
        side //= 2
        channels *= 2
        x = _convolution(x, channels, kernel=3)
        x = _convolution(x, channels, kernel=3)
        if side <= LAST_SIDE:
            break
    x = layers.GlobalAveragePooling2D()(layers.MaxPooling2D()(x))
    x = layers.Dropout(dropout)(x)
    return keras.Model(inputs, head(x, num_classes), name="compact_cnn")


def _convolution(
    x: keras.KerasTensor, channels: int, kernel: int, strides: int = 1
) -> keras.KerasTensor:
    x = layers.Conv2D(channels, kernel, strides=strides, padding="same", use_bias=False)(x)
    x = FusedBatchNormalization(momentum=BATCH_NORM_MOMENTUM)(x)
    return layers.ReLU()(x)
