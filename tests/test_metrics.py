"""Metrics: one flat object of finite numbers with sorted keys; only fingerprints are text."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.lib.metrics import read_metrics, write_metrics, write_plot


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_is_written_is_read() -> None:
    write_metrics("scan", {"files": 3, "share": 0.25, "test_fingerprint": "ab12"})

    assert read_metrics("scan") == {"files": 3, "share": 0.25, "test_fingerprint": "ab12"}


def test_keys_are_sorted_whatever_their_order() -> None:
    write_metrics("one", {"b": 1, "c": 2, "a": 3})
    write_metrics("other", {"c": 2, "a": 3, "b": 1})

    one, other = Path("metrics/one.json").read_bytes(), Path("metrics/other.json").read_bytes()
    assert one == other == b'{\n  "a": 3,\n  "b": 1,\n  "c": 2\n}\n'


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (np.int64(3), "3"),
        (np.uint8(3), "3"),
        (np.float32(0.5), "0.5"),
        (0.1234567, "0.123457"),
        (2.0, "2.0"),
        (10**18, "1000000000000000000"),
    ],
)
def test_numbers_of_every_kind_become_plain_ones(value: Any, written: str) -> None:
    write_metrics("scan", {"value": value})

    assert json.loads(Path("metrics/scan.json").read_text(), parse_float=str, parse_int=str) == {
        "value": written
    }


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, np.float32("nan"), np.float64("inf")]
)
def test_a_number_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"metric scan\.share must be finite"):
        write_metrics("scan", {"files": 3, "share": value})

    assert not Path("metrics/scan.json").exists()


@pytest.mark.parametrize("value", ["0.5", True, np.bool_(False), None, [1], {"a": 1}, 1j])
def test_what_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"metric scan\.share must be a number"):
        write_metrics("scan", {"share": value})


def test_a_plot_is_a_csv_file(folder: Path) -> None:
    write_plot("classes", pd.DataFrame({"label": ["a,b", "c"], "share": [1 / 3, 2.0]}))

    text = (folder / "metrics/plots/classes.csv").read_text()
    assert text == 'label,share\n"a,b",0.333333\nc,2\n'


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_plot_with_a_number_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="plot 'loss' holds a number that is not finite"):
        write_plot("loss", pd.DataFrame({"epoch": [1, 2], "loss": [0.5, value]}))

    assert not Path("metrics/plots/loss.csv").exists()


def test_a_plot_without_rows_keeps_its_header() -> None:
    write_plot("removed", pd.DataFrame({"reason": [], "images": []}))

    assert Path("metrics/plots/removed.csv").read_text() == "reason,images\n"
