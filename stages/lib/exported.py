"""The exported model: ONNX with labels, preprocessing and class info; no TensorFlow."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from stages.lib.images import load_preprocessing, prepare_picture

EXPORTED = Path("models/exported")
INPUT = "image"


class ExportedClassifier:
    """An exported model ready to predict.

    class_names: labels in the order of the outputs. class_info: label to what is shown beside a
    prediction.
    """

    def __init__(self, folder: Path = EXPORTED, threads: int = 0) -> None:
        """Load the model; threads: of onnxruntime, 0 for one per core."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.class_names: list[str] = _read(folder / "labels.json")
        self.class_info: dict[str, dict[str, Any]] = _read(folder / "class_info.json")
        self.preprocessing = load_preprocessing(folder)
        self.session = onnxruntime.InferenceSession(
            folder / "model.onnx", options, providers=["CPUExecutionProvider"]
        )

    def predict_arrays(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities (images, classes) for prepared pictures (images, height, width,
        channels).
        """
        feed = {INPUT: np.asarray(pictures, np.float32)}
        probabilities: NDArray[np.float32] = self.session.run(None, feed)[0]
        return probabilities

    def predict_bytes(self, data: bytes) -> NDArray[np.float32]:
        """Return the probabilities (classes,) of one file's bytes, prepared as in training."""
        probabilities: NDArray[np.float32] = self.predict_arrays(
            prepare_picture(data, self.preprocessing)[None]
        )[0]
        return probabilities


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
