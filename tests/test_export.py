"""export: the ONNX model answers as Keras does, on arrays and on files."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.export import class_info, compare, write_exported
from stages.lib.classifier import Classifier, predict
from stages.lib.dataset import DATASET
from stages.lib.errors import InputError
from stages.lib.exported import ExportedClassifier
from stages.lib.images import Preprocessing, prepare_picture, save_preprocessing
from stages.lib.keras_runtime import make_deterministic
from stages.lib.models.compact_cnn import compact_cnn

ROOT = Path(__file__).parents[1]
NAMES = ["ant", "bee", "cat"]
HOW = Preprocessing(24, 40, "crop")


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    make_deterministic(5)
    return Classifier(compact_cnn((HOW.height, HOW.width, 3), len(NAMES), 8, 0.2), NAMES)


@pytest.fixture()
def folder(classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    DATASET.mkdir(parents=True)
    save_preprocessing(HOW, DATASET)
    write_exported(classifier, class_info(NAMES, {"bee": "makes honey"}), tmp_path / "exported")
    return tmp_path / "exported"


@pytest.mark.parametrize("count", [1, 7])
def test_the_export_agrees_with_keras_for_any_batch(
    classifier: Classifier, folder: Path, count: int
) -> None:
    rng = np.random.default_rng(count)
    pictures = rng.integers(0, 256, (count, HOW.height, HOW.width, 3), dtype=np.uint8)

    found = ExportedClassifier(folder).predict_arrays(pictures)

    parity = compare(predict(classifier, pictures, 4, "test"), found)
    assert parity["max_probability_difference"] < 1e-5
    assert parity["top1_agreement"] == 1.0


def test_a_file_is_prepared_as_in_training(folder: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (50, 90, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    exported = ExportedClassifier(folder)

    by_file = exported.predict_bytes(buffer.getvalue())
    by_array = exported.predict_arrays(prepare_picture(buffer.getvalue(), HOW)[None])[0]

    np.testing.assert_array_equal(by_file, by_array)


def test_labels_and_class_info_travel_along(folder: Path) -> None:
    exported = ExportedClassifier(folder)

    assert exported.class_names == NAMES
    assert exported.preprocessing == HOW
    assert exported.class_info["bee"] == {"name": "bee", "description": "makes honey"}


def test_a_description_of_no_class_is_refused() -> None:
    with pytest.raises(InputError, match="'wasp' is no class"):
        class_info(NAMES, {"wasp": "stings"})


def test_using_the_export_needs_no_tensorflow() -> None:
    code = "import sys, stages.lib.exported; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
