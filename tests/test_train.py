"""train: learns, keeps its best epoch, repeats itself bit for bit, refuses what cannot work."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.utils.class_weight import compute_class_weight

from stages.lib.classifier import Classifier, load_classifier, predict, save_classifier
from stages.lib.errors import InputError
from stages.lib.feeding import ShuffledBatches
from stages.lib.keras_runtime import make_deterministic
from stages.train import Params, balanced_weights, build_model, fit

PARAMS = Params(
    seed=3,
    model="compact_cnn",
    width=8,
    dropout=0.1,
    weight_decay=0.0005,
    class_weights="none",
    epochs=6,
    batch_size=16,
    learning_rate=0.005,
    early_stopping_patience=4,
    plateau_patience=2,
    plateau_factor=0.5,
    min_learning_rate=0.0001,
)
SHAPE = (16, 16, 3)


def bright_and_dark(count: int, seed: int) -> ShuffledBatches:
    """Return batches of two classes that a net tells apart at once: dark and bright noise."""
    rng = np.random.default_rng(seed)
    classes = np.arange(count) % 2
    pictures = rng.integers(0, 128, (count, *SHAPE)) + 127 * classes[:, None, None, None]
    return ShuffledBatches(pictures.astype(np.uint8), classes, PARAMS.batch_size, PARAMS.seed)


def train(params: Params = PARAMS) -> tuple[Classifier, pd.DataFrame]:
    make_deterministic(params.seed)
    model = build_model(SHAPE, 2, params)
    history = fit(model, bright_and_dark(64, 1), bright_and_dark(32, 2), params)
    return Classifier(model, ["dark", "bright"]), history


@pytest.fixture(scope="module")
def trained() -> tuple[Classifier, pd.DataFrame]:
    return train()


def test_it_learns_what_is_easy(trained: tuple[Classifier, pd.DataFrame]) -> None:
    classifier, _ = trained
    held_out = bright_and_dark(40, 9)

    found = predict(classifier, held_out.pictures, 16, "test").argmax(axis=1)

    assert (found == held_out.classes).mean() > 0.95


def test_the_weights_are_those_of_the_best_epoch(
    trained: tuple[Classifier, pd.DataFrame],
) -> None:
    classifier, history = trained
    val = bright_and_dark(32, 2)
    probabilities = predict(classifier, val.pictures, 32, "test")

    loss = -np.log(probabilities[np.arange(32), val.classes]).mean()

    np.testing.assert_allclose(loss, history["val_loss"].min(), rtol=1e-3)


def test_two_runs_give_the_same_bytes(
    trained: tuple[Classifier, pd.DataFrame], tmp_path: Path
) -> None:
    again, history = train()
    save_classifier(trained[0], tmp_path / "first")
    save_classifier(again, tmp_path / "second")

    pd.testing.assert_frame_equal(history, trained[1])
    for file in sorted((tmp_path / "first").iterdir()):
        assert file.read_bytes() == (tmp_path / "second" / file.name).read_bytes(), file.name


def test_a_saved_classifier_loads_back_to_equal_predictions(
    trained: tuple[Classifier, pd.DataFrame], tmp_path: Path
) -> None:
    pictures = bright_and_dark(20, 5).pictures
    save_classifier(trained[0], tmp_path)

    loaded = load_classifier(tmp_path)

    assert loaded.class_names == ["dark", "bright"]
    np.testing.assert_array_equal(
        predict(loaded, pictures, 8, "test"), predict(trained[0], pictures, 8, "test")
    )


def test_it_stops_early_and_lowers_the_learning_rate() -> None:
    never_better = replace(
        PARAMS, epochs=12, learning_rate=1e-9, min_learning_rate=0.0, early_stopping_patience=5
    )
    model = build_model(SHAPE, 2, never_better)
    noise = np.random.default_rng(0).integers(0, 256, (32, *SHAPE), dtype=np.uint8)
    batches = ShuffledBatches(noise, np.arange(32) % 2, 16, 0)
    wrong = ShuffledBatches(noise, 1 - np.arange(32) % 2, 16, 0)

    history = fit(model, batches, wrong, never_better)

    assert len(history) < 12 or history["val_loss"].idxmin() >= 6
    assert history["learning_rate"].iloc[-1] <= history["learning_rate"].iloc[0]


@pytest.mark.parametrize("counts", [[5, 5], [9, 1], [1, 2, 3, 40], [7]])
def test_balanced_weights_are_those_of_scikit_learn(counts: list[int]) -> None:
    classes = np.repeat(np.arange(len(counts)), counts)

    weights = balanced_weights(classes)

    expected = compute_class_weight("balanced", classes=np.arange(len(counts)), y=classes)
    assert list(weights) == list(range(len(counts)))
    np.testing.assert_allclose(list(weights.values()), expected)


def alike(counts: tuple[int, int]) -> ShuffledBatches:
    """Return batches of two classes that nothing tells apart: the best guess is their share."""
    pictures = np.full((sum(counts), *SHAPE), 128, np.uint8)
    return ShuffledBatches(pictures, np.repeat([0, 1], counts), PARAMS.batch_size, PARAMS.seed)


def test_class_weights_pull_towards_the_rare_class_and_leave_validation_alone() -> None:
    train, val = alike((56, 8)), alike((28, 4))
    rare, losses, expected = {}, {}, {}

    for choice in ("none", "balanced"):
        params = replace(PARAMS, class_weights=choice, dropout=0.0, epochs=25, learning_rate=0.02)
        make_deterministic(params.seed)
        model = build_model(SHAPE, 2, params)
        history = fit(model, train, val, replace(params, early_stopping_patience=25))
        found = predict(Classifier(model, ["many", "rare"]), val.pictures, 32, "test")
        rare[choice] = found[0, 1]
        losses[choice] = history["val_loss"].min()
        expected[choice] = -np.log(found[np.arange(32), val.classes]).mean()

    assert rare["none"] < 0.3 < rare["balanced"]
    for choice, loss in losses.items():
        np.testing.assert_allclose(loss, expected[choice], rtol=1e-3)


@pytest.mark.parametrize("shape", [(16, 40, 3), (40, 16, 1), (64, 24, 1)])
def test_it_trains_on_grey_pictures_and_on_sides_that_differ(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    classes = np.arange(32) % 2
    pictures = rng.integers(0, 128, (32, *shape)) + 127 * classes[:, None, None, None]
    batches = ShuffledBatches(pictures.astype(np.uint8), classes, 16, 0)
    make_deterministic(0)

    model = build_model(shape, 2, replace(PARAMS, epochs=1))
    history = fit(model, batches, batches, replace(PARAMS, epochs=1))

    assert model.input_shape == (None, *shape)
    assert np.isfinite(history["val_loss"]).all()


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(InputError, match="train.model must be one of compact_cnn, got 'resnet'"):
        build_model(SHAPE, 2, replace(PARAMS, model="resnet"))


def test_a_loss_that_is_no_number_is_an_error_that_names_the_remedy() -> None:
    with pytest.raises(InputError, match="lower train.learning_rate"):
        train(replace(PARAMS, learning_rate=1e30))


def test_every_picture_comes_once_an_epoch_in_an_order_of_its_own() -> None:
    batches = bright_and_dark(37, 1)
    orders = []
    for _ in range(2):
        seen = [batches[number][0] for number in range(len(batches))]
        assert sum(map(len, seen)) == 37
        assert np.array_equal(np.sort(batches.order), np.arange(37))
        orders.append(batches.order.copy())
        batches.on_epoch_end()

    assert not np.array_equal(*orders)
    assert np.array_equal(bright_and_dark(37, 1).order, orders[0])


def test_a_missing_classifier_is_an_error_that_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dvc repro"):
        load_classifier(tmp_path)
