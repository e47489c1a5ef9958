"""A trained classifier as files whose bytes carry no date."""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.lib.errors import InputError
from stages.lib.files import replacing
from stages.lib.keras_runtime import describe_environment, keras
from stages.lib.models.layers import OWN_LAYERS
from stages.lib.precision import use_precision
from stages.lib.progress import track

CLASSIFIER = Path("models/classifier")


@dataclass(frozen=True)
class Classifier:
    """model: uint8 or float pictures 0 to 255 → probabilities in the order of class_names."""

    model: keras.Model
    class_names: list[str]


def save_classifier(classifier: Classifier, folder: Path) -> None:
    """Write config.json, model.weights.h5, labels.json, environment.json and summary.txt."""
    config = json.loads(classifier.model.to_json())
    lines = io.StringIO()
    classifier.model.summary(print_fn=lambda line: print(line, file=lines), line_length=88)
    texts = {
        "config.json": json.dumps(config, indent=1, sort_keys=True),
        "labels.json": json.dumps(classifier.class_names, ensure_ascii=False, indent=1),
        "environment.json": json.dumps(describe_environment(), indent=1, sort_keys=True),
        "summary.txt": lines.getvalue().rstrip(),
    }
    # A compiled model would save its optimiser's state along with the weights.
    bare = _build(json.dumps(config))
    bare.set_weights(classifier.model.get_weights())
    with replacing(folder) as unfinished:
        unfinished.mkdir()
        for name, text in texts.items():
            (unfinished / name).write_text(text + "\n", encoding="utf-8")
        bare.save_weights(unfinished / "model.weights.h5")


def load_classifier(folder: Path = CLASSIFIER) -> Classifier:
    """Return the classifier as it was saved; raises InputError where its files are missing."""
    try:
        config = (folder / "config.json").read_text(encoding="utf-8")
        class_names = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{error.filename} is missing: run `dvc repro`, which makes it") from error
    model = _build(config)
    model.load_weights(folder / "model.weights.h5")
    return Classifier(model, class_names)


def _build(config: str) -> keras.Model:
    return keras.models.model_from_json(config, custom_objects=OWN_LAYERS)


def in_float32(model: keras.Model) -> keras.Model:
    """Return the model computing in 32 bits throughout, as it is to be kept and served; from here
    on that is what Keras does.
    """
    use_precision("float32")
    if all(layer.dtype_policy.name == "float32" for layer in model.layers):
        return model
    config = json.loads(model.to_json())
    plain = _build(json.dumps(_without_mixed(config)))
    plain.set_weights(model.get_weights())
    return plain


def _without_mixed(config: Any) -> Any:
    """Return a model's config with every mixed precision replaced by float32."""
    if isinstance(config, dict):
        return {key: _without_mixed(value) for key, value in config.items()}
    if isinstance(config, list):
        return [_without_mixed(value) for value in config]
    return "float32" if config in ("mixed_bfloat16", "mixed_float16") else config


def predict(
    classifier: Classifier, pictures: NDArray[np.uint8], batch_size: int, description: str
) -> NDArray[np.float32]:
    """Return probabilities (images, classes) for pictures (images, height, width, 3)."""
    starts = range(0, len(pictures), batch_size)
    batches = [
        np.asarray(classifier.model.predict_on_batch(np.asarray(pictures[at : at + batch_size])))
        for at in track(starts, len(starts), description, "batches")
    ]
    return np.concatenate(batches).astype(np.float32)
