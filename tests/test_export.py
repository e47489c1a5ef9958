"""export: the ONNX model answers as Keras does, on arrays and on files."""

import io
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages import evaluate, export, train
from stages.export import class_info, compare, write_exported
from stages.lib.classifier import Classifier, predict
from stages.lib.dataset import DATASET, INDEX_FILE, array_file
from stages.lib.errors import InputError
from stages.lib.exported import ExportedClassifier
from stages.lib.images import Preprocessing, prepare_picture, save_preprocessing
from stages.lib.keras_runtime import seed_everything
from stages.lib.metrics import read_metrics
from stages.lib.models.compact_cnn import compact_cnn
from stages.lib.table import CLEAN, INDEX, SPLITS, write_table

ROOT = Path(__file__).parents[1]
NAMES = ["ant", "bee", "cat"]
HOW = Preprocessing(24, 40, "crop", "auto", "rgb")
GREY = Preprocessing(24, 40, "pad", "linear", "grey")


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    seed_everything(5)
    return Classifier(
        compact_cnn((HOW.height, HOW.width, 3), len(NAMES), width=8, dropout=0.2), NAMES
    )


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


def test_grey_pictures_are_served_with_one_channel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    DATASET.mkdir(parents=True)
    save_preprocessing(GREY, DATASET)
    seed_everything(5)
    grey = Classifier(compact_cnn(GREY.shape, len(NAMES), width=8, dropout=0.2), NAMES)
    write_exported(grey, class_info(NAMES, {}), tmp_path / "exported")
    pixels = np.random.default_rng(1).integers(0, 256, (50, 90, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")

    exported = ExportedClassifier(tmp_path / "exported")
    found = exported.predict_bytes(buffer.getvalue())

    prepared = prepare_picture(buffer.getvalue(), GREY)[None]
    assert exported.session.get_inputs()[0].shape[1:] == [24, 40, 1]
    np.testing.assert_allclose(found, predict(grey, prepared, 1, "test")[0], atol=1e-5)


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


# --- train, evaluate and export, one after another ----------------------------------------------


@pytest.fixture
def write_dataset(project: Callable[..., Path]) -> Callable[[str], None]:
    """Return a function that makes a project with 12 grey pictures of 16 x 24 a split, divided by
    the unit given.
    """

    def write(unit: str) -> None:
        project(train={"epochs": 1, "options": {"width": 4}})
        rng = np.random.default_rng(0)
        rows = []
        DATASET.mkdir(parents=True)
        for split in SPLITS:
            pictures = rng.integers(0, 256, (12, 16, 24, 1), dtype=np.uint8)
            np.save(array_file(split), pictures)
            rows += [(split, row, f"{split}{row}", zlib.crc32(pictures[row])) for row in range(12)]
        index = pd.DataFrame(rows, columns=["split", "row", "uri", "crc32"])
        index = index.assign(image_id=index["uri"], label=["ant", "bee"] * 18, unit=unit)
        write_table(INDEX_FILE, index.assign(parent_id="", augment_seed=0), INDEX)
        clean = index[["uri"]].assign(comparable=True)
        write_table(Path("data/clean.parquet"), clean, CLEAN.only("uri", "comparable"))
        save_preprocessing(Preprocessing(16, 24, "pad", "auto", "grey"), DATASET)

    return write


@pytest.mark.parametrize(("unit", "leaky"), [("group", False), ("image", True)])
def test_every_figure_of_a_leaky_split_is_marked(
    write_dataset: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
    unit: str,
    leaky: bool,
) -> None:
    write_dataset(unit)

    for stage, name in ((train, "train"), (evaluate, "evaluate"), (export, "export")):
        stage.main()

        assert read_metrics(name).get("leaky", False) is leaky
        assert capsys.readouterr().out.strip().endswith("(leaky split)") is leaky


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_damaged_array_is_refused_before_training(
    write_dataset: Callable[[str], None], capsys: pytest.CaptureFixture[str], split: str
) -> None:
    write_dataset("group")
    with array_file(split).open("r+b") as stream:
        stream.seek(-1, io.SEEK_END)
        stream.write(b"?")

    with pytest.raises(InputError, match=rf"{split}\.npy is damaged: row 11 \({split}11\)"):
        train.main()

    assert "epoch" not in capsys.readouterr().out
    assert not Path("models").exists()


@pytest.mark.parametrize(("stage", "split"), [(evaluate, "test"), (export, "val")])
def test_a_damaged_array_gives_no_figure(
    write_dataset: Callable[[str], None], stage: Any, split: str
) -> None:
    write_dataset("group")
    train.main()
    with array_file(split).open("r+b") as stream:
        stream.seek(-1, io.SEEK_END)
        stream.write(b"?")

    with pytest.raises(InputError, match=rf"{split}\.npy is damaged"):
        stage.main()
