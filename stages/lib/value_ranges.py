"""Images of more than 8 bits: which of their values become black and white."""

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stages.lib.errors import InputError
from stages.lib.files import replacing

SampleKind = Literal["int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]
SAMPLE_KINDS = ("int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
Range: TypeAlias = tuple[float, float]  # the value that becomes 0 (black), the one that becomes 255
ValueRanges: TypeAlias = Mapping[str, Range]  # sample kind to range

VALUE_RANGES = Path("data/value_ranges.json")
# Below this, an image is so coarse that hashes and a model see little in it: 12 bits stored in the
# range of 16 keep 16 levels and look black. Of copies at 60 % of the size, in four sets reduced to
# 64 levels, 71 to 100 % were found; at 48 levels 25 to 100 %, at 16 none.
MIN_LEVELS = 60
# The ranges in use, smallest first: of 8, 10, 12, 14 and 16 bits, and of normalized floats.
UNSIGNED: tuple[Range, ...] = tuple((0.0, 2.0**bits - 1) for bits in (8, 10, 12, 14, 16))
NORMALIZED: tuple[Range, ...] = ((0.0, 1.0), (-1.0, 1.0))
# What a kind means where no data set says otherwise: for serving with a model that has seen none.
TYPE_RANGES: dict[str, Range] = {
    "uint16": (0.0, 65535.0),
    "float32": (0.0, 1.0),
    "float64": (0.0, 1.0),
}
MAX_EXPONENT = sys.float_info.max_exp
BLOCK = 1 << 18  # values that are converted at a time, so that no large array is copied as float64


def choose_range(kind: str, lowest: float, highest: float) -> Range:
    """Return the range of a data set's values of one kind, chosen by a fixed rule.

    It is the smallest usual range that holds all values: 0 to 1 or -1 to 1 (floats), 0 to 255,
    1023, 4095, 16383 or 65535. Where none does (as of negative values), each end is moved out to
    the next power of two, so -856 to 912 becomes -1024 to 1023: a range does not change with every
    image that is added. Where the values would fill fewer than MIN_LEVELS of the 256 levels of
    that, it is lowest to highest. Integers from 0 to 255 always keep that range, in which each has
    a level of its own.

    Parameters
    ----------
    kind : str
        One of SAMPLE_KINDS.
    lowest, highest : float
        The extremes of all finite values of that kind in the data set.

    Returns
    -------
    tuple of float
        The values that become 0 and 255; the first is less than the second.
    """
    is_float = kind.startswith("float")
    usual = (*NORMALIZED, *UNSIGNED) if is_float else UNSIGNED
    holding = [(low, high) for low, high in usual if low <= lowest and highest <= high]
    low, high = holding[0] if holding else _round_outward(lowest, highest, is_float)
    is_exact = not is_float and high - low <= 255
    # Halves, because the difference of two floats may be larger than any float.
    levels = (highest / 2 - lowest / 2) / (high / 2 - low / 2) * 255
    if is_exact or levels >= MIN_LEVELS or lowest == highest:
        return low, high
    return lowest, highest


def _round_outward(lowest: float, highest: float, is_float: bool) -> Range:
    """Return 0 or minus a power of two, and 0 or a power of two, for integers less one."""
    low = -_power_of_two(-lowest) if lowest < 0 else 0.0
    if highest <= 0:
        return low, 0.0
    return low, _power_of_two(highest) if is_float else _power_of_two(highest + 1) - 1


def _power_of_two(value: float) -> float:
    """Return the smallest power of two that is no less than a positive value; of the very largest
    values, the value.
    """
    mantissa, exponent = math.frexp(value)
    if exponent >= MAX_EXPONENT:
        return value
    return math.ldexp(1.0, exponent - 1 if mantissa == 0.5 else exponent)


def choose_ranges(extremes: Mapping[str, Range], given: ValueRanges) -> dict[str, Range]:
    """Return the range of every kind: as given, or chosen from the data set's extremes."""
    chosen = {kind: choose_range(kind, *values) for kind, values in extremes.items()}
    return dict(sorted({**chosen, **given}.items()))


def join_extremes(found: Iterable[tuple[str, float, float]]) -> dict[str, Range]:
    """Return each kind's lowest and highest value over files of (kind, lowest, highest)."""
    extremes: dict[str, Range] = {}
    for kind, lowest, highest in found:
        low, high = extremes.get(kind, (lowest, highest))
        extremes[kind] = min(low, lowest), max(high, highest)
    return extremes


def find_extremes(values: NDArray[Any]) -> Range:
    """Return the lowest and highest finite value of an array; (0, 0) where none is finite."""
    low, high = np.inf, -np.inf
    for rows in _blocks(values):
        block = values[rows]
        finite = block[np.isfinite(block)] if block.dtype.kind == "f" else block
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return (low, high) if low <= high else (0.0, 0.0)


def scale_values(values: NDArray[Any], value_range: Range) -> NDArray[np.uint8]:
    """Return values as 8 bits: the range linearly on 0 to 255, rounded; what lies beyond is
    clipped.

    Parameters
    ----------
    values : ndarray
        Of any shape and any dtype of SAMPLE_KINDS. NaN becomes 0.
    value_range : tuple of float
        The values that become 0 and 255.

    Returns
    -------
    ndarray of uint8
        In the same shape.
    """
    scaled = np.empty(values.shape, np.uint8)
    table, bits = None, values.dtype.itemsize * 8
    pattern = np.dtype(f"u{values.dtype.itemsize}")
    if bits <= 16 and values.size > 2**bits:  # each value is computed once and then looked up
        table = _scaled(np.arange(2**bits, dtype=pattern).view(values.dtype), value_range)
    for rows in _blocks(values):
        block = values[rows]
        scaled[rows] = _scaled(block, value_range) if table is None else table[block.view(pattern)]
    return scaled


def _scaled(values: NDArray[Any], value_range: Range) -> NDArray[np.uint8]:
    low, high = value_range
    # Clipped first: infinity is then an end of the range like any other value beyond it.
    clipped = np.nan_to_num(np.clip(values.astype(np.float64), low, high), nan=low)
    # Halves, because the difference of two floats may be larger than any float.
    share: NDArray[np.float64] = (clipped / 2 - low / 2) / (high / 2 - low / 2)
    return np.rint(share * 255).astype(np.uint8)


def is_too_coarse(values: NDArray[Any], scaled: NDArray[np.uint8]) -> bool:
    """Tell whether scaling left fewer than MIN_LEVELS levels, and less than half of those that
    there were.
    """
    seen = np.zeros(256, bool)
    for rows in _blocks(scaled):
        seen[scaled[rows]] = True
    kept = int(seen.sum())
    return kept < MIN_LEVELS and _has_more_levels(values, 2 * kept)


def _has_more_levels(values: NDArray[Any], count: int) -> bool:
    levels = np.array([], values.dtype)
    for rows in _blocks(values):
        block = values[rows]
        finite = block[np.isfinite(block)] if block.dtype.kind == "f" else block
        levels = np.union1d(levels, finite)
        if levels.size > count:
            return True
    return False


def _blocks(values: NDArray[Any]) -> Iterator[slice]:
    """Yield slices of rows, of about BLOCK values each."""
    rows = max(BLOCK * len(values) // max(values.size, 1), 1)
    return (slice(start, start + rows) for start in range(0, len(values), rows))


def write_value_ranges(value_ranges: ValueRanges, path: Path = VALUE_RANGES) -> None:
    """Write the ranges of a data set, by kind: `{"uint16": [0.0, 4095.0]}`."""
    with replacing(path) as unfinished:
        text = json.dumps(value_ranges, indent=1, sort_keys=True)
        unfinished.write_text(text + "\n", encoding="utf-8")


def read_value_ranges(path: Path = VALUE_RANGES) -> dict[str, Range]:
    """Return what `write_value_ranges` wrote. Raises InputError where it is missing."""
    if not path.is_file():
        raise InputError(f"{path} is missing: run `dvc repro`, which makes it")
    content = json.loads(path.read_text(encoding="utf-8"))
    return {kind: (float(low), float(high)) for kind, (low, high) in content.items()}
