"""Intervals and paired tests: against hand-computed cases and against what they promise."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, binomtest

from stages.lib.intervals import Counts, bootstrap, mcnemar, paired_difference, wilson


def share_of_first(counts: Counts) -> NDArray[np.float64]:
    return counts[:, 0] / counts.sum(axis=1)


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    # By hand for z = 1.96; the last row is the textbook case of no success.
    [(8, 10, 0.4902, 0.9433), (2117, 2614, 0.7944, 0.8244), (0, 10, 0.0, 0.2775)],
)
def test_the_interval_of_a_share_is_wilsons(correct: int, n: int, low: float, high: float) -> None:
    assert wilson(correct, n, 0.95) == pytest.approx((low, high), abs=2e-4)


@pytest.mark.parametrize("n", [1, 7, 40, 5000])
def test_shares_and_p_values_are_those_of_scipy(n: int) -> None:
    for correct in {0, 1, n // 3, n // 2, n}:
        found = binomtest(correct, n)
        expected = found.proportion_ci(confidence_level=0.9, method="wilson")
        assert wilson(correct, n, 0.9) == pytest.approx(tuple(expected), abs=1e-12)
        assert mcnemar(correct, n - correct) == pytest.approx(found.pvalue, rel=1e-9)


def test_the_bootstrap_of_a_share_is_that_of_the_binomial_distribution() -> None:
    low, high = bootstrap(np.array([700, 300]), share_of_first, 0.9, 20_000, seed=1)

    exact = binom.ppf([0.05, 0.95], 1000, 0.7) / 1000
    assert (low, high) == pytest.approx(tuple(exact), abs=0.0011)


def test_the_bootstrap_is_the_same_for_a_seed_and_another_for_another() -> None:
    counts = np.array([70, 30])

    found = [bootstrap(counts, share_of_first, 0.95, 100, seed) for seed in (3, 3, 4)]

    assert found[0] == found[1] != found[2]


def test_draws_in_several_batches_are_all_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.lib.intervals.CELLS_AT_ONCE", 60)
    sizes = []

    def watched(counts: Counts) -> NDArray[np.float64]:
        sizes.append(counts.shape)
        return share_of_first(counts)

    bootstrap(np.array([7, 3]), watched, 0.95, 100, seed=1)

    assert sizes == [(30, 2), (30, 2), (30, 2), (10, 2)]


def test_a_figure_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="finite in every draw of 10 rows"):
        bootstrap(np.array([7, 3]), lambda counts: counts[:, 0] * np.nan, 0.95, 10, seed=1)


@pytest.mark.parametrize(
    ("only_left", "only_right", "p"),
    # Two tails of a fair coin: 2 × (1 + 10) / 2^10, 2 / 2^5, and no coin thrown.
    [(1, 9, 22 / 1024), (5, 0, 2 / 32), (0, 0, 1.0), (4, 4, 1.0)],
)
def test_mcnemars_test_is_exact(only_left: int, only_right: int, p: float) -> None:
    assert mcnemar(only_left, only_right) == pytest.approx(p)
    assert mcnemar(only_right, only_left) == pytest.approx(p)


def answers(gained: int, lost: int, n: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    at = np.arange(n)
    return at >= gained, (at < gained) | (at >= gained + lost)


def test_the_difference_of_two_accuracies_is_right_less_left() -> None:
    left, right = answers(gained=8, lost=2, n=98)

    difference, low, high = paired_difference(left, right, 0.95)

    # By hand: (9 - 3) / 100 ± 1.959964 × √((0.12 - 0.06²) / 100)
    assert difference == pytest.approx(6 / 98)
    assert (low, high) == pytest.approx((0.06 - 0.066864, 0.06 + 0.066864), abs=1e-5)
    back = paired_difference(right, left, 0.95)
    assert back == pytest.approx((-difference, -high, -low))


def test_models_that_never_differ_leave_an_interval_about_nothing() -> None:
    left, right = answers(gained=0, lost=0, n=20)

    difference, low, high = paired_difference(left, right, 0.95)

    assert difference == 0 and -0.2 < low < 0 < high < 0.2


def test_the_interval_of_a_difference_holds_its_level() -> None:
    # All outcomes of 30 pictures, of which 15 % are gained and 5 % lost, each weighed by its
    # probability: the share of them whose interval holds the true difference.
    n, up, down = 30, 0.15, 0.05
    covered = 0.0
    for gained, lost in itertools.product(range(n + 1), repeat=2):
        if gained + lost <= n:
            _, low, high = paired_difference(*answers(gained, lost, n), 0.95)
            weight = binom.pmf(gained, n, up) * binom.pmf(lost, n - gained, down / (1 - up))
            covered += weight * (low <= up - down <= high)
    assert 0.93 < covered < 0.99


@pytest.mark.parametrize(("left", "right"), [(3, 4), (0, 0)])
def test_answers_to_different_pictures_are_not_compared(left: int, right: int) -> None:
    with pytest.raises(ValueError, match="the same pictures"):
        paired_difference(np.ones(left, bool), np.ones(right, bool), 0.95)
