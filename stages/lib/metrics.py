"""Writes metrics and plot data: flat, sorted, finite, so every number can be compared."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

METRICS = Path("metrics")
PLOTS = METRICS / "plots"


def write_metrics(stage: str, values: Mapping[str, Any], leaky: bool = False) -> None:
    """Write metrics/<stage>.json: one flat object with sorted keys.

    leaky: the data were split by image and not by group, so that no figure from there on can be
    trusted; the file then says `"leaky": true`.
    Raises ValueError for a value that is not a finite number; only fingerprints and hashes may be
    strings.
    """
    plain = {name: _plain(stage, name, value) for name, value in values.items()}
    plain = dict(sorted((plain | ({"leaky": True} if leaky else {})).items()))
    METRICS.mkdir(exist_ok=True)
    text = json.dumps(plain, indent=2, allow_nan=False) + "\n"
    (METRICS / f"{stage}.json").write_text(text, encoding="utf-8")


def write_timing(stage: str, seconds: float, images: int) -> None:
    """Write metrics/<stage>_timing.json, which is no DVC output, because a clock never gives equal
    bytes twice.
    """
    timing = {"images_per_second": round(images / seconds, 1), "seconds": round(seconds, 1)}
    text = json.dumps(timing, indent=2) + "\n"
    (METRICS / f"{stage}_timing.json").write_text(text, encoding="utf-8")


def read_metrics(stage: str) -> dict[str, Any]:
    """Return metrics/<stage>.json."""
    content: dict[str, Any] = json.loads((METRICS / f"{stage}.json").read_text(encoding="utf-8"))
    return content


def write_plot(name: str, frame: pd.DataFrame) -> None:
    """Write metrics/plots/<name>.csv; raises ValueError for a number that is not finite."""
    numbers = frame.select_dtypes("number")
    if not np.isfinite(numbers.to_numpy(dtype=float)).all():
        raise ValueError(f"plot {name!r} holds a number that is not finite; DVC could not draw it")
    PLOTS.mkdir(parents=True, exist_ok=True)
    frame.to_csv(PLOTS / f"{name}.csv", index=False, lineterminator="\n", float_format="%.6g")


def _plain(stage: str, name: str, value: Any) -> int | float | str:
    if name.endswith(("_fingerprint", "_hash")):
        return str(value)
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number)):
        raise ValueError(f"metric {stage}.{name} must be a number, got {value!r}")
    if isinstance(value, (int, np.integer)):
        return int(value)
    if not math.isfinite(value):
        raise ValueError(f"metric {stage}.{name} must be finite, got {value!r}")
    return float(f"{value:.6g}")
