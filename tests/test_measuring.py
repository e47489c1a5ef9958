"""A record holds what was measured of a file, in bytes, and gives it all back."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stages.lib.decoding import COLOURS, REASONS, inspect_bytes
from stages.lib.formats import SUFFIXES
from stages.lib.measuring import (
    PASSING_REASONS,
    RECORD,
    as_remembered,
    columns_of,
    failed_record,
    key_of,
    measure,
    measure_file,
)
from stages.lib.table import FILES, SCAN

Maker = Callable[..., bytes]


def record_of(data: bytes) -> bytes:
    return measure(data, hashlib.sha256(data).digest(), 10**6)


def test_a_record_gives_back_what_the_inspection_found(picture_file: Maker) -> None:
    data = picture_file(0, "jpeg_cmyk")

    (row,) = zip(*columns_of([record_of(data)], ["a.jpg"]).values(), strict=True)

    columns = dict(zip(columns_of([record_of(data)], ["a.jpg"]), row, strict=True))
    found = inspect_bytes(data, 10**6)
    assert columns["image_id"] == hashlib.sha256(data).hexdigest()
    assert (columns["bytes"], columns["mode"], columns["colour"]) == (len(data), "CMYK", "cmyk")
    assert (columns["width"], columns["height"], columns["orientation"]) == (64, 48, 1)
    assert found.thumbnail is not None
    assert columns["thumbnail"] == found.thumbnail.tobytes()
    assert columns["detail"] == found.detail


def test_each_record_gives_back_the_detail_image_of_its_own_file(picture_file: Maker) -> None:
    files = [picture_file(0), b"", picture_file(1, "jpeg", 300, 200), picture_file(2, "gif")]
    records = [record_of(data) for data in files]

    details = columns_of(iter(records), list("abcd"))["detail"]

    assert details == [inspect_bytes(data, 10**6).detail for data in files]
    assert [bool(detail) for detail in details] == [True, False, True, True]


def test_every_column_of_the_scan_is_in_a_record() -> None:
    columns = columns_of([failed_record("nowhere", "unreadable")], ["nowhere"])

    of_the_run = {"remembered", "sample_kind", "lowest", "highest"}
    assert set(SCAN.columns) - set(FILES.columns) == set(columns) - of_the_run


@pytest.mark.parametrize("column", ["reason", "colour", "format"])
def test_no_word_of_a_closed_list_is_cut_short(column: str) -> None:
    words = {"reason": REASONS, "colour": COLOURS, "format": (*SUFFIXES, "html", "lfs_pointer")}

    assert max(map(len, words[column])) <= RECORD[column].itemsize


def test_records_differ_in_length_by_their_detail_image_alone(picture_file: Maker) -> None:
    files = [picture_file(0), picture_file(1, "jpeg", 300, 200), b"", b"text", b"\xff\xd8\xff"]

    lengths = [len(record_of(data)) - len(inspect_bytes(data, 10**6).detail) for data in files]

    assert set(lengths) == {RECORD.itemsize}


@pytest.mark.parametrize("reason", [reason.decode() for reason in PASSING_REASONS])
def test_what_says_more_about_the_run_than_the_bytes_is_not_remembered(
    tmp_path: Path, reason: str
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"content")

    record = failed_record(str(tmp_path / "a.jpg"), reason)

    assert as_remembered(record) is None


def test_a_remembered_record_says_so_and_is_not_remembered_again(picture_file: Maker) -> None:
    record = record_of(picture_file(0))

    remembered = as_remembered(record)

    assert remembered is not None
    assert as_remembered(remembered) is None
    plain, marked = (np.frombuffer(one, RECORD, 1)[0] for one in (record, remembered))
    assert [plain["remembered"], marked["remembered"]] == [False, True]
    assert all(plain[name] == marked[name] for name in RECORD.names or () if name != "remembered")
    assert remembered[RECORD.itemsize :] == record[RECORD.itemsize :] != b""
    assert key_of(remembered, {}) == hashlib.sha256(picture_file(0)).digest()


def test_a_lost_file_keeps_its_identity_and_size(tmp_path: Path) -> None:
    data = bytes(3 << 20)
    (tmp_path / "a.jpg").write_bytes(data)

    columns = columns_of([failed_record(str(tmp_path / "a.jpg"), "timeout")], ["a.jpg"])

    assert columns["image_id"] == [hashlib.sha256(data).hexdigest()]
    assert list(columns["bytes"]) == [len(data)]
    assert (columns["verdict"], columns["reason"]) == (["corrupt"], ["timeout"])


def test_the_name_decides_on_the_extension_alone(tmp_path: Path, picture_file: Maker) -> None:
    records = []
    for name in ("a.png", "b.PNG", "c.jpg"):
        (tmp_path / name).write_bytes(picture_file(0))
        records.append(measure_file(str(tmp_path / name), 10**6))

    columns = columns_of(records, ["a.png", "b.PNG", "c.jpg"])

    assert len(set(records)) == 1
    assert columns["reason"] == ["", "", "wrong_extension"]
