"""How far a figure can be trusted: intervals of shares and of resampled figures, paired tests."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, ndtri  # scipy.stats takes a third of a second to import

from stages.lib.seeds import rng_for

Counts = NDArray[np.int64]
Statistic = Callable[[Counts], NDArray[np.float64]]

CELLS_AT_ONCE = 2_000_000  # numbers drawn together: 16 MB


def wilson(correct: int, n: int, confidence: float) -> tuple[float, float]:
    """Return Wilson's score interval of the share `correct` / `n` (E. B. Wilson, JASA 22, 1927)."""
    z, share = float(ndtri((1 + confidence) / 2)), correct / n
    middle = share + z**2 / (2 * n)
    reach = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = (middle - reach) / (1 + z**2 / n), (middle + reach) / (1 + z**2 / n)
    return float(low) if correct else 0.0, float(high) if correct < n else 1.0


def bootstrap(
    counts: Counts, statistic: Statistic, confidence: float, repeats: int, seed: int
) -> tuple[float, float]:
    """Return the percentile interval of a figure over resampled rows (B. Efron, Annals of
    Statistics 7, 1979).

    counts: (kinds,), how many rows there are of each kind, kinds being all that the figure tells
    apart, such as the pairs of truth and answer. To draw n rows with replacement is to draw these
    counts from a multinomial distribution, which costs the same for ten rows and for ten million.
    statistic: from drawn counts (draws, kinds) to the figure of each draw (draws,).
    Raises ValueError where it is not finite.
    """
    rng, n = rng_for(seed, "bootstrap"), int(counts.sum())
    at_once = max(CELLS_AT_ONCE // len(counts), 1)
    sizes = [min(at_once, repeats - done) for done in range(0, repeats, at_once)]
    values = np.concatenate([statistic(rng.multinomial(n, counts / n, size)) for size in sizes])
    if not np.isfinite(values).all():
        raise ValueError(f"the figure must be finite in every draw of {n} rows, got {values}")
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def mcnemar(only_left: int, only_right: int) -> float:
    """Return the p value that two classifiers are equally often right on the same pictures.

    only_left, only_right: pictures on which one alone is right. Exact and two-sided (Q. McNemar,
    Psychometrika 12, 1947, with the binomial distribution in place of its approximation).
    """
    apart = only_left + only_right
    # Both tails are alike, since each side is as likely as the other.
    return min(2 * float(bdtr(min(only_left, only_right), apart, 0.5)), 1.0)


def paired_difference(
    left_correct: NDArray[np.bool_], right_correct: NDArray[np.bool_], confidence: float
) -> tuple[float, float, float]:
    """Return the right accuracy less the left one on the same pictures, and its interval.

    Each array: (images,), whether the answer was right. The interval is the adjusted Wald interval
    of D. G. Bonett and R. M. Price (JEBS 37, 2012), which adds one picture to each way of being
    apart: it holds its level with few pictures and is not empty where the two never differ.
    Raises ValueError for arrays of different lengths or without pictures.
    """
    n = len(left_correct)
    if n != len(right_correct) or not n:
        raise ValueError(f"both must answer the same pictures, got {n} and {len(right_correct)}")
    gained = int((~left_correct & right_correct).sum())
    lost = int((left_correct & ~right_correct).sum())
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    reach = ndtri((1 + confidence) / 2) * np.sqrt((up + down - (up - down) ** 2) / (n + 2))
    low, high = max(up - down - reach, -1.0), min(up - down + reach, 1.0)
    return (gained - lost) / n, float(low), float(high)
