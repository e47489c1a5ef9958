"""Thumbnails: the array holds row by row what scan wrote, and zeros where there is no picture."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.lib.errors import InputError
from stages.lib.images import THUMBNAIL_BYTES
from stages.lib.table import SCAN, write_table, writing_table
from stages.lib.thumbnails import read_details, read_scan, read_thumbnails

MORE_THAN_A_BATCH = 8192 + 1000


def scan_table(pictures: np.ndarray, present: np.ndarray) -> pd.DataFrame:
    """Return a scan's table with these thumbnails, empty where no picture is present."""
    count = len(pictures)
    texts = [name for name, kind in SCAN.columns.items() if str(kind) == "string"]
    frame = pd.DataFrame({name: [""] * count for name in texts}).assign(
        uri=[f"cat/{at:05}" for at in range(count)], label="cat", verdict="ok"
    )
    for name in SCAN.columns:
        if name not in frame:
            frame[name] = 0
    small = [one.tobytes() if has else b"" for one, has in zip(pictures, present, strict=True)]
    return frame.assign(thumbnail=small, detail=[f"detail {at}".encode() for at in range(count)])


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (count, THUMBNAIL_BYTES), dtype=np.uint8)


def write_in_groups(path: Path, frame: pd.DataFrame, sizes: list[int]) -> None:
    """Write a table as scan does, one row group a call."""
    with writing_table(path, SCAN) as add:
        for start, end in pairwise(np.cumsum([0, *sizes])):
            add(frame.iloc[start:end])


@pytest.mark.parametrize(
    "sizes",
    [[0], [1], [40], [7, 1, 32], [1] * 40, [5000, MORE_THAN_A_BATCH - 5000], [MORE_THAN_A_BATCH]],
    ids=str,
)
@pytest.mark.parametrize("missing", ["none", "some", "first and last", "all"])
def test_the_array_is_what_was_written_whatever_the_row_groups(
    tmp_path: Path, sizes: list[int], missing: str
) -> None:
    count = sum(sizes)
    rng = np.random.default_rng(1)
    present = {
        "none": np.ones(count, bool),
        "some": rng.random(count) < 0.6,
        "first and last": (np.arange(count) > 0) & (np.arange(count) < count - 1),
        "all": np.zeros(count, bool),
    }[missing]
    pictures = noise(count)
    write_in_groups(tmp_path / "scan.parquet", scan_table(pictures, present), sizes)

    found = read_thumbnails(tmp_path / "scan.parquet")

    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.where(present[:, None], pictures, 0))


@pytest.mark.parametrize("missing", [[], [0], [13, 14, 15], [39]])
def test_batches_that_begin_within_their_buffers_are_read_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: list[int]
) -> None:
    pictures, present = noise(40), ~np.isin(np.arange(40), missing)
    write_in_groups(tmp_path / "scan.parquet", scan_table(pictures, present), [40])
    whole = pq.ParquetFile.iter_batches

    def in_slices(*args: Any, **options: Any) -> Iterator[pa.RecordBatch]:
        for batch in whole(*args, **options):
            yield from (batch.slice(start, 14) for start in range(0, len(batch), 14))

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", in_slices)

    found = read_thumbnails(tmp_path / "scan.parquet")

    np.testing.assert_array_equal(found, np.where(present[:, None], pictures, 0))


def test_equal_pictures_are_read_like_others(tmp_path: Path) -> None:
    # Equal values may be written as a dictionary.
    pictures = np.repeat(noise(3), 30, axis=0)
    write_table(tmp_path / "scan.parquet", scan_table(pictures, np.ones(90, bool)), SCAN)

    np.testing.assert_array_equal(read_thumbnails(tmp_path / "scan.parquet"), pictures)


def test_a_row_of_the_scan_names_its_thumbnail(tmp_path: Path) -> None:
    pictures, present = noise(20), np.arange(20) % 3 > 0
    frame = scan_table(pictures, present)
    write_table(tmp_path / "scan.parquet", frame.sample(frac=1, random_state=0), SCAN)

    rows, thumbnails = read_scan(tmp_path / "scan.parquet")

    # The details are the largest column, and are read only of what is compared.
    assert list(rows.columns) == [name for name in SCAN.columns if name != "detail"]
    assert rows["uri"].tolist() == frame["uri"].tolist()
    for row, written in zip(rows.itertuples(), frame["thumbnail"], strict=True):
        assert thumbnails[row.thumbnail].tobytes() == (written or bytes(THUMBNAIL_BYTES))


@pytest.mark.parametrize("sizes", [[40], [7, 1, 32], [1] * 40], ids=["one", "three", "forty"])
@pytest.mark.parametrize(
    "wanted", [[], [0], [39], [6, 7, 8], [8, 7, 6, 7], list(range(40))], ids=str
)
def test_the_details_of_the_wanted_rows_are_read_and_no_others(
    tmp_path: Path, sizes: list[int], wanted: list[int]
) -> None:
    write_in_groups(tmp_path / "scan.parquet", scan_table(noise(40), np.ones(40, bool)), sizes)

    found = read_details(wanted, tmp_path / "scan.parquet")

    assert found == {row: f"detail {row}".encode() for row in wanted}


def test_only_the_row_groups_with_a_wanted_detail_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [10, 10, 10, 10]
    write_in_groups(tmp_path / "scan.parquet", scan_table(noise(40), np.ones(40, bool)), sizes)
    groups: list[int] = []
    whole = pq.ParquetFile.read_row_group

    def noted(file: pq.ParquetFile, group: int, **options: Any) -> pa.Table:
        groups.append(group)
        assert options == {"columns": ["detail"]}
        return whole(file, group, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noted)

    read_details([12, 35, 19], tmp_path / "scan.parquet")

    assert groups == [1, 3]


def test_what_scan_measures_is_what_is_read(
    tmp_path: Path, scanned: Callable[..., pd.DataFrame], picture_file: Callable[..., bytes]
) -> None:
    files = {"cat/0.png": picture_file(0), "cat/1.jpg": b"", "cat/2.jpg": picture_file(1, "jpeg")}
    scan = scanned(files)
    write_table(tmp_path / "scan.parquet", scan, SCAN)

    rows, thumbnails = read_scan(tmp_path / "scan.parquet")
    details = read_details(rows["thumbnail"].tolist(), tmp_path / "scan.parquet")

    assert list(details.values()) == scan["detail"].tolist()
    assert [bool(detail) for detail in details.values()] == [True, False, True]
    assert [small.any() for small in thumbnails[rows["thumbnail"]]] == [True, False, True]
    expected = b"".join(small or bytes(THUMBNAIL_BYTES) for small in scan["thumbnail"])
    assert thumbnails[rows["thumbnail"]].tobytes() == expected


def test_a_missing_scan_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="scan.parquet is missing: run `dvc repro`"):
        read_scan(tmp_path / "scan.parquet")
