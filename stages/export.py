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
from stages.lib.dataset import DATASET, PREPROCESSING, load_split
from stages.lib.errors import InputError, run_stage
from stages.lib.exported import EXPORTED, INPUT, ExportedClassifier
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
        warnings.simplefilter(
            "ignore", FutureWarning
        )  # the converter asks numpy for names it no longer has
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


def main() -> None:
    """Export, run the export on validation pictures, and refuse it where it answers differently."""
    params = load_params(Params, "export")
    classifier = load_classifier()
    info = class_info(classifier.class_names, params.descriptions)
    pictures = np.asarray(load_split("val")[0][: params.parity_images])
    unproven = EXPORTED.with_suffix(".partial")
    shutil.rmtree(unproven, ignore_errors=True)
    write_exported(classifier, info, unproven)
    exported = ExportedClassifier(unproven)
    parity = compare(
        predict(classifier, pictures, BATCH, "export"), exported.predict_arrays(pictures)
    )
    if parity["max_probability_difference"] > params.max_difference:
        raise InputError(
            f"the exported model differs from Keras by {parity['max_probability_difference']:.2e} "
            "in a probability, "
            f"allowed is export.max_difference = {params.max_difference:g}; raise it only if you "
            "know why"
        )
    shutil.rmtree(EXPORTED, ignore_errors=True)
    unproven.rename(EXPORTED)
    size = (EXPORTED / "model.onnx").stat().st_size
    write_metrics("export", {**parity, "bytes": size, "images_compared": len(pictures)})
    summarise(
        "export",
        f"ONNX of {size / 1e6:.1f} MB, at most {parity['max_probability_difference']:.1e} from "
        "Keras on "
        f"{len(pictures):,} images",
    )


if __name__ == "__main__":
    run_stage("export", main)
