"""Deals images out to parts of given shares: by class, and never through a group."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array

from stages.lib.errors import InputError
from stages.lib.seeds import derive_seed
from stages.lib.table import SPLITS

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """One side of a division: its name and its share of the images, 0 to 1."""

    name: str
    share: float


def deal_out(
    rows: pd.DataFrame, parts: Sequence[Part], seed: int, spared_to: str | None = None
) -> tuple[pd.Series, list[str]]:
    """Return the name of a part for every row, and the classes spared.

    rows: columns label and group_id. Groups go, the largest first and equal ones in a seeded order,
    to the part whose share of the group's classes is furthest from its target, so every class ends
    within one group of it. Then each part that lacks a class is given the smallest group that its
    giver can spare. The order of the rows has no say.

    A class that cannot be in every part has too few groups, or is tied to other classes. It is
    spared: all groups that hold one of its images go to `spared_to`. Where that is None, it is an
    InputError.
    """
    groups, number_of_row, labels = _count(rows, seed)
    spared = np.zeros(len(labels), bool)
    while True:
        free = groups @ spared.astype(np.int64) == 0
        lacking = _short_of_groups(groups[free], len(parts)) & ~spared
        if lacking.any() and spared_to is None:
            _refuse_small(groups, labels, lacking, parts)
        if not lacking.any():
            chosen = _fill(groups[free], np.array([part.share for part in parts]))
            lacking = _absent(groups[free], chosen, len(parts)).any(axis=0) & ~spared
            if lacking.any() and spared_to is None:
                _refuse_tied(groups[free], chosen, labels, parts)
        if not lacking.any():
            break
        spared |= lacking
    names = np.full(groups.shape[0], spared_to or "", object)
    names[free] = np.array([part.name for part in parts], object)[chosen]
    dealt = pd.Series(names[number_of_row], index=rows.index)
    return dealt, [label for label, is_spared in zip(labels, spared, strict=True) if is_spared]


def _count(rows: pd.DataFrame, seed: int) -> tuple[csr_array, Numbers, list[str]]:
    """Return images per group and class, each row's group, and the classes.

    The largest groups come first, equal ones in a seeded order.
    """
    class_of_row, labels = pd.factorize(rows["label"], sort=True)
    group_of_row, ids = pd.factorize(rows["group_id"])
    draw = np.array([derive_seed(seed, group) for group in ids], np.int64)
    sizes = np.bincount(group_of_row, minlength=len(ids))
    order = np.lexsort((ids.to_numpy(), draw, -sizes))
    place = np.empty(len(ids), np.int64)
    place[order] = np.arange(len(ids))
    number_of_row = place[group_of_row]
    ones = np.ones(len(rows), np.int64)
    counts = csr_array((ones, (number_of_row, class_of_row)), shape=(len(ids), len(labels)))
    counts.sum_duplicates()
    return counts, number_of_row, list(labels)


def _short_of_groups(groups: csr_array, parts: int) -> NDArray[np.bool_]:
    """Tell of each class whether it has fewer groups than there are parts."""
    short: NDArray[np.bool_] = np.bincount(groups.indices, minlength=groups.shape[1]) < parts
    return short


def _fill(groups: csr_array, shares: NDArray[np.float64]) -> Numbers:
    """Return for each group (a row of class counts) the number of its part."""
    open_places = np.outer(groups.sum(axis=0), shares)
    places = open_places.sum(axis=0)
    chosen = np.zeros(groups.shape[0], np.int64)
    for group, (start, end) in enumerate(pairwise(groups.indptr.tolist())):
        classes, counts = groups.indices[start:end], groups.data[start:end]
        wanted = counts @ open_places[classes]
        # Of parts that want it alike, the one that has most places open over all classes; so folds
        # end equal in size, too.
        alike = np.flatnonzero(wanted == wanted.max())
        part = int(alike[places[alike].argmax()])
        open_places[classes, part] -= counts
        places[part] -= counts.sum()
        chosen[group] = part
    holders = _holders(groups, chosen, len(shares))
    members = csc_array(groups)
    for label in np.flatnonzero((holders == 0).any(axis=0)):
        of_class = members.indices[members.indptr[label] : members.indptr[label + 1]]
        _give_every_part_one(groups, chosen, holders, np.sort(of_class), int(label))
    return chosen


def _holders(groups: csr_array, chosen: Numbers, parts: int) -> Numbers:
    """Return how many groups of each class each part holds, (parts, classes)."""
    group_of_entry = np.repeat(np.arange(groups.shape[0]), np.diff(groups.indptr))
    holders = np.zeros((parts, groups.shape[1]), np.int64)
    np.add.at(holders, (chosen[group_of_entry], groups.indices), 1)
    return holders


def _absent(groups: csr_array, chosen: Numbers, parts: int) -> NDArray[np.bool_]:
    """Tell of each part and class whether the part lacks the class."""
    missing: NDArray[np.bool_] = _holders(groups, chosen, parts) == 0
    return missing


def _give_every_part_one(
    groups: csr_array, chosen: Numbers, holders: Numbers, members: Numbers, label: int
) -> None:
    """Move the smallest groups of a class, in place, until each part has one of that class.

    members: the groups of the class, the largest first. A part keeps its only group of any class.
    """

    def classes(group: int) -> Numbers:
        found: Numbers = groups.indices[groups.indptr[group] : groups.indptr[group + 1]]
        return found

    for part in np.flatnonzero(holders[:, label] == 0):
        spare = [n for n in members if (holders[chosen[n], classes(n)] > 1).all()]
        if spare:
            held = np.bincount(chosen[spare], minlength=len(holders))
            giver = int(np.argmax(held))
            smallest = [group for group in spare if chosen[group] == giver][-1]
            holders[giver, classes(smallest)] -= 1
            holders[part, classes(smallest)] += 1
            chosen[smallest] = part


def _refuse_small(
    groups: csr_array, labels: list[str], small: NDArray[np.bool_], parts: Sequence[Part]
) -> None:
    counts = np.bincount(groups.indices, minlength=len(labels))
    listing = ", ".join(f"{labels[n]!r} has {counts[n]}" for n in np.flatnonzero(small))
    raise InputError(
        f"every class needs at least {len(parts)} different pictures, one each for "
        f"{_names(parts)}: {listing} after cleaning (duplicates count "
        "once, see data/removed.csv); add pictures, set split.small_classes to train, or leave "
        "the class out with download.exclude"
    )


def _names(parts: Sequence[Part]) -> str:
    if len(parts) > len(SPLITS):
        return f"{parts[0].name} to {parts[-1].name}"
    return ", ".join(part.name for part in parts)


def _refuse_tied(
    groups: csr_array, chosen: Numbers, labels: list[str], parts: Sequence[Part]
) -> None:
    part, label = np.argwhere(_absent(groups, chosen, len(parts)))[0]
    raise InputError(
        f"class {labels[label]!r} finds no place in {parts[part].name}: too many of its pictures "
        "are tied to pictures of other classes; set clean.label_conflicts to quarantine, set "
        "split.small_classes to train, or add pictures"
    )
