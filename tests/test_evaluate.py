"""evaluate: figures against scikit-learn and against cases computed by hand."""

import hashlib
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
    top_k_accuracy_score,
)

from stages import evaluate
from stages.evaluate import (
    CONFUSION_ROWS,
    Params,
    defined_only,
    evaluate_metrics,
    hash_weights,
    plot_tables,
    write_confusion,
)
from stages.lib.answering import mistakes_table, predictions_table
from stages.lib.classification import confusion_matrix
from stages.lib.classifier import CLASSIFIER, Classifier, load_classifier, save_classifier
from stages.lib.dataset import DATASET, INDEX_FILE, array_file, class_numbers, load_split
from stages.lib.keras_runtime import keras
from stages.lib.leak_check import TABLE
from stages.lib.metrics import read_metrics, write_metrics, write_plot
from stages.lib.models.input_output import head
from stages.lib.table import ACROSS, CLEAN, INDEX, MISTAKES, read_table, write_table

NAMES = ["ant", "bee", "cat", "dog"]
PARAMS = Params(7, 256, 0.95, 200, 3, 10, True, 0)


def index_of(labels: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "uri": [f"data/raw/{label}/{at}.png" for at, label in enumerate(labels)],
            "image_id": [f"{at:064x}" for at in range(len(labels))],
            "label": labels,
        }
    )


def figures_of(
    index: pd.DataFrame, probabilities: NDArray[np.float32], names: list[str] = NAMES
) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    truth = class_numbers(index, names)
    predictions = predictions_table(index, probabilities, names)
    matrix = confusion_matrix(truth, probabilities.argmax(axis=1), len(names))
    tables = plot_tables(truth, probabilities, names, PARAMS)
    return defined_only(evaluate_metrics(predictions, matrix, tables, names, PARAMS)), tables


