"""How far two figures may lie apart by chance: z standard errors of their difference."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.stats import norm

from stages.lib.intervals import Counts, bootstrap, paired_difference

RESAMPLES = 2000
SEED = 7


@dataclass(frozen=True)
class SamePictures:
    """What base and head answer on the same pictures; every array: (images,).

    labels, base, head: the right class and the two answers, by name. base_loss, head_loss:
    −log p(label). how: which pictures, for people.
    """

    labels: NDArray[np.str_]
    base: NDArray[np.str_]
    head: NDArray[np.str_]
    base_loss: NDArray[np.float64]
    head_loss: NDArray[np.float64]
    how: str


def confidence_of(z: float) -> float:
    """Return the share of a normal distribution within z standard errors of its mean."""
    return float(2 * norm.cdf(z) - 1)


def shared_z(z: float, times: int) -> float:
    """Return the z at which `times` looks together raise a false alarm as often as one does at z.

    Bonferroni's bound: the chance of one is divided by their number.
    """
    return float(norm.isf(norm.sf(z) / max(times, 1)))


def share_noise(base: tuple[int, int], head: tuple[int, int], z: float) -> float:
    """Return z standard errors of the difference of two shares from separate samples.

    base, head: how many are right, of how many. One right and one wrong are added to each first
    (A. Agresti and B. Caffo, The American Statistician 54, 2000): without them a share of 0 or 1
    would seem to be free of chance.
    """
    parts = [((correct + 1) / (n + 2), n + 2) for correct, n in (base, head)]
    return float(z * np.sqrt(sum(share * (1 - share) / n for share, n in parts)))


def interval_noise(
    base: tuple[float, float], head: tuple[float, float], confidence: float, z: float
) -> float:
    """Return z standard errors of a difference, those of each side read from its interval.

    base, head: low and high. confidence: of these intervals.
    """
    widths = [(high - low) / 2 / norm.ppf((1 + confidence) / 2) for low, high in (base, head)]
    return float(z * np.hypot(*widths))


def paired_accuracy_noise(same: SamePictures, z: float) -> float:
    """Return how much worse the head's accuracy may be by chance, on the same pictures."""
    difference, _, high = paired_difference(
        same.base == same.labels, same.head == same.labels, confidence_of(z)
    )
    return max(high - difference, 0.0)


def paired_loss_noise(same: SamePictures, z: float) -> float:
    """Return z standard errors of the mean difference of the losses, picture by picture."""
    apart = same.head_loss - same.base_loss
    return float(z * apart.std(ddof=1) / np.sqrt(len(apart))) if len(apart) > 1 else float("inf")


def paired_macro_f1_noise(same: SamePictures, z: float) -> float:
    """Return how much worse the head's macro F1 may be by chance, by resampling the pictures."""
    triples = np.stack([same.labels, same.base, same.head], axis=1)
    kinds, counts = np.unique(triples, axis=0, return_counts=True)
    of_base, of_head = macro_f1_of(kinds[:, 0], kinds[:, 1]), macro_f1_of(kinds[:, 0], kinds[:, 2])

    def difference(drawn: Counts) -> NDArray[np.float64]:
        return of_head(drawn) - of_base(drawn)

    _, high = bootstrap(counts, difference, confidence_of(z), RESAMPLES, SEED)
    return max(high - float(difference(counts[None])[0]), 0.0)


def macro_f1(labels: NDArray[np.str_], answers: NDArray[np.str_]) -> float:
    """Return the mean F1 of the classes that `labels` has."""
    return float(macro_f1_of(labels, answers)(np.ones((1, len(labels)), np.int64))[0])


def macro_f1_of(
    labels: NDArray[np.str_], answers: NDArray[np.str_]
) -> Callable[[Counts], NDArray[np.float64]]:
    """Return a function from how often each row counts, (draws, rows), to macro F1, (draws,).

    The mean is over the classes that a draw has, as in the evaluate stage.
    """
    names, at = np.unique(np.concatenate([labels, answers]), return_inverse=True)
    ones, rows = np.ones(len(labels), np.int64), np.arange(len(labels))
    shape = (len(labels), len(names))
    of_label = csr_array((ones, (rows, at[: len(labels)])), shape=shape)
    of_answer = csr_array((ones, (rows, at[len(labels) :])), shape=shape)
    right = labels == answers

    def mean_f1(drawn: Counts) -> NDArray[np.float64]:
        sizes = drawn @ of_label
        f1 = 2 * ((drawn * right) @ of_label) / np.maximum(sizes + drawn @ of_answer, 1)
        mean: NDArray[np.float64] = f1.sum(axis=1) / (sizes > 0).sum(axis=1)
        return mean

    return mean_f1
