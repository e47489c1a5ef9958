"""The models that `train.model` can name: each a function from shapes to an untrained model."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ConfigDict, ValidationError, validate_call

from stages.lib.errors import InputError
from stages.lib.keras_runtime import keras
from stages.lib.models.compact_cnn import compact_cnn
from stages.lib.params import close_match

MODELS: dict[str, Callable[..., keras.Model]] = {"compact_cnn": compact_cnn}


def build_model(
    name: str, input_shape: tuple[int, int, int], num_classes: int, options: Mapping[str, Any]
) -> keras.Model:
    """Return the untrained model of that name.

    input_shape: (height, width, channels); options: keywords of its function, each of which has a
    default. Raises InputError naming the key for an unknown model or option, or a wrong type.
    """
    if name not in MODELS:
        raise InputError(f"train.model must be one of {', '.join(sorted(MODELS))}, got {name!r}")
    model = MODELS[name]
    known = [
        parameter.name
        for parameter in inspect.signature(model).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    for key in options:
        if key not in known:
            raise InputError(
                f"train.options: unknown option {key!r}{close_match(key, known)}; {name} knows "
                f"{', '.join(known) or 'none'}"
            )
    try:
        # Strict: the shape comes from us, the options from params.yaml.
        return validate_call(config=ConfigDict(strict=True))(model)(
            input_shape, num_classes, **options
        )
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        raise InputError(
            f"train.options.{key}: {problem['msg']}, got {problem['input']!r}"
        ) from error
