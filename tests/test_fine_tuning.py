"""Fine-tuning: features once for all epochs, and only steps that validation gains from."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from stages.lib.feeding import NO_TRANSFORMS, Feed
from stages.lib.fine_tuning import FineTuning, feature_array, fit_head, fit_transfer
from stages.lib.keras_runtime import keras, seed_everything
from stages.lib.models.transfer import features, transfer
from stages.lib.resuming import Checkpoints
from stages.lib.schedules import ScheduleParams
from stages.lib.training import OptimizerParams, Recipe, judge, make_optimizer

SHAPE = (32, 32, 3)
RECIPE = Recipe(
    epochs=4,
    peak=0.01,
    schedule=ScheduleParams("constant", warmup=0.0, patience=1, factor=0.5, minimum=0.0),
    monitor="val_loss",
    patience=4,
    label_smoothing=0.0,
    average=0.0,
)
ADAM = partial(make_optimizer, OptimizerParams("adam", momentum=0.9, weight_decay=0.0))


def feed(count: int, seed: int) -> Feed:
    """Return pictures of two classes, dark and bright."""
    classes = np.arange(count) % 2
    noise = np.random.default_rng(seed).integers(0, 128, (count, *SHAPE))
    pictures = (noise + 127 * classes[:, None, None, None]).astype(np.uint8)
    return Feed(pictures, classes, 16, 1, shuffle=True)


@pytest.fixture
def build() -> Callable[[], keras.Model]:
    """Return a maker of equal untrained models."""

    def make() -> keras.Model:
        seed_everything(1)
        model = transfer(SHAPE, 2, weights="none", hidden=8)
        # Random layers let little through: as with pretrained ones, each normalises what it gets.
        backbone = next(layer for layer in model.layers if isinstance(layer, keras.Model))
        for layer in backbone.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.moving_variance.assign(layer.moving_variance * 0.2)
        return model

    return make


def test_features_kept_in_a_file_are_those_of_the_model(
    build: Callable[[], keras.Model], tmp_path: Path
) -> None:
    frozen, pictures = features(build()), feed(70, 1).pictures

    kept = feature_array(frozen, pictures, tmp_path / "train.npy")

    assert isinstance(kept, np.memmap)
    np.testing.assert_allclose(kept, frozen(pictures), rtol=1e-4, atol=1e-6)


def test_features_that_are_there_are_not_made_again(
    build: Callable[[], keras.Model], tmp_path: Path
) -> None:
    np.save(tmp_path / "train.npy", np.ones((2, 5), np.float32))

    kept = feature_array(features(build()), feed(2, 1).pictures, tmp_path / "train.npy")

    assert kept.tolist() == np.ones((2, 5)).tolist()


def test_a_head_that_learned_from_features_answers_for_the_whole_model(
    build: Callable[[], keras.Model], tmp_path: Path
) -> None:
    model, val = build(), feed(32, 2)
    backbone = features(model).get_weights()

    long = replace(RECIPE, epochs=60, peak=0.05, patience=60)
    history = fit_head(model, feed(64, 1), val, long, ADAM, Checkpoints(tmp_path, "run"))

    loss, accuracy = judge(model, val)
    best = history.loc[history["val_loss"].idxmin()]
    assert accuracy == best["val_accuracy"] > 0.9
    assert loss == pytest.approx(best["val_loss"], rel=1e-3)
    for before, after in zip(backbone, features(model).get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_step_trains_from_its_layer_on_and_is_kept_where_validation_gains(
    build: Callable[[], keras.Model], tmp_path: Path
) -> None:
    model, val = build(), feed(32, 2)
    first = features(model).get_weights()
    short = replace(RECIPE, epochs=1, peak=1e-6)  # the head alone learns next to nothing
    step = FineTuning(free_from=140, learning_rate=0.001, epochs=3)

    history = fit_transfer(
        model, feed(64, 1), val, short, [step], ADAM, Checkpoints(tmp_path, "run")
    )

    assert history["stage"].tolist() == [0, 1, 1, 1]
    assert history["epoch"].tolist() == [1, 2, 3, 4]
    assert history["stage"].iloc[history["val_loss"].idxmin()] == 1
    assert judge(model, val)[0] == pytest.approx(history["val_loss"].min(), rel=1e-3)
    changed = [
        not np.array_equal(before, after)
        for before, after in zip(first, features(model).get_weights(), strict=True)
    ]
    assert any(changed)
    assert not any(changed[:200])  # of 260 weights, in the order of the layers


def test_a_step_that_validation_loses_by_is_undone(
    build: Callable[[], keras.Model], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, val = build(), feed(32, 2)
    first = features(model).get_weights()
    opposite = Feed(val.pictures, 1 - val.classes, 16)  # the more it learns, the worse it gets
    step = FineTuning(free_from=140, learning_rate=0.001, epochs=2)
    short = replace(RECIPE, epochs=1, peak=1e-6)

    history = fit_transfer(
        model, feed(64, 1), opposite, short, [step], ADAM, Checkpoints(tmp_path, "run")
    )

    assert history["val_loss"].idxmin() == 0
    assert "so it is undone" in capsys.readouterr().out
    assert judge(model, opposite)[0] == pytest.approx(history["val_loss"].iloc[0], rel=1e-3)
    for before, after in zip(first, features(model).get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_an_interrupted_run_ends_with_the_same_weights(
    build: Callable[[], keras.Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [FineTuning(free_from=140, learning_rate=0.001, epochs=3)]

    def run(folder: Path) -> list[np.ndarray]:
        model = build()
        checkpoints = Checkpoints(folder, "run")
        fit_transfer(
            model, feed(64, 1), feed(32, 2), replace(RECIPE, epochs=2), steps, ADAM, checkpoints
        )
        return model.get_weights()

    whole = run(tmp_path / "whole")
    saved = 0
    save = Checkpoints.save

    def save_and_stop(self: Checkpoints, moment: object) -> None:
        nonlocal saved
        save(self, moment)  # type: ignore[arg-type]
        saved += 1
        if saved == 4:  # two epochs of the head, two of the step
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "again")

    again = run(tmp_path / "again")

    assert saved == 5
    assert all(np.array_equal(a, b) for a, b in zip(whole, again, strict=True))


def test_transforms_are_left_out_where_features_are_kept(
    build: Callable[[], keras.Model],
) -> None:
    plain = feed(4, 1)
    moved = Feed(plain.pictures, plain.classes, 4, transforms=replace(NO_TRANSFORMS, shift=0.5))

    over = moved.over(np.ones((4, 3), np.float32), NO_TRANSFORMS)

    (batch,) = over.epoch(0)
    assert batch.pictures.tolist() == np.ones((4, 3)).tolist()
