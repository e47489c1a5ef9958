"""thresholds: the best cut on validation, found by looking at all, and folded into the network."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

from stages.lib.errors import InputError
from stages.lib.feeding import Feed
from stages.lib.keras_runtime import keras, seed_everything
from stages.lib.models import build_model
from stages.lib.thresholds import best_threshold, fold_threshold, tuned_metrics

MEASURES = {
    "balanced_accuracy": balanced_accuracy_score,
    "macro_f1": lambda truth, found: f1_score(truth, found, average="macro", zero_division=0.0),
}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("seed", range(5))
def test_no_other_cut_scores_higher(measure: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    classes = (random.random(60) < 0.2).astype(np.int64)
    logits = np.round(random.normal(classes * 1.5 - 2, 1.0), 1).astype(np.float32)  # with ties
    score = MEASURES[measure]

    found = best_threshold(logits, classes, measure)

    cuts = np.unique(logits)
    best = max(score(classes, logits > cut) for cut in (cuts[:-1] + cuts[1:]) / 2)
    assert score(classes, logits > found) == pytest.approx(best)


def test_of_equally_good_cuts_the_one_nearest_to_an_even_chance_is_taken() -> None:
    logits = np.array([-3.0, -1.0, 2.0, 4.0], np.float32)

    assert best_threshold(logits, np.array([0, 0, 1, 1]), "balanced_accuracy") == 0.5
    # The cuts at -2 and at 3 each cost one of four pictures, the one at 0.5 two.
    assert best_threshold(logits, np.array([0, 1, 0, 1]), "balanced_accuracy") == -2
    assert best_threshold(np.ones(4), np.array([0, 1, 0, 1]), "macro_f1") == 0.0


def test_a_class_that_validation_lacks_is_an_error_with_the_remedy() -> None:
    with pytest.raises(InputError, match="holds only one of the two classes; raise split.val"):
        best_threshold(np.array([0.1, 0.2]), np.array([1, 1]), "macro_f1")


def two_class_model() -> tuple[keras.Model, Feed]:
    """Return an untrained network that leans to the second class, and pictures to judge it by."""
    seed_everything(5)
    model = build_model("compact_cnn", (16, 16, 3), 2, {"width": 8})
    last = model.get_layer("logit")
    last.set_weights([last.get_weights()[0], np.array([2.0], np.float32)])
    random = np.random.default_rng(0)
    classes = np.arange(40) % 2
    pictures = random.integers(0, 100, (40, 16, 16, 3)) + 100 * classes[:, None, None, None]
    return model, Feed(pictures.astype(np.uint8), classes, 16)


def test_what_is_folded_in_moves_the_answers_and_nothing_between_them() -> None:
    model, val = two_class_model()
    before = model.predict_on_batch(val.pictures)[:, 1].astype(np.float64)

    threshold = fold_threshold(model, val, "balanced_accuracy")

    after = model.predict_on_batch(val.pictures)
    np.testing.assert_array_equal(after.argmax(axis=1), before > threshold)
    shift = np.log(threshold / (1 - threshold))
    np.testing.assert_allclose(
        np.log(after[:, 1] / after[:, 0]), np.log(before / (1 - before)) - shift, atol=1e-4
    )
    assert fold_threshold(model, val, "balanced_accuracy") == pytest.approx(0.5, abs=1e-5)


def test_validation_gains_and_the_figures_are_those_of_the_folded_model() -> None:
    model, val = two_class_model()
    before = balanced_accuracy_score(
        val.classes, model.predict_on_batch(val.pictures).argmax(axis=1)
    )

    figures = tuned_metrics(model, val, "balanced_accuracy")

    found = model.predict_on_batch(val.pictures)
    assert balanced_accuracy_score(val.classes, found.argmax(axis=1)) >= before
    assert figures["val_accuracy"] == (found.argmax(axis=1) == val.classes).mean()
    loss = -np.log(found[np.arange(40), val.classes]).mean()
    assert figures["val_loss"] == pytest.approx(loss, rel=1e-4)
    assert 0 < figures["threshold"] < 1


@pytest.mark.filterwarnings("ignore:In the future `np.object`:FutureWarning")
def test_the_export_answers_as_keras_does(tmp_path: Path) -> None:
    model, val = two_class_model()
    fold_threshold(model, val, "macro_f1")
    expected = model.predict_on_batch(val.pictures).argmax(axis=1)

    model.export(tmp_path / "model.onnx", format="onnx", verbose=False)

    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    name = session.get_inputs()[0].name
    exported = session.run(None, {name: val.pictures.astype(np.float32)})[0]
    np.testing.assert_array_equal(exported.argmax(axis=1), expected)


def test_a_network_without_one_logit_is_refused() -> None:
    model = build_model("compact_cnn", (16, 16, 3), 3, {"width": 8})

    with pytest.raises(InputError, match="one logit for two classes, which compact_cnn has not"):
        fold_threshold(model, Feed(np.zeros((2, 16, 16, 3), np.uint8), np.arange(2), 2), "macro_f1")
