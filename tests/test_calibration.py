"""Calibration: against a case by hand and against answers whose confidence is known to be true."""

import numpy as np
import pytest

from stages.lib.calibration import calibration_errors, reliability_table


def test_bins_and_errors_by_hand() -> None:
    confidence = np.array([0.55, 0.65, 0.95, 0.85, 1.0], np.float32)
    correct = np.array([True, False, True, True, False])

    table = reliability_table(confidence, correct, bins=2, level=0.95)
    errors = calibration_errors(table)

    assert table[["low", "high", "n", "correct"]].values.tolist() == [[0.5, 1.0, 5, 3]]
    assert errors["mean_confidence"] == pytest.approx(0.8)
    assert errors["expected_calibration_error"] == pytest.approx(0.2)
    finer = calibration_errors(reliability_table(confidence, correct, bins=10, level=0.95))
    # Bins (0.5, 0.6], (0.6, 0.7], (0.8, 0.9], (0.9, 1]: |0.55-1|, 0.65, 0.15, |0.975-0.5| twice
    assert finer["expected_calibration_error"] == pytest.approx(
        (0.45 + 0.65 + 0.15 + 2 * 0.475) / 5
    )


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_bin_holds_its_upper_edge_at_any_precision(kind: type) -> None:
    edges = (np.arange(1, 11) / 10).astype(kind)

    table = reliability_table(edges, np.ones(10, bool), bins=10, level=0.95)

    assert table["n"].tolist() == [1] * 10
    assert table["high"].tolist() == pytest.approx(list(edges))


def test_answers_as_sure_as_they_are_right_have_next_to_no_error() -> None:
    rng = np.random.default_rng(5)
    confidence = rng.uniform(0.5, 1, 20_000)
    honest = rng.random(20_000) < confidence
    boastful = rng.random(20_000) < confidence - 0.2

    errors = [
        calibration_errors(reliability_table(confidence.astype(np.float32), right, 15, 0.95))
        for right in (honest, boastful)
    ]

    assert errors[0]["expected_calibration_error"] < 0.02
    assert errors[1]["expected_calibration_error"] == pytest.approx(0.2, abs=0.01)
