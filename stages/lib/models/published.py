"""Published networks to train from scratch, layer by layer as their authors describe them.

Each takes pixel values 0 to 255 (scaling to 0 to 1 is part of it) and adapts to the size and the
number of classes of the data at hand. With those of its authors, which its docstring gives, it has
exactly the number of parameters that they printed. The options' defaults are the published values:

dropout: share of the units left out around the dense layers; batch_norm: normalise the output of
every convolution over the batch; l2: factor of the squared kernels of all layers but the last in
the loss.
"""

from typing import Annotated

from pydantic import Field

from stages.lib.keras_runtime import keras
from stages.lib.models.input_output import Share, head, image_input
from stages.lib.models.layers import FusedBatchNormalization

layers = keras.layers

Factor = Annotated[float, Field(ge=0)]


def egypt_attempt(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    dropout: Share = 0.2,
    block_dropout: Share = 0.1,
    batch_norm: bool = False,
    l2: Factor = 0.0,
) -> keras.Model:
    """Return the first network for Egyptian monuments: (224, 224, 3), 21 classes, 89,004,373.

    block_dropout: share of the values left out after every pooling.
    """
    inputs = image_input(input_shape, "egypt_attempt", smallest_side=24)
    x = layers.Rescaling(1 / 255)(inputs)
    for channels in ((32, 64), (128,), (256,)):
        x = _block(x, channels, batch_norm=batch_norm, l2=l2)
        x = layers.Dropout(block_dropout)(x)
    x = _dense(layers.Flatten()(x), 512, dropout, l2)
    return keras.Model(inputs, head(x, num_classes), name="egypt_attempt")


def egypt_final(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    dropout: Share = 0.1,
    batch_norm: bool = False,
    l2: Factor = 0.0,
) -> keras.Model:
    """Return the final network for Egyptian monuments: (256, 256, 3), 21 classes, 118,364,501."""
    inputs = image_input(input_shape, "egypt_final", smallest_side=24)
    x = layers.Rescaling(1 / 255)(inputs)
    for channels in ((32, 64), (128,), (256,)):
        x = _block(x, channels, batch_norm=batch_norm, l2=l2)
    x = _dense(layers.Flatten()(x), 512, dropout, l2)
    return keras.Model(inputs, head(x, num_classes), name="egypt_final")


def frames_cnn(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    dropout: Share = 0.0,
    batch_norm: bool = False,
    l2: Factor = 0.0,
) -> keras.Model:
    """Return the network for frames of films: (240, 360, 3), 6 classes, 170,422.

    Its kernels grow with depth, and its dense layer is a sigmoid one.
    """
    inputs = image_input(input_shape, "frames_cnn", smallest_side=174)
    x = layers.Rescaling(1 / 255)(inputs)
    for channels, kernel in ((32, 3), (64, 3), (64, 3), (32, 5), (16, 7)):
        x = _block(x, (channels,), kernel, batch_norm=batch_norm, l2=l2)
    x = _dense(layers.Flatten()(x), 128, dropout, l2, activation="sigmoid")
    return keras.Model(inputs, head(x, num_classes), name="frames_cnn")


def animals_baseline(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    dropout: Share = 0.5,
    batch_norm: bool = False,
    l2: Factor = 0.0,
) -> keras.Model:
    """Return the first network for Animals-10: (128, 128, 3), 10 classes, 3,305,930."""
    inputs = image_input(input_shape, "animals_baseline", smallest_side=22)
    x = layers.Rescaling(1 / 255)(inputs)
    for channels in (32, 64, 128):
        x = _block(x, (channels,), batch_norm=batch_norm, l2=l2)
    x = _dense(layers.Flatten()(x), 128, dropout, l2)
    return keras.Model(inputs, head(x, num_classes), name="animals_baseline")


def animals_optimised(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    dropout: Share = 0.5,
    batch_norm: bool = True,
    l2: Factor = 0.0,
) -> keras.Model:
    """Return the final network for Animals-10: (128, 128, 3), 10 classes, 1,706,442.

    Its authors trained it with an l2 whose value they do not state.
    """
    inputs = image_input(input_shape, "animals_optimised", smallest_side=94)
    x = layers.Rescaling(1 / 255)(inputs)
    for channels in (32, 64, 128, 256, 512):
        x = _block(x, (channels,), batch_norm=batch_norm, l2=l2)
    x = _dense(layers.GlobalAveragePooling2D()(x), 256, dropout, l2)
    return keras.Model(inputs, head(x, num_classes), name="animals_optimised")


