"""train: learns, keeps its best epoch, repeats itself bit for bit, refuses what cannot work."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from trainable import MANY_OPTIONS, SHAPE, Pair, bright_and_dark, files_of, write_arrays

from stages import train as stage
from stages.lib.classifier import Classifier, load_classifier, predict, save_classifier
from stages.lib.dataset import DATASET, load_split
from stages.lib.errors import InputError
from stages.lib.feeding import NO_TRANSFORMS, TrainTransforms
from stages.lib.fine_tuning import FineTuning
from stages.lib.metrics import read_metrics
from stages.lib.precision import use_precision
from stages.lib.resuming import Checkpoints
from stages.lib.schedules import ScheduleParams
from stages.lib.table import INDEX, write_table
from stages.lib.training import OptimizerParams
from stages.train import Params, feeds, key_of, require_sense, train_metrics, train_model

ROOT = Path(__file__).parents[1]
PARAMS = Params(
    seed=3,
    model="compact_cnn",
    options={"width": 8, "dropout": 0.1},
    watch="stages/train.py",
    class_weights="none",
    transforms=NO_TRANSFORMS,
    epochs=6,
    batch_size=16,
    learning_rate=0.005,
    fine_tuning=(),
    schedule=ScheduleParams("plateau", warmup=0.0, patience=2, factor=0.5, minimum=0.0001),
    optimizer=OptimizerParams("adamw", momentum=0.9, weight_decay=0.0005),
    label_smoothing=0.0,
    average=0.0,
    monitor="val_loss",
    early_stopping_patience=4,
    precision="float32",
    strategy="none",
    threshold="none",
    tensorboard=False,
    deterministic=True,
)


@pytest.fixture(autouse=True)
def plain_numbers() -> Iterator[None]:
    """Undo what a test has told the whole process."""
    yield
    use_precision("float32")


def learn(
    folder: Path, params: Params = PARAMS, train: Pair | None = None, val: Pair | None = None
) -> tuple[Classifier, pd.DataFrame]:
    """Return a classifier of dark and bright, and its history."""
    train, val = train or bright_and_dark(64, 1), val or bright_and_dark(32, 2)
    model, history = train_model(*feeds(train, val, params), 2, params, Checkpoints(folder, "run"))
    return Classifier(model, ["dark", "bright"]), history


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Classifier, pd.DataFrame]:
    return learn(tmp_path_factory.mktemp("trained"))


def test_it_learns_what_is_easy(trained: tuple[Classifier, pd.DataFrame]) -> None:
    classifier, _ = trained
    pictures, classes = bright_and_dark(40, 9)

    found = predict(classifier, pictures, 16, "test").argmax(axis=1)

    assert (found == classes).mean() > 0.95


def test_the_weights_are_those_of_the_best_epoch(
    trained: tuple[Classifier, pd.DataFrame],
) -> None:
    classifier, history = trained
    pictures, classes = bright_and_dark(32, 2)
    probabilities = predict(classifier, pictures, 32, "test")

    loss = -np.log(probabilities[np.arange(32), classes]).mean()

    np.testing.assert_allclose(loss, history["val_loss"].min(), rtol=1e-3)


def test_two_runs_give_the_same_bytes(
    trained: tuple[Classifier, pd.DataFrame], tmp_path: Path
) -> None:
    again, history = learn(tmp_path)
    save_classifier(trained[0], tmp_path / "first")
    save_classifier(again, tmp_path / "second")

    pd.testing.assert_frame_equal(history, trained[1])
    for file in sorted((tmp_path / "first").iterdir()):
        assert file.read_bytes() == (tmp_path / "second" / file.name).read_bytes(), file.name


def test_a_saved_classifier_loads_back_to_equal_predictions(
    trained: tuple[Classifier, pd.DataFrame], tmp_path: Path
) -> None:
    pictures = bright_and_dark(20, 5)[0]
    save_classifier(trained[0], tmp_path)

    loaded = load_classifier(tmp_path)

    assert loaded.class_names == ["dark", "bright"]
    np.testing.assert_array_equal(
        predict(loaded, pictures, 8, "test"), predict(trained[0], pictures, 8, "test")
    )


VARIANTS: dict[str, dict[str, Any]] = {
    "sgd, one cycle": {
        "optimizer": OptimizerParams("sgd", momentum=0.9, weight_decay=0.001),
        "schedule": ScheduleParams("one_cycle", warmup=0.3, patience=1, factor=0.5, minimum=0.0),
        "learning_rate": 0.05,
    },
    "muon, one cycle": {
        "optimizer": OptimizerParams("muon", momentum=0.85, weight_decay=0.01),
        "schedule": ScheduleParams("one_cycle", warmup=0.3, patience=1, factor=0.5, minimum=0.0),
        "learning_rate": 0.1,
    },
    "adam, cosine": {
        "optimizer": OptimizerParams("adam", momentum=0.9, weight_decay=0.0),
        "schedule": ScheduleParams("cosine", warmup=0.0, patience=1, factor=0.5, minimum=0.0),
    },
    "average": {"average": 0.9},
    "smoothing": {"label_smoothing": 0.2},
    "accuracy": {"monitor": "val_accuracy"},
    "bfloat16": {"precision": "bfloat16"},
    "transforms": {
        "transforms": TrainTransforms(True, 0.1, 10.0, 5.0, 0.1, 0.2, 0.0, 0.1),
    },
    "free": {"deterministic": False},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_it_learns_with_every_option_and_keeps_its_best_epoch(tmp_path: Path, name: str) -> None:
    params = replace(PARAMS, epochs=12, early_stopping_patience=12, **VARIANTS[name])
    pictures, classes = bright_and_dark(32, 2)

    classifier, history = learn(tmp_path, params)

    probabilities = predict(classifier, pictures, 32, "test")
    found = probabilities.argmax(axis=1) == classes
    assert found.mean() > 0.9
    best = history.iloc[
        int(train_metrics(classifier.model, history, params.recipe)["best_epoch"]) - 1
    ]
    np.testing.assert_allclose(found.mean(), best["val_accuracy"], rtol=1e-6)
    loss = -np.log(probabilities[np.arange(32), classes]).mean()
    np.testing.assert_allclose(loss, best["val_loss"], rtol=0.05, atol=1e-3)


def test_a_binary_and_a_three_class_model_have_as_many_outputs_as_classes(tmp_path: Path) -> None:
    pictures, classes = bright_and_dark(48, 1)
    thirds = np.arange(48) % 3
    short = replace(PARAMS, epochs=1)

    for numbers, count in ((classes, 2), (thirds, 3)):
        pair = (pictures, numbers)
        model, _ = train_model(
            *feeds(pair, pair, short), count, short, Checkpoints(tmp_path, str(count))
        )

        assert model.output_shape == (None, count)


def test_it_stops_early_and_lowers_the_learning_rate(tmp_path: Path) -> None:
    never_better = replace(PARAMS, epochs=12, learning_rate=0.02, early_stopping_patience=5)
    pictures, classes = bright_and_dark(32, 0)

    history = learn(tmp_path, never_better, (pictures, classes), (pictures, 1 - classes))[1]

    assert len(history) < 12
    assert history["val_loss"].idxmin() == len(history) - 6
    assert history["learning_rate"].iloc[-1] < history["learning_rate"].iloc[0]


def alike(counts: tuple[int, int]) -> Pair:
    """Return pictures of two classes that nothing tells apart: the best guess is their share."""
    return np.full((sum(counts), *SHAPE), 128, np.uint8), np.repeat([0, 1], counts)


def test_class_weights_pull_towards_the_rare_class_and_leave_validation_alone(
    tmp_path: Path,
) -> None:
    train, (pictures, classes) = alike((56, 8)), alike((28, 4))
    rare, losses, expected = {}, {}, {}

    for choice in ("none", "balanced"):
        params = replace(
            PARAMS,
            class_weights=choice,
            options={"width": 8, "dropout": 0.0},
            epochs=25,
            learning_rate=0.02,
            early_stopping_patience=25,
        )
        classifier, history = learn(tmp_path / choice, params, train, (pictures, classes))
        found = predict(classifier, pictures, 32, "test")
        rare[choice] = found[0, 1]
        losses[choice] = history["val_loss"].min()
        expected[choice] = -np.log(found[np.arange(32), classes]).mean()

    assert rare["none"] < 0.3 < rare["balanced"]
    for choice, loss in losses.items():
        np.testing.assert_allclose(loss, expected[choice], rtol=1e-3)


@pytest.mark.parametrize("shape", [(16, 40, 3), (40, 16, 1), (64, 24, 1)])
def test_it_trains_on_grey_pictures_and_on_sides_that_differ(
    tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    pair = bright_and_dark(32, 0, shape)

    classifier, history = learn(tmp_path, replace(PARAMS, epochs=1), pair, pair)

    assert classifier.model.input_shape == (None, *shape)
    assert np.isfinite(history["val_loss"]).all()


def test_a_loss_that_is_no_number_is_an_error_that_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"lower train.learning_rate \(1e\+30\)"):
        learn(tmp_path, replace(PARAMS, learning_rate=1e30))


def test_a_missing_classifier_is_an_error_that_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dvc repro"):
        load_classifier(tmp_path)


# --- Interrupted ----------------------------------------------------------------------------------


@pytest.fixture
def arrays(project: Callable[..., Path]) -> Path:
    """Return a project whose arrays are ready to be trained on."""
    folder = project(train=MANY_OPTIONS)
    write_arrays(folder)
    return folder


def start(folder: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "stages.train"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def kill_after(folder: Path, line: str) -> None:
    """Run the stage until it prints the line, and kill it at once."""
    process = start(folder)
    assert process.stdout is not None
    for said in process.stdout:
        if line in said:
            os.kill(process.pid, signal.SIGKILL)
            break
    assert process.wait() == -signal.SIGKILL


def test_a_run_killed_at_three_epochs_ends_with_the_bits_of_one_that_was_not(arrays: Path) -> None:
    assert start(arrays).wait() == 0
    whole = files_of(arrays)
    assert not list((arrays / ".cache").rglob("*.npz"))

    for epoch in (1, 3, 4):
        kill_after(arrays, f"epoch   {epoch} of 5")
    process = start(arrays)
    said, _ = process.communicate()

    assert process.returncode == 0
    assert "goes on after epoch 4, where an earlier run was interrupted" in said
    assert files_of(arrays) == whole
    assert read_metrics("train")["epochs"] == 5
    speeds = pd.read_csv(arrays / "metrics/train_timing.csv")
    assert speeds["epoch"].tolist() == [5], "of the epoch that this run has learned"
    assert (speeds["images_per_second"] > 0).all()
    assert not list((arrays / ".cache").rglob("*.npz"))


def test_a_run_goes_on_only_with_the_same_data_and_params() -> None:
    index = pd.DataFrame({"label": ["a", "b"], "crc32": [1, 2]})

    keys = {
        key_of(index, PARAMS),
        key_of(index, replace(PARAMS, seed=4)),
        key_of(index, replace(PARAMS, options={"width": 9})),
        key_of(index.assign(crc32=[1, 3]), PARAMS),
        key_of(index.assign(label=["b", "a"]), PARAMS),
    }

    assert len(keys) == 5
    assert key_of(index, PARAMS) in keys


def test_a_leaky_split_marks_the_metrics(arrays: Path) -> None:
    index = pd.read_parquet(arrays / DATASET / "index.parquet").assign(unit="image")
    write_table(arrays / DATASET / "index.parquet", index, INDEX)

    stage.main()

    assert read_metrics("train")["leaky"] is True


def test_what_is_asked_for_beside_the_classifier_is_there_too(arrays: Path) -> None:
    text = (arrays / "params.yaml").read_text()
    for plain, asked in (("tensorboard: false", "tensorboard: true"), ("epochs: 5", "epochs: 1")):
        assert plain in text
        text = text.replace(plain, asked)
    text = text.replace("threshold: none", "threshold: macro_f1")
    (arrays / "params.yaml").write_text(text)

    stage.main()

    metrics = read_metrics("train")
    pictures, index = load_split("val")
    found = predict(load_classifier(), pictures, 8, "val").argmax(axis=1)
    assert metrics["val_accuracy"] == (found == (index["label"] == "dark")).mean()
    assert 0 < metrics["threshold"] < 1
    events = list((arrays / ".cache/tensorboard").rglob("events.out.tfevents.*"))
    assert len(events) == 1
    assert b"images_per_second" in events[0].read_bytes()


def test_a_threshold_between_three_classes_is_refused() -> None:
    with pytest.raises(InputError, match="for two classes, the data have 3; set it to none"):
        require_sense(replace(PARAMS, threshold="macro_f1"), 3)


# --- Models of other kinds ------------------------------------------------------------------------


def test_a_pretrained_network_is_trained_in_steps(tmp_path: Path) -> None:
    params = replace(
        PARAMS,
        model="transfer",
        options={"weights": "none", "hidden": 8},
        epochs=2,
        fine_tuning=(FineTuning(free_from=150, learning_rate=0.001, epochs=1),),
    )
    pair = bright_and_dark(32, 1, (32, 32, 3))

    classifier, history = learn(tmp_path, params, pair, pair)

    assert history["stage"].tolist() == [0, 0, 1]
    save_classifier(classifier, tmp_path / "saved")
    loaded = load_classifier(tmp_path / "saved")
    np.testing.assert_array_equal(
        predict(loaded, pair[0], 8, "test"), predict(classifier, pair[0], 8, "test")
    )


def test_clusters_are_fitted_at_once_and_told_apart(tmp_path: Path) -> None:
    params = replace(PARAMS, model="filters_kmeans", options={"count": 3, "features": 32})

    classifier, history = learn(tmp_path, params)

    assert len(history) == 1
    assert history["val_accuracy"].iloc[0] == 1
    pictures, classes = bright_and_dark(32, 2)
    assert (predict(classifier, pictures, 8, "test").argmax(axis=1) == classes).all()


def test_fine_tuning_of_a_network_from_scratch_is_refused() -> None:
    step = FineTuning(free_from=0, learning_rate=0.1, epochs=1)

    with pytest.raises(InputError, match="train.fine_tuning is for train.model transfer alone"):
        require_sense(replace(PARAMS, fine_tuning=(step,)), 2)


def test_a_weights_file_that_dvc_does_not_watch_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "weights.h5"
    path.write_bytes(b"1")
    params = replace(PARAMS, model="transfer", options={"weights": str(path)})
    index = pd.DataFrame({"label": ["a"], "crc32": [1]})

    require_sense(params, 2)
    told = capsys.readouterr().out
    require_sense(replace(params, watch=str(path)), 2)

    assert "DVC will not see it change" in told
    assert capsys.readouterr().out == ""
    before = key_of(index, params)
    path.write_bytes(b"2")
    assert key_of(index, params) != before
