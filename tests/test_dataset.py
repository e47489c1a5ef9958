"""The arrays and their index belong together, or the reader says so."""

import resource
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.lib.dataset import (
    DATASET,
    INDEX_FILE,
    array_file,
    class_names,
    class_numbers,
    is_leaky,
    load_split,
)
from stages.lib.errors import InputError
from stages.lib.images import Preprocessing, load_preprocessing, save_preprocessing
from stages.lib.table import INDEX, SPLITS, write_table


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Write three pictures per split with their index; return those of one split."""
    monkeypatch.chdir(tmp_path)
    pictures = np.arange(3 * 8 * 9 * 3, dtype=np.uint8).reshape(3, 8, 9, 3)
    rows = [(split, row, f"{split}{row}") for split in SPLITS for row in range(3)]
    index = pd.DataFrame(rows, columns=["split", "row", "uri"])
    index = index.assign(image_id="i", label="cat", parent_id="", augment_seed=0, unit="group")
    index = index.assign(crc32=[zlib.crc32(pictures[row]) for row in index["row"]])
    write_table(INDEX_FILE, index.iloc[::-1], INDEX)
    for split in SPLITS:
        np.save(array_file(split), pictures)
    return pictures


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_is_its_pictures_and_its_rows_in_their_order(
    pictures: np.ndarray, split: str
) -> None:
    found, index = load_split(split)

    np.testing.assert_array_equal(found, pictures)
    assert isinstance(found, np.memmap)
    assert index["uri"].tolist() == [f"{split}0", f"{split}1", f"{split}2"]


@pytest.mark.parametrize("split", SPLITS)
def test_a_missing_array_is_named(pictures: np.ndarray, split: str) -> None:
    array_file(split).unlink()

    with pytest.raises(InputError, match=rf"{split}\.npy cannot be read .*dvc repro -f augment"):
        load_split(split)


@pytest.mark.parametrize(
    "size",
    [0, 5, 100, 128, 200, -1],
)
def test_a_truncated_array_is_named(pictures: np.ndarray, size: int) -> None:
    path = array_file("train")
    path.write_bytes(path.read_bytes()[:size])

    with pytest.raises(InputError, match=r"train\.npy cannot be read"):
        load_split("train")


@pytest.mark.parametrize(
    "change",
    [
        lambda array: array[:2],
        lambda array: np.concatenate([array, array]),
        lambda array: array.astype(np.float32),
        lambda array: array[..., 0],
        lambda array: array[:0],
    ],
    ids=["too few", "too many", "not uint8", "three dimensions", "none"],
)
def test_an_array_that_does_not_fit_the_index_is_named(
    pictures: np.ndarray, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    np.save(array_file("val"), change(pictures))

    with pytest.raises(InputError, match=r"val\.npy must hold 3 pictures of uint8"):
        load_split("val")


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("row", [0, 2])
@pytest.mark.parametrize("place", [0, -1], ids=["first byte", "last byte"])
def test_one_changed_bit_is_found_and_its_row_named(
    pictures: np.ndarray, split: str, row: int, place: int
) -> None:
    array = np.load(array_file(split))
    array[row].reshape(-1)[place] ^= 1
    np.save(array_file(split), array)

    with pytest.raises(
        InputError, match=rf"{split}\.npy is damaged: row {row} \({split}{row}\).*dvc repro -f"
    ):
        load_split(split)
    np.testing.assert_array_equal(load_split(split, verify=False)[0], array)


def test_rows_in_another_order_are_found(pictures: np.ndarray) -> None:
    np.save(array_file("train"), pictures[[1, 0, 2]])

    with pytest.raises(InputError, match=r"train\.npy is damaged: row 0 \(train0\)"):
        load_split("train")


def test_verifying_takes_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows, shape = 400, (512, 512, 3)  # 315 MB of zeros, which take no space on disk
    checksum = zlib.crc32(bytes(512 * 512 * 3))
    index = pd.DataFrame({"split": "train", "row": range(rows), "uri": map(str, range(rows))})
    index = index.assign(image_id="i", label="cat", parent_id="", augment_seed=0, unit="group")
    write_table(INDEX_FILE, index.assign(crc32=checksum), INDEX)
    np.lib.format.open_memmap(array_file("train"), "w+", np.uint8, (rows, *shape))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    load_split("train")

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


@pytest.mark.parametrize(("unit", "leaky"), [("group", False), ("image", True)])
def test_what_was_divided_by_image_is_leaky(unit: str, leaky: bool) -> None:
    assert is_leaky(pd.DataFrame({"unit": [unit, unit]})) is leaky


def test_a_missing_index_is_named(pictures: np.ndarray) -> None:
    INDEX_FILE.unlink()

    with pytest.raises(InputError, match=r"index\.parquet is missing"):
        load_split("train")


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_preprocessing_comes_back_as_it_was(pictures: np.ndarray, fit: str) -> None:
    how = Preprocessing(8, 9, fit, "lanczos", "grey")  # type: ignore[arg-type]

    save_preprocessing(how, DATASET)

    assert load_preprocessing(DATASET) == how
    assert [path.name for path in DATASET.glob("*.json")] == ["preprocessing.json"]


def test_classes_are_numbered_in_the_order_of_their_names() -> None:
    index = pd.DataFrame({"label": ["dog", "cat", "dog", "Ant"]})

    names = class_names(index)

    assert names == ["Ant", "cat", "dog"]
    assert class_numbers(index, names).tolist() == [2, 1, 2, 0]


def test_a_label_that_the_model_does_not_know_is_named() -> None:
    with pytest.raises(InputError, match="label 'cow' is unknown to the model, which knows cat"):
        class_numbers(pd.DataFrame({"label": ["cat", "cow"]}), ["cat"])