def scored(labels: list[str], names: list[str], seed: int) -> NDArray[np.float32]:
    """Return probabilities that favour the right class, so that most answers are right."""
    scores = np.random.default_rng(seed).dirichlet(np.ones(len(names)), len(labels))
    scores[np.arange(len(labels)), [names.index(label) for label in labels]] += 0.3
    return (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def labels() -> list[str]:
    return list(np.random.default_rng(4).choice(NAMES, 300, p=[0.5, 0.3, 0.15, 0.05]))


def test_figures_are_those_of_scikit_learn(labels: list[str]) -> None:
    probabilities = scored(labels, NAMES, 4)

    figures, _ = figures_of(index_of(labels), probabilities)

    found = [NAMES[at] for at in probabilities.argmax(axis=1)]
    assert figures["accuracy"] == accuracy_score(labels, found)
    assert figures["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, found))
    for average in ("macro", "weighted"):
        for name, score in (
            ("f1", f1_score), ("recall", recall_score), ("precision", precision_score)
        ):  # fmt: skip
            expected = score(labels, found, average=average)
            assert figures[f"{average}_{name}"] == pytest.approx(expected)
    expected = log_loss(labels, probabilities, labels=NAMES)
    assert figures["loss"] == pytest.approx(expected, rel=1e-5)
    top_3 = top_k_accuracy_score(labels, probabilities, k=3, labels=NAMES)
    assert figures["top_3_accuracy"] == pytest.approx(top_3)
    area = roc_auc_score(labels, probabilities, multi_class="ovr", labels=NAMES)
    assert figures["roc_auc"] == pytest.approx(area)
    one_hot = np.array(labels)[:, None] == np.array(NAMES)
    assert figures["average_precision"] == pytest.approx(
        average_precision_score(one_hot, probabilities, average="macro")
    )
    assert figures["undefined"] == 0


def test_of_two_classes_the_second_is_looked_for() -> None:
    labels = ["no", "yes", "yes", "no", "no", "no"]
    of_yes = np.array([0.1, 0.9, 0.4, 0.6, 0.3, 0.2], np.float32)

    figures, _ = figures_of(index_of(labels), np.stack([1 - of_yes, of_yes], 1), ["no", "yes"])

    # Of 2 × 4 pairs of yes and no, one (0.4 before 0.6) stands the wrong way round.
    assert figures["roc_auc"] == pytest.approx(7 / 8)
    # Met at ranks 1 and 3, with precision 1 and 2/3.
    assert figures["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert "top_3_accuracy" not in figures and figures["undefined"] == 1


def test_intervals_hold_their_figures(labels: list[str]) -> None:
    figures, tables = figures_of(index_of(labels), scored(labels, NAMES, 4))

    for name in ("accuracy", "macro_f1"):
        assert figures[f"{name}_low"] < figures[name] < figures[f"{name}_high"]
    for name, table in (
        ("recall", "per_class"),
        ("accuracy", "top_k"),
        ("accuracy", "reliability"),
    ):
        rows = tables[table]
        assert (rows[f"{name}_low"] <= rows[name]).all()
        assert (rows[name] <= rows[f"{name}_high"]).all()


def test_all_that_is_written_is_finite_and_sorted(
    labels: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    figures, tables = figures_of(index_of(labels), scored(labels, NAMES, 4))

    write_metrics("evaluate", figures)
    for name, table in tables.items():
        write_plot(name, table)

    text = Path("metrics/evaluate.json").read_text()
    assert list(json.loads(text)) == sorted(figures)
    assert json.loads(text)["recall__cat"] == pytest.approx(
        tables["per_class"].set_index("label").at["cat", "recall"], abs=1e-5
    )


@pytest.mark.parametrize("tested", [["ant"], ["ant", "bee"]])
def test_what_a_test_set_leaves_undefined_is_left_out_and_counted(
    tested: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    labels = tested * 10

    figures, tables = figures_of(index_of(labels), scored(labels, NAMES, 5))

    missing = {f"recall__{name}" for name in NAMES if name not in tested}
    if len(tested) == 1:
        missing |= {"roc_auc", "average_precision"}
        assert tables["roc"].empty and tables["ranking"].empty
    assert figures["undefined"] == len(missing)
    assert not missing & set(figures)
    assert figures["classes_tested"] == len(tested)
    for name, table in tables.items():
        write_plot(name, table)


def test_the_exact_matrix_is_written_beside_capped_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("metrics").mkdir()
    truth = np.repeat([0, 1], [9000, 3000])
    answers = np.where(np.arange(12000) % 3 == 0, 1 - truth, truth)
    matrix = confusion_matrix(truth, answers, 2)

    write_confusion(matrix, ["a", "ü"])
    rows = plot_tables(truth, np.eye(2, dtype=np.float32)[answers], ["a", "ü"], PARAMS)["confusion"]

    content = json.loads(Path("metrics/confusion.json").read_text(encoding="utf-8"))
    assert content == {"labels": ["a", "ü"], "matrix": [[6000, 3000], [1000, 2000]]}
    assert len(rows) == CONFUSION_ROWS
    counts = rows.value_counts().to_dict()
    assert counts[("a", "a")] == 2500 and counts[("a", "ü")] == 1250


def test_each_row_says_what_was_predicted_of_its_own_picture() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1, 0], [0.5, 0.3, 0.2, 0]], np.float32)

    table = predictions_table(index_of(["ant", "cat"]), probabilities, NAMES)

    assert table["predicted"].tolist() == ["ant", "ant"]
    assert table["correct"].tolist() == [True, False]
    np.testing.assert_allclose(table["confidence"], [0.7, 0.5])
    np.testing.assert_allclose(table["loss"], -np.log([0.7, 0.2]), rtol=1e-6)


def test_mistakes_are_ranked_by_loss_each_with_its_own_neighbour() -> None:
    probabilities = np.array(
        [[0.4, 0.6, 0, 0], [1, 0, 0, 0], [0.1, 0.9, 0, 0], [0.3, 0.7, 0, 0]], np.float32
    )
    predictions = predictions_table(index_of(["ant"] * 4), probabilities, NAMES)
    near = pd.DataFrame(
        {
            "nearest_uri": ["near 0", "near 2", "near 3"],
            "nearest_label": ["bee", "bee", "ant"],
            "nearest_similarity": [0.7, 0.8, 0.9],
        }
    )

    found = mistakes_table(predictions, near)

    assert found["rank"].tolist() == [1, 2, 3]
    assert found["uri"].tolist() == [f"data/raw/ant/{at}.png" for at in (2, 3, 0)]
    assert found["nearest_uri"].tolist() == ["near 2", "near 3", "near 0"]
    np.testing.assert_allclose(found["of_label"], [0.1, 0.3, 0.4], rtol=1e-6)
    alone = mistakes_table(predictions, None)
    assert alone["uri"].tolist() == found["uri"].tolist()
    assert (alone["nearest_uri"] == "").all() and alone["nearest_similarity"].isna().all()


def test_a_class_without_test_images_has_no_row_and_spoils_no_average() -> None:
    index = index_of(["ant", "bee", "ant"])

    figures, tables = figures_of(index, np.eye(4, dtype=np.float32)[[0, 1, 0]])

    assert tables["per_class"]["label"].tolist() == ["ant", "bee"]
    assert tables["per_class"]["n"].tolist() == [2, 1]
    assert (figures["macro_f1"], figures["classes_tested"]) == (1.0, 2)


def test_the_fingerprint_names_the_test_set_whatever_the_model_says() -> None:
    index, right = index_of(NAMES), np.eye(4, dtype=np.float32)

    prints = [
        figures_of(table, right)[0]["test_fingerprint"]
        for table in (index, index[::-1].reset_index(drop=True), index.assign(label="ant"))
    ]

    assert prints[0] == prints[1] != prints[2]


def test_the_hash_of_a_model_changes_with_its_weights_and_its_architecture(tmp_path: Path) -> None:
    hashes = []
    for config, weights in (("a", "b"), ("a", "b"), ("c", "b"), ("a", "c"), ("b", "a")):
        (tmp_path / "config.json").write_text(config)
        (tmp_path / "model.weights.h5").write_text(weights)
        hashes.append(hash_weights(tmp_path))

    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 4


# --- The stage as a whole -----------------------------------------------------------------------

COLOURS = {"blue": (20, 30, 200), "green": (10, 180, 40), "red": (220, 25, 15)}


def colour_model(names: list[str]) -> Classifier:
    """Return a model that names the channel with most light: its features are the means of red,
    green and blue, so that all its answers can be told beforehand.
    """
    inputs = keras.layers.Input((12, 16, 3), name="image")
    maps = keras.layers.Conv2D(3, 1, use_bias=False)(inputs)
    features = keras.layers.GlobalAveragePooling2D()(maps)
    model = keras.Model(inputs, head(features, len(names)), name="colour")
    channels = ["red", "green", "blue"]
    kernel = 0.02 * np.array([[channel == name for name in names] for channel in channels])
    if len(names) == 2:
        kernel = kernel[:, 1:] - kernel[:, :1]
    model.set_weights([np.eye(3).reshape(1, 1, 3, 3), kernel, np.zeros(kernel.shape[1])])
    return Classifier(model, names)


@pytest.fixture
def run(project: Callable[..., Path]) -> Callable[..., None]:
    """Return a function that makes a project of pictures in plain colours, five of each class in
    test, and evaluates it. The first of the last class in test is another colour than its label.
    """

    def make(
        names: list[str],
        change: Callable[[dict[str, NDArray[np.uint8]]], None] = lambda arrays: None,
        not_comparable: tuple[str, ...] = (),
        overrides: str = "",
        **params: Any,
    ) -> None:
        project(evaluate=params)
        with Path("overrides.csv").open("a") as stream:
            stream.write(overrides)
        rng, rows = np.random.default_rng(2), []
        DATASET.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, NDArray[np.uint8]] = {}
        labels_of: dict[str, NDArray[np.str_]] = {}
        for split, copies in (("train", 4), ("val", 1), ("test", 5)):
            labels = np.repeat(names, copies)
            shown = list(labels)
            if split == "test":
                shown[-copies] = names[0]
            pictures = np.array([np.full((12, 16, 3), COLOURS[name]) for name in shown])
            arrays[split] = (pictures + rng.integers(-9, 10, (len(labels), 1, 1, 3))).astype(
                np.uint8
            )
            labels_of[split] = labels
        change(arrays)
        for split, labels in labels_of.items():
            pictures = arrays[split]
            np.save(array_file(split), pictures)
            for row, label in enumerate(labels):
                child = split == "train" and row % 4 == 3
                rows.append((split, row, f"{split}/{row}", label, "parent" if child else "",
                             zlib.crc32(pictures[row].tobytes())))  # fmt: skip
        columns = ["split", "row", "uri", "label", "parent_id", "crc32"]
        index = pd.DataFrame(rows, columns=columns)
        ids = [hashlib.sha256(uri.encode()).hexdigest() for uri in index["uri"]]
        index = index.assign(image_id=ids, augment_seed=0, unit="group")
        write_table(INDEX_FILE, index, INDEX)
        clean = index[index["parent_id"] == ""][["uri"]]
        clean = clean.assign(comparable=~clean["uri"].isin(not_comparable))
        write_table(Path("data/clean.parquet"), clean, CLEAN.only("uri", "comparable"))
        save_classifier(colour_model(names), CLASSIFIER)
        evaluate.main()

    return make


@pytest.mark.parametrize("names", [["blue", "red"], ["blue", "green", "red"]])
def test_a_mislabelled_picture_is_the_one_mistake_and_its_like_is_found(
    run: Callable[..., None], names: list[str]
) -> None:
    run(names, grad_cam=3)

    (mistake,) = read_table(Path("data/mistakes.csv"), MISTAKES).to_dict("records")
    at = 5 * (len(names) - 1)
    assert (mistake["uri"], mistake["label"], mistake["predicted"]) == (f"test/{at}", "red", "blue")
    assert mistake["nearest_label"] == "blue" and mistake["nearest_similarity"] > 0.99
    assert mistake["nearest_uri"] in ("train/0", "train/1", "train/2")  # train/3 is a child
    figures = read_metrics("evaluate")
    assert figures["correct"] == figures["n"] - 1 == 5 * len(names) - 1
    assert figures["train_accuracy"] == 1.0
    assert figures["train_test_gap"] == pytest.approx(1 / (5 * len(names)))
    assert figures["weights_hash"] == hash_weights(CLASSIFIER)
    assert figures["recall__red"] == figures["lowest_recall"] == 0.8
    painted = np.load("data/grad_cam.npy")
    assert painted.shape == (1, 12, 16, 3) and painted.dtype == np.uint8
    timing = json.loads(Path("metrics/evaluate_timing.json").read_text())
    assert timing["images_per_second"] > 0


def test_a_model_that_may_be_no_better_than_one_answer_is_told_of(
    run: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    run(["blue", "red"], grad_cam=0)
    assert read_metrics("evaluate")["baseline_accuracy"] == 0.5
    assert "warning" not in capsys.readouterr().out

    run(["blue", "red"], grad_cam=0, confidence=0.9999)

    assert "warning: not proven to be better" in capsys.readouterr().out
    assert read_metrics("evaluate")["accuracy_low"] < 0.5


def test_painted_pictures_are_those_of_the_mistakes(run: Callable[..., None]) -> None:
    run(["blue", "red"], grad_cam=1)

    (painted,) = np.load("data/grad_cam.npy")
    test = np.load(array_file("test"))
    grey = test[5].mean(axis=-1)
    share = evaluate.look_closer(
        load_classifier(), test[5:6], pd.DataFrame({"uri": ["a"], "row": [0]}),
        pd.DataFrame({"uri": ["a"], "predicted": ["blue"]}),
    )  # fmt: skip
    np.testing.assert_array_equal(painted, share[0])
    assert (painted[..., 0] > grey).all()  # all of it spoke for blue, so all of it is painted


def test_the_pass_over_train_and_the_painting_can_be_left_out(
    run: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    run(["blue", "red"], grad_cam=0, compare_with_train=False)

    figures = read_metrics("evaluate")
    assert "train_accuracy" not in figures and "train_test_gap" not in figures
    (mistake,) = read_table(Path("data/mistakes.csv"), MISTAKES).to_dict("records")
    assert mistake["nearest_uri"] == "" and np.isnan(mistake["nearest_similarity"])
    assert len(np.load("data/grad_cam.npy")) == 0
    assert "near_duplicates_across" not in figures
    assert read_table(Path(TABLE), ACROSS).empty
    assert "no second search" in capsys.readouterr().out


def test_a_second_run_writes_the_same_bytes_and_reads_no_more_than_it_should(
    run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(["blue", "green", "red"])
    files = [path for folder in ("data", "metrics") for path in Path(folder).rglob("*.*")]
    written = {path: path.read_bytes() for path in files if "timing" not in path.name}
    read = []

    def watched(split: str, verify: bool = True) -> Any:
        read.append(split)
        return load_split(split, verify)

    monkeypatch.setattr(evaluate, "load_split", watched)
    monkeypatch.setattr("stages.lib.answering.load_split", watched)

    evaluate.main()

    assert {path: path.read_bytes() for path in written} == written
    assert len(written) > 12
    assert read == ["test", "train", "val"]


# --- The second search --------------------------------------------------------------------------


def textured(seed: int) -> NDArray[np.uint8]:
    """Return a red image, 12 x 16, with a texture of its own."""
    spots = np.random.default_rng(seed).integers(0, 200, (12, 16, 3))
    return (spots // [1, 4, 4] + [55, 0, 0]).astype(np.uint8)


def plant_copy(arrays: dict[str, NDArray[np.uint8]]) -> None:
    """Put an image into test (row 3) and a paler copy of it into train (row 1) and its child."""
    image = textured(1)
    arrays["test"][3] = image
    arrays["train"][[1, 3]] = (0.9 * image + 12).astype(np.uint8)


def uri_hash(uri: str) -> str:
    return hashlib.sha256(uri.encode()).hexdigest()


def test_a_planted_near_duplicate_is_found_counted_and_named(
    run: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    run(["red", "green"], plant_copy)

    (pair,) = read_table(Path(TABLE), ACROSS).to_dict("records")
    assert (pair["test_uri"], pair["test_label"]) == ("test/3", "red")
    assert (pair["other_uri"], pair["other_split"]) == ("train/1", "train")
    assert (pair["test_id"], pair["other_id"]) == (uri_hash("test/3"), uri_hash("train/1"))
    assert pair["similarity"] > 0.9
    figures = read_metrics("evaluate")
    assert figures["near_duplicates_across"] == 1
    assert figures["test_images_with_near_duplicate"] == 1
    printed = capsys.readouterr().out
    assert "evaluate: warning: 1 of 10 test images has a near-duplicate in train or val" in printed
    assert "test/3 (red) and train/1 (red, train)" in printed
    assert "no near-duplicates found" not in printed


def test_where_nothing_is_found_the_words_say_what_was_checked(
    run: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    def fill(arrays: dict[str, NDArray[np.uint8]]) -> None:
        arrays["test"][3], arrays["train"][1] = textured(1), textured(2)

    run(["red", "green"], fill, not_comparable=("test/0", "test/1", "train/0"))

    figures = read_metrics("evaluate")
    assert figures["near_duplicates_across"] == figures["test_images_with_near_duplicate"] == 0
    assert figures["test_images_not_compared"] == 2
    assert read_table(Path(TABLE), ACROSS).empty
    assert (
        "evaluate: no near-duplicates found across the split by a second search (the model's "
        "features propose, pixels decide); people and objects are known only by the groups you "
        "gave; 2 of 10 test images could not be compared: too flat, dark or small\n"
    ) in capsys.readouterr().out


def test_two_that_a_person_told_apart_are_no_near_duplicates(run: Callable[..., None]) -> None:
    line = f"{uri_hash('train/1')},not_duplicate,{uri_hash('test/3')},\n"

    run(["red", "green"], plant_copy, overrides=line)

    assert read_metrics("evaluate")["near_duplicates_across"] == 0
