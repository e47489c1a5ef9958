"""predict: the answers of the exported model for files, in order, whatever the files are."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from stages.lib.errors import InputError
from stages.lib.exported import EXPORTED
from stages.lib.images import Preprocessing, save_preprocessing
from tools import predict

ROOT = Path(__file__).parents[1]
NAMES = ["blue", "green", "red"]
HOW = Preprocessing(8, 8, "stretch", "auto", "rgb")
RED, GREEN = (230, 20, 60), (10, 200, 40)


def write_colour_model(folder: Path) -> None:
    """Write an exported model whose probabilities are the softmax of a picture's mean B, G, R."""
    shape = ["images", HOW.height, HOW.width, 3]
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2], keepdims=0),
            helper.make_node("Gather", ["mean", "order"], ["sorted"], axis=1),
            helper.make_node("Mul", ["sorted", "scale"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "colour",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["images", 3])],
        [
            helper.make_tensor("order", TensorProto.INT64, [3], [2, 1, 0]),
            helper.make_tensor("scale", TensorProto.FLOAT, [1], [0.02]),
        ],
    )
    folder.mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    info = {name: {"name": name, "description": f"looks {name}"} for name in NAMES}
    (folder / "labels.json").write_text(json.dumps(NAMES))
    (folder / "class_info.json").write_text(json.dumps(info))
    save_preprocessing(HOW, folder)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encode: Callable[..., bytes]) -> Path:
    """A folder with a model and pictures: red, green, and three files that are none."""
    monkeypatch.chdir(tmp_path)
    write_colour_model(EXPORTED)
    pictures = tmp_path / "pictures"
    (pictures / "deep").mkdir(parents=True)
    for name, colour in (("red.png", RED), ("deep/green.png", GREEN)):
        pixels = np.full((12, 20, 3), colour, np.uint8)
        (pictures / name).write_bytes(encode(pixels, "png"))
    (pictures / "empty.jpg").write_bytes(b"")
    (pictures / "page.jpg").write_text("<html><body>not found</body></html>")
    (pictures / ".hidden.png").write_bytes(b"")
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["predict", *arguments])
    with pytest.raises(SystemExit) as end:
        predict.main()
    return int(end.value.code or 0)


def test_the_probabilities_are_those_of_the_picture_in_order(folder: Path) -> None:
    (found,) = predict.predict_files(["pictures/red.png"], predict.load_model(EXPORTED), 3)

    expected = np.exp(0.02 * np.array(RED, float))
    expected /= expected.sum()
    assert [row["label"] for row in found.top] == ["red", "blue", "green"]
    assert [row["probability"] for row in found.top] == pytest.approx(
        [expected[0], expected[2], expected[1]], abs=1e-5
    )
    assert found.top[0]["description"] == "looks red"


def test_a_bad_picture_is_a_line_and_not_the_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["absent.jpg", "pictures/empty.jpg", "pictures/page.jpg", "pictures/red.png"]

    assert run(monkeypatch, *names, "--top", "1") == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "absent.jpg: cannot be read: no such file or directory",
        "pictures/empty.jpg: cannot be read: empty",
        "pictures/page.jpg: cannot be read: html page",
    ]
    assert lines[3:] == ["pictures/red.png", "  red   95.39%  looks red"]


def test_the_exit_status_says_whether_anything_could_be_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch, "pictures/empty.jpg", "pictures/red.png") == 0
    assert run(monkeypatch, "pictures/empty.jpg") == 1


def test_a_folder_stands_for_all_files_below_it_sorted_but_for_hidden_ones(folder: Path) -> None:
    found = predict.find_files(["pictures", "pictures/red.png"])

    assert found == [
        "pictures/deep/green.png",
        "pictures/empty.jpg",
        "pictures/page.jpg",
        "pictures/red.png",
        "pictures/red.png",
    ]


@pytest.mark.parametrize("at_once", [1, 2, 64])
def test_answers_stay_with_their_pictures_however_many_are_asked_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(predict, "AT_ONCE", at_once)
    names = ["pictures/red.png", "pictures/empty.jpg", "pictures/deep/green.png"] * 2

    found = list(predict.predict_files(names, predict.load_model(EXPORTED), 1))

    assert [one.path for one in found] == names
    assert [one.top[0]["label"] if one.top else "" for one in found] == ["red", "", "green"] * 2


def test_json_is_one_list_with_the_reason_of_what_could_not_be_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "--json", "--top", "2", "pictures/empty.jpg", "pictures/deep/green.png")

    bad, good = json.loads(capsys.readouterr().out)
    assert bad == {"path": "pictures/empty.jpg", "reason": "empty", "top": []}
    assert [row["label"] for row in good["top"]] == ["green", "blue"]


def test_a_damaged_jpeg_is_answered_and_says_so(
    folder: Path, picture_file: Callable[..., bytes]
) -> None:
    whole = picture_file(3, "jpeg")
    Path("cut.jpg").write_bytes(whole[:-2])

    (found,) = predict.predict_files(["cut.jpg"], predict.load_model(EXPORTED), 1)

    assert found.reason == "missing eoi"
    assert predict.text_lines(found)[0] == "cut.jpg (damaged: missing eoi)"
    assert len(found.top) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("x.jpg", "--top", "0"), "--top must be at least 1, got 0"),
        (("x.jpg", "--model", "nowhere"), "nowhere/labels.json is missing: run `dvc repro export`"),
        (("bare",), "the folder bare holds no file"),
    ],
)
def test_bad_arguments_are_refused_with_what_to_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], sentence: str
) -> None:
    (folder / "bare").mkdir()
    monkeypatch.setattr(sys, "argv", ["predict", *arguments])

    with pytest.raises(InputError, match=sentence):
        predict.main()


def test_predicting_needs_no_tensorflow() -> None:
    code = "import sys, tools.predict; sys.exit(bool({'tensorflow', 'keras'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_images_of_more_than_8_bits_are_read_by_the_ranges_of_training_or_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ramp = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    Image.fromarray(ramp).save("ramp.png")
    Image.fromarray(ramp.astype(np.int32) - 99).save("signed.tif")
    Image.fromarray((ramp >> 4).astype(np.uint8)).save("plain.png")

    assert run(monkeypatch, "ramp.png", "signed.tif") == 1

    assert capsys.readouterr().out.splitlines() == [
        "ramp.png: cannot be read: too few levels: uint16 values 0 to 4095; "
        "the model reads 0 to 65535; bring them to that range, or to 8 bits",
        "signed.tif: cannot be read: no value range: int32 values -99 to 3996; "
        "the model was trained on no such images; convert to 8 bits",
    ]
    ranges = {"uint16": (0.0, 4095.0), "int32": (-99.0, 3996.0)}
    save_preprocessing(replace(HOW, value_ranges=ranges), EXPORTED)
    names = ["plain.png", "ramp.png", "signed.tif"]
    model = predict.load_model(EXPORTED)
    plain, *deep = (found.top for found in predict.predict_files(names, model, 3))
    for top in deep:
        assert [row["label"] for row in top] == [row["label"] for row in plain]
        expected = [row["probability"] for row in plain]
        assert [row["probability"] for row in top] == pytest.approx(expected, abs=0.01)