def cats_dogs(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    dropout: Share = 0.0,
    batch_norm: bool = False,
    l2: Factor = 0.0,
) -> keras.Model:
    """Return the network for cats and dogs: (256, 256, 3), 2 classes, 3,696,625."""
    inputs = image_input(input_shape, "cats_dogs", smallest_side=22)
    x = layers.Rescaling(1 / 255)(inputs)
    for channels in (16, 32, 16):
        x = _block(x, (channels,), batch_norm=batch_norm, l2=l2)
    x = _dense(layers.Flatten()(x), 256, dropout, l2)
    return keras.Model(inputs, head(x, num_classes), name="cats_dogs")


def mnist_cnn(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    dropout: Share = 0.5,
    batch_norm: bool = False,
    l2: Factor = 0.0,
) -> keras.Model:
    """Return the network for handwritten digits: (28, 28, 1), 10 classes, 225,034."""
    inputs = image_input(input_shape, "mnist_cnn", smallest_side=10)
    x = layers.Rescaling(1 / 255)(inputs)
    for channels in (32, 64):
        x = _block(x, (channels,), batch_norm=batch_norm, l2=l2)
    x = _dense(layers.Flatten()(x), 128, dropout, l2)
    return keras.Model(inputs, head(x, num_classes), name="mnist_cnn")


def cifar_cnn_1(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    dropout: Share = 0.5,
    batch_norm: bool = True,
    l2: Factor = 0.0,
) -> keras.Model:
    """Return the first network for CIFAR-10: (32, 32, 3), 10 classes, 621,258."""
    inputs = image_input(input_shape, "cifar_cnn_1", smallest_side=8)
    x = layers.Rescaling(1 / 255)(inputs)
    for channels in (32, 64, 128):
        x = _block(x, (channels,), padding="same", batch_norm=batch_norm, l2=l2)
    x = layers.Dropout(dropout)(layers.Flatten()(x))
    x = _dense(x, 256, dropout, l2)
    return keras.Model(inputs, head(x, num_classes), name="cifar_cnn_1")


def cifar_cnn_2(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    dropout: Share = 0.5,
    batch_norm: bool = True,
    l2: Factor = 0.001,
) -> keras.Model:
    """Return the second network for CIFAR-10: (32, 32, 3), 10 classes, 458,698."""
    inputs = image_input(input_shape, "cifar_cnn_2", smallest_side=16)
    x = layers.Rescaling(1 / 255)(inputs)
    for channels in (32, 64, 128, 256):
        # Without padding, 32 pixels would not last for four blocks.
        x = _block(x, (channels,), padding="same", batch_norm=batch_norm, l2=l2)
    x = layers.Dropout(dropout)(layers.GlobalAveragePooling2D()(x))
    x = _dense(x, 256, dropout, l2)
    return keras.Model(inputs, head(x, num_classes), name="cifar_cnn_2")


def _block(
    x: keras.KerasTensor,
    channels: tuple[int, ...],
    kernel: int = 3,
    padding: str = "valid",
    *,
    batch_norm: bool,
    l2: float,
) -> keras.KerasTensor:
    """Convolve once for each entry of channels, then halve the picture by max pooling."""
    for number in channels:
        x = layers.Conv2D(
            number, kernel, padding=padding, activation="relu", kernel_regularizer=_penalty(l2)
        )(x)
        if batch_norm:
            x = FusedBatchNormalization()(x)
    return layers.MaxPooling2D()(x)


def _dense(
    x: keras.KerasTensor, units: int, dropout: float, l2: float, activation: str = "relu"
) -> keras.KerasTensor:
    x = layers.Dense(units, activation=activation, kernel_regularizer=_penalty(l2))(x)
    return layers.Dropout(dropout)(x)


def _penalty(l2: float) -> keras.regularizers.L2 | None:
    return keras.regularizers.L2(l2) if l2 else None
