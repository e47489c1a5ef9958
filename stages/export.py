"""Exports the classifier to ONNX with all that its use needs; checks it against Keras.

Reads:  models/classifier, data/dataset (val, never test)
Writes: models/exported, metrics/export.json
"""

import json
import shutil
import warnings
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from stages.lib.classifier import Classifier, load_classifier, predict
from stages.lib.dataset import DATASET, is_leaky, load_split
from stages.lib.errors import InputError, run_stage
from stages.lib.exported import EXPORTED, INPUT, ExportedClassifier
from stages.lib.files import replacing
from stages.lib.images import PREPROCESSING
from stages.lib.keras_runtime import keras
from stages.lib.metrics import write_metrics
from stages.lib.params import STRICT, load_params
from stages.lib.progress import summarise

BATCH = 64


@dataclass(frozen=True, config=STRICT)
class Params:
    """The export section of params.yaml."""

    parity_images: Annotated[int, Field(ge=1)]
    max_difference: Annotated[float, Field(gt=0)]
    descriptions: dict[str, str]


def class_info(class_names: list[str], descriptions: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Return what is shown beside a prediction; raises InputError for a description of no class."""
    for label in descriptions:
        if label not in class_names:
            raise InputError(
                f"export.descriptions: {label!r} is no class; the classes are "
                f"{', '.join(class_names)}"
            )
    return {name: {"name": name, "description": descriptions.get(name, "")} for name in class_names}


def write_exported(classifier: Classifier, info: dict[str, dict[str, Any]], folder: Path) -> None:
    """Write model.onnx, labels.json, class_info.json and preprocessing.json."""
    folder.mkdir(parents=True)
    signature = keras.InputSpec(shape=classifier.model.input_shape, dtype="float32", name=INPUT)
    with warnings.catch_warnings():
        # The converter asks numpy for names it no longer has.
        warnings.simplefilter("ignore", FutureWarning)
        classifier.model.export(
            folder / "model.onnx", format="onnx", input_signature=[signature], verbose=False
        )
    texts = {"labels.json": classifier.class_names, "class_info.json": info}
    for name, content in texts.items():
        text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
        (folder / name).write_text(text, encoding="utf-8")
    shutil.copyfile(DATASET / PREPROCESSING, folder / PREPROCESSING)


def compare(left: NDArray[np.float32], right: NDArray[np.float32]) -> dict[str, float]:
    """Return how far two sets of probabilities (images, classes) lie apart."""
    return {
        "max_probability_difference": float(np.abs(left - right).max()),
        "top1_agreement": float((left.argmax(axis=1) == right.argmax(axis=1)).mean()),
    }


def require_parity(parity: dict[str, float], allowed: float) -> None:
    """Raise InputError where a probability of the export lies further from Keras than allowed."""
    difference = parity["max_probability_difference"]
    if difference > allowed:
        raise InputError(
            f"the exported model differs from Keras by {difference:.2e} in a probability, allowed "
            f"is export.max_difference = {allowed:g}; raise it only if you know why"
        )


def main() -> None:
    """Export, run the export on validation pictures, and refuse it where it answers differently."""
    params = load_params(Params, "export")
    classifier = load_classifier()
    info = class_info(classifier.class_names, params.descriptions)
    val, index = load_split("val")
    pictures, leaky = np.asarray(val[: params.parity_images]), is_leaky(index)
    with replacing(EXPORTED) as unproven:
        write_exported(classifier, info, unproven)
        found = ExportedClassifier(unproven).predict_arrays(pictures)
        parity = compare(predict(classifier, pictures, BATCH, "export"), found)
        require_parity(parity, params.max_difference)
    size = (EXPORTED / "model.onnx").stat().st_size
    metrics = {**parity, "bytes": size, "images_compared": len(pictures)}
    write_metrics("export", metrics, leaky)
    summarise(
        "export",
        f"ONNX of {size / 1e6:.1f} MB; no probability differs by more than "
        f"{parity['max_probability_difference']:.1e} from Keras, on {len(pictures):,} images",
        leaky,
    )


if __name__ == "__main__":
    run_stage("export", main)
