"""tools.same_pictures: base and head are compared on pictures that the base never learned from."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper
from PIL import Image
from toy_project import ToyProject, evaluated

from stages.lib.errors import InputError
from stages.lib.images import Preprocessing, save_preprocessing
from stages.lib.table import INDEX, PREDICTIONS, SPLIT, write_table
from tools.gate import main
from tools.revisions import Revision
from tools.same_pictures import new_to_the_base, of_one_test_set, of_the_heads_test_set

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc")

BASE, HEAD = Revision("base", ""), Revision("head", "")
SIDE = 4
HOW = Preprocessing(SIDE, SIDE, "stretch", "auto", "rgb")
NAMES = ["bright", "dark"]


def write_brightness_model(folder: Path, how: Preprocessing = HOW, threshold: float = 0.5) -> None:
    """Write an exported model whose probability of `bright` rises with the mean of the picture."""
    folder.mkdir(parents=True)
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "axis"], ["column"]),
        helper.make_node("Div", ["column", "white"], ["share"]),
        helper.make_node("Sub", ["share", "threshold"], ["score"]),
        helper.make_node("Sigmoid", ["score"], ["bright"]),
        helper.make_node("Sub", ["one", "bright"], ["dark"]),
        helper.make_node("Concat", ["bright", "dark"], ["probabilities"], axis=1),
    ]
    constants = [
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("white", TensorProto.FLOAT, [], [255.0]),
        helper.make_tensor("threshold", TensorProto.FLOAT, [], [threshold]),
        helper.make_tensor("one", TensorProto.FLOAT, [], [1.0]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [None, None, None, 3])
    out = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])
    graph = helper.make_graph(nodes, "brightness", [image], [out], constants)
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "model.onnx")
    (folder / "labels.json").write_text(json.dumps(NAMES))
    (folder / "class_info.json").write_text("{}")
    save_preprocessing(how, folder)


def split_table(names: list[str], split: str, label: str = "", group: str = "") -> pd.DataFrame:
    """Return rows of pictures, called by their names; label: "" for bright and dark in turn."""
    return pd.DataFrame(
        {
            "uri": [f"data/raw/{name}.png" for name in names],
            "image_id": names,
            "label": [label or NAMES[at % 2] for at in range(len(names))],
            "group_id": [group or name for name in names],
            "split": split,
            "fold": np.int16(-1),
            "unit": "group",
        }
    )


def write_side(
    folder: Path, rows: pd.DataFrame, wrong: int = 0, threshold: float = 0.5, raw: bool = False
) -> None:
    """Write what a run leaves: split, test arrays, predictions (some wrong), exported model."""
    test = rows[rows["split"] == "test"].sort_values("uri", ignore_index=True)
    write_table(folder / "data/split.parquet", rows, SPLIT)
    grey = np.where(test["label"] == "bright", 220, 30).astype(np.uint8)
    pictures = np.broadcast_to(grey[:, None, None, None], (len(test), SIDE, SIDE, 3))
    index = test.assign(row=range(len(test)), parent_id="", augment_seed=0, crc32=0)
    (folder / "data/dataset").mkdir()
    np.save(folder / "data/dataset/test.npy", pictures)
    save_preprocessing(HOW, folder / "data/dataset")
    write_table(folder / "data/dataset/index.parquet", index.astype({"crc32": "uint32"}), INDEX)
    other = {"bright": "dark", "dark": "bright"}
    predicted = [
        other.get(label, label) if at < wrong else label for at, label in enumerate(test["label"])
    ]
    answers = test.assign(
        predicted=predicted,
        confidence=0.9,
        loss=0.1,
        correct=test["label"] == predicted,
        probabilities=[[0.5, 0.5]] * len(test),
    )
    write_table(folder / "data/predictions.parquet", answers, PREDICTIONS)
    write_brightness_model(folder / "models/exported", threshold=threshold)
    (folder / "data/raw").mkdir()
    for uri, value, picture in zip(test["uri"], grey, pictures, strict=True):
        if raw:
            Image.fromarray(np.ascontiguousarray(picture) // 255 + value).save(folder / uri)


@pytest.fixture
def sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Folders of base and head, in which `fetch_output` finds what each has."""
    folders = {"base": tmp_path / "base", "head": tmp_path / "head"}

    def find(side: Revision, path: str, _: Path) -> Path | None:
        found = folders[side.name] / path
        return found if found.exists() else None

    monkeypatch.setattr("tools.same_pictures.fetch_output", find)
    for folder in folders.values():
        (folder / "data").mkdir(parents=True)
    return folders


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{at:03}" for at in range(count)]


def test_one_test_set_pairs_the_answers_whatever_their_order(
    sides: dict[str, Path], tmp_path: Path
) -> None:
    rows = split_table(names("a", 40), "test")
    moved = rows.assign(uri=[f"data/raw/{at:03}.png" for at in range(40, 0, -1)])
    write_side(sides["base"], rows, wrong=4)
    write_side(sides["head"], moved, wrong=10)

    same = of_one_test_set(BASE, HEAD, tmp_path)

    assert same
    assert (same.base != same.labels).sum() == 4
    assert (same.head != same.labels).sum() == 10
    # The first four by name are wrong in the base, the last ten in the head.
    assert (same.base != same.labels)[:4].all() and (same.head != same.labels)[-10:].all()


def test_without_predictions_or_with_others_there_is_no_pair(
    sides: dict[str, Path], tmp_path: Path
) -> None:
    write_side(sides["head"], split_table(names("a", 40), "test"))
    assert of_one_test_set(BASE, HEAD, tmp_path) is None

    write_side(sides["base"], split_table(names("b", 40), "test"))
    assert of_one_test_set(BASE, HEAD, tmp_path) is None


