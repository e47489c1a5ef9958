"""What models have in common: pixels come in, probabilities of classes go out."""

from typing import Annotated

from pydantic import Field

from stages.lib.errors import InputError
from stages.lib.keras_runtime import keras
from stages.lib.models.layers import BothClasses

layers = keras.layers

Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
LOGIT = "logit"  # the layer whose one unit two classes share


def image_input(
    input_shape: tuple[int, int, int], name: str, smallest_side: int
) -> keras.KerasTensor:
    """Return the input of a model, pixel values 0 to 255.

    Raises InputError, naming the model, where the pictures are too small for its layers.
    """
    height, width = input_shape[:2]
    if min(height, width) < smallest_side:
        raise InputError(
            f"{name} takes pictures of at least {smallest_side}x{smallest_side}, got "
            f"{height}x{width} (height x width); raise augment.height and augment.width, or choose "
            "another train.model"
        )
    return layers.Input(input_shape, name="image")


def head(x: keras.KerasTensor, num_classes: int) -> keras.KerasTensor:
    """Return probabilities (batch, num_classes), in 32 bits whatever the precision before them.

    Two classes share one sigmoid unit, as is usual for a yes or no; more have one softmax unit
    each.
    """
    if num_classes == 2:
        logit = layers.Dense(1, dtype="float32", name=LOGIT)(x)
        return BothClasses(dtype="float32", name="probabilities")(logit)
    return layers.Dense(num_classes, activation="softmax", dtype="float32", name="probabilities")(x)
