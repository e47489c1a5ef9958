"""tools.noise: how far two figures lie apart by chance, against simulation and by hand."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import f1_score

from tools.noise import (
    SamePictures,
    confidence_of,
    interval_noise,
    macro_f1,
    paired_accuracy_noise,
    paired_loss_noise,
    paired_macro_f1_noise,
    share_noise,
    shared_z,
)

NAMES = np.array(["bowl", "cup", "tree"])


def answers(seed: int, n: int, accuracy: float, agreement: float = 0.0) -> SamePictures:
    """Return two models of equal accuracy; agreement: the share of equal answers by design."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    base, head = (
        np.where(rng.random(n) < accuracy, labels, (labels + rng.integers(1, 3, n)) % 3)
        for _ in range(2)
    )
    head = np.where(rng.random(n) < agreement, base, head)
    losses = [np.where(found == labels, 0.1, 2.0) for found in (base, head)]
    return SamePictures(NAMES[labels], NAMES[base], NAMES[head], losses[0], losses[1], "drawn")


def test_z_and_confidence_are_two_names_of_one_thing() -> None:
    assert confidence_of(1.959964) == pytest.approx(0.95, abs=1e-6)
    assert confidence_of(0) == 0


def test_looks_at_several_classes_share_one_chance_of_a_false_alarm() -> None:
    assert shared_z(2.0, 1) == pytest.approx(2.0)
    assert norm.sf(shared_z(2.0, 10)) == pytest.approx(norm.sf(2.0) / 10)


def test_the_noise_of_a_share_is_hand_computed() -> None:
    # (90 + 1) / 102 and (80 + 1) / 102
    shares = [91 / 102, 81 / 102]
    expected = 2 * sum(share * (1 - share) / 102 for share in shares) ** 0.5

    assert share_noise((90, 100), (80, 100), 2.0) == pytest.approx(expected)


def test_a_perfect_share_is_not_free_of_noise() -> None:
    assert share_noise((174, 174), (174, 174), 2.0) > 0.005


@pytest.mark.parametrize("accuracy", [0.6, 0.95])
def test_separate_samples_exceed_the_noise_as_often_as_z_promises(accuracy: float) -> None:
    rng = np.random.default_rng(1)
    pairs = rng.binomial(200, accuracy, (4000, 2))
    alarms = [
        (base - head) / 200 > share_noise((int(base), 200), (int(head), 200), 2.0)
        for base, head in pairs
    ]

    assert np.mean(alarms) < 1.4 * norm.sf(2.0)


def test_the_noise_of_intervals_is_that_of_their_widths() -> None:
    width = norm.ppf(0.975)

    found = interval_noise((0.5 - 0.03 * width, 0.5 + 0.03 * width), (0.4, 0.4), 0.95, 2.0)

    assert found == pytest.approx(0.06)


@pytest.mark.parametrize("noise", [paired_accuracy_noise, paired_macro_f1_noise, paired_loss_noise])
def test_models_that_agree_leave_less_to_chance(noise: object) -> None:
    assert callable(noise)
    apart, alike = answers(1, 300, 0.8), answers(1, 300, 0.8, agreement=0.9)

    assert 0 < noise(alike, 2.0) < 0.7 * noise(apart, 2.0)


@pytest.mark.parametrize(
    ("noise", "figure"),
    [
        (paired_accuracy_noise, lambda same, found, _: (found == same.labels).mean()),
        (paired_macro_f1_noise, lambda same, found, _: macro_f1(same.labels, found)),
        (paired_loss_noise, lambda _same, _found, loss: -loss.mean()),
    ],
    ids=["accuracy", "macro_f1", "loss"],
)
def test_equal_models_seldom_exceed_the_paired_noise(noise: object, figure: object) -> None:
    assert callable(noise) and callable(figure)
    alarms = 0
    for seed in range(150):
        same = answers(seed, 200, 0.85, agreement=0.5)
        worse = figure(same, same.base, same.base_loss) - figure(same, same.head, same.head_loss)
        alarms += worse > noise(same, 2.0)

    # Of 150 at a chance of 2.3 %, more than 9 come about once in a hundred times.
    assert alarms <= 9


def test_macro_f1_is_that_of_scikit_learn() -> None:
    same = answers(3, 100, 0.6)

    expected = f1_score(same.labels, same.head, average="macro")

    assert macro_f1(same.labels, same.head) == pytest.approx(expected)


def test_a_class_that_is_only_answered_has_no_part_in_macro_f1() -> None:
    labels, found = np.array(["a", "a", "b"]), np.array(["a", "z", "b"])

    assert macro_f1(labels, found) == pytest.approx((2 / 3 + 1) / 2)