def test_a_picture_is_not_new_where_one_of_its_group_was_learned() -> None:
    base = pd.concat([split_table(["t1"], "train"), split_table(["v1"], "val")])
    base = pd.concat([base, split_table(["s1"], "test")])
    head = pd.concat(
        [
            split_table(["t1", "near_t1"], "test", group="g1"),
            split_table(["v1"], "test"),
            split_table(["s1"], "test"),
            split_table(["fresh"], "test"),
        ]
    )

    new = new_to_the_base(head.reset_index(drop=True), base, head)

    assert dict(zip(head["image_id"], new, strict=True)) == {
        "t1": False,
        "near_t1": False,
        "v1": False,
        "s1": True,
        "fresh": True,
    }


def moved_test_set() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the splits of a base and a head: 20 test pictures stay, 20 are new, 10 were learned,
    and 5 are of a class that the base does not know.
    """
    base = pd.concat(
        [split_table(names("stay", 20), "test"), split_table(names("learned", 10), "train")]
    )
    head = pd.concat(
        [
            split_table(names("stay", 20), "test"),
            split_table(names("fresh", 20), "test"),
            split_table(names("learned", 10), "test"),
            split_table(names("odd", 5), "test", label="odd"),
        ]
    )
    return base, head


def test_the_bases_model_answers_what_is_new_to_it(sides: dict[str, Path], tmp_path: Path) -> None:
    base, head = moved_test_set()
    write_side(sides["base"], base)
    write_side(sides["head"], head, wrong=3)

    same = of_the_heads_test_set(BASE, HEAD, tmp_path)

    assert len(same.labels) == 40
    assert "on the 40 of the head's 55 test pictures that it had never seen" in same.how
    assert (same.base == same.labels).all()
    assert (same.head != same.labels).sum() == 3
    assert set(same.labels) == {"bright", "dark"}
    # sigmoid(220 / 255 - 0.5) and its opposite for 30.
    expected = {
        label: -np.log(1 / (1 + np.exp(-abs(grey / 255 - 0.5))))
        for label, grey in (("bright", 220), ("dark", 30))
    }
    assert same.base_loss == pytest.approx([expected[label] for label in same.labels], abs=1e-5)


def test_a_model_that_prepares_pictures_otherwise_reads_the_files(
    sides: dict[str, Path], tmp_path: Path
) -> None:
    base, head = moved_test_set()
    write_side(sides["base"], base)
    write_side(sides["head"], head, raw=True)
    shutil.rmtree(sides["base"] / "models")
    other = Preprocessing(SIDE * 2, SIDE * 3, "stretch", "auto", "rgb")
    write_brightness_model(sides["base"] / "models/exported", how=other)
    (sides["head"] / "data/dataset/test.npy").unlink()

    same = of_the_heads_test_set(BASE, HEAD, tmp_path)

    assert (same.base == same.labels).all()


@pytest.mark.parametrize(
    ("side", "path"),
    [
        ("base", "models/exported"),
        ("base", "data/split.parquet"),
        ("head", "data/dataset/test.npy"),
        ("head", "data/predictions.parquet"),
    ],
)
def test_a_missing_file_is_an_error_that_names_it(
    sides: dict[str, Path], tmp_path: Path, side: str, path: str
) -> None:
    base, head = moved_test_set()
    write_side(sides["base"], base)
    write_side(sides["head"], head)
    gone = sides[side] / path
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()

    with pytest.raises(InputError, match=f"{path} of {side} is neither in DVC's cache nor"):
        of_the_heads_test_set(BASE, HEAD, tmp_path)


def test_too_few_new_pictures_are_an_error_that_counts_them(
    sides: dict[str, Path], tmp_path: Path
) -> None:
    rows = split_table(names("a", 60), "test")
    write_side(sides["base"], rows.assign(split=["train"] * 50 + ["test"] * 10))
    write_side(sides["head"], rows)

    with pytest.raises(InputError, match="only 10 of the head's 60 test pictures are new"):
        of_the_heads_test_set(BASE, HEAD, tmp_path)


OUTS: dict[str, list[str]] = {
    "evaluate": [
        "data/predictions.parquet",
        "data/split.parquet",
        "data/dataset",
        "models/exported",
    ]
}


@pytest.mark.parametrize(("wrong", "code"), [(0, 0), (20, 1)])
def test_the_gate_asks_the_bases_model_where_the_test_set_moved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: int, code: int
) -> None:
    project = ToyProject(tmp_path / "project")
    for rows, name, mistakes in zip(moved_test_set(), ("base", "head"), (0, wrong), strict=True):
        (tmp_path / name / "data").mkdir(parents=True)
        write_side(tmp_path / name, rows, mistakes)

    def evaluate_from(name: str) -> dict[str, Any]:
        section = evaluated(54, 126, fingerprint=name)
        section["copies"] = {path: str(tmp_path / name / path) for path in OUTS["evaluate"]}
        return section

    project.start(evaluate_from("base"), OUTS)
    project.params["evaluate"] = evaluate_from("head")
    project.run()
    project.commit("another test set")

    for head in ("HEAD", "workspace"):
        with project.inside():
            found = main(["--base", "HEAD~1", "--head", head])
        said = capsys.readouterr().out

        assert found == code
        assert "the test sets differ, so the base's model answered anew" in said
        assert ("FAILED: evaluate.accuracy fell from 1.0000 to 0.5000" in said) == bool(wrong)
