"""A person's decisions: every action is read, whatever is not understood is an error."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.lib.errors import InputError
from stages.lib.overrides import Overrides, drop_pairs_told_apart, read_overrides

HEADER = "image_id,action,value,note"
A, B, C = "a" * 64, "b" * 64, "c" * 64
NOTHING = Overrides(frozenset(), frozenset(), {}, frozenset())


def written(folder: Path, *lines: str, header: str = HEADER) -> Path:
    path = folder / "overrides.csv"
    path.write_text("\n".join([header, *lines, ""]), encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_overrides(path)
    return str(caught.value)


def test_a_file_with_its_header_alone_decides_nothing(tmp_path: Path) -> None:
    assert read_overrides(written(tmp_path)) == NOTHING


def test_the_file_of_the_repository_is_understood() -> None:
    found = read_overrides(Path(__file__).parent.parent / "overrides.csv")

    assert isinstance(found, Overrides)


def test_every_action_is_read(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        f"{A},keep,,sharp",
        f"{B},drop,,",
        f"{C},relabel,cat,it is a cat",
        f"{B},not_duplicate,{A},twins",
    )

    assert read_overrides(path) == Overrides(
        frozenset({A}), frozenset({B}), {C: "cat"}, frozenset({(A, B)})
    )


def test_a_pair_is_the_same_both_ways_round(tmp_path: Path) -> None:
    one = read_overrides(written(tmp_path, f"{A},not_duplicate,{B},"))
    other = read_overrides(written(tmp_path, f"{B},not_duplicate,{A},"))

    assert one == other


@pytest.mark.parametrize("label", ["C#", "a,b", 'say "hi"', "NA", "007", "猫", " cat"])
def test_labels_are_taken_as_they_are_written(tmp_path: Path, label: str) -> None:
    quoted = '"' + label.replace('"', '""') + '"'

    found = read_overrides(written(tmp_path, f"{A},relabel,{quoted},"))

    assert found.relabel == {A: label}


def test_lines_that_begin_with_a_hash_are_comments(tmp_path: Path) -> None:
    path = written(tmp_path, "# decided in May, by two of us", f"{A},keep,,# no comment", "")

    assert read_overrides(path) == Overrides(frozenset({A}), frozenset(), {}, frozenset())


def test_a_byte_order_mark_as_spreadsheets_write_it_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "overrides.csv"
    path.write_text(f"{HEADER}\n{A},drop,,\n", encoding="utf-8-sig")

    assert read_overrides(path).drop == {A}


def test_a_missing_file_names_the_line_it_needs(tmp_path: Path) -> None:
    message = refusal(tmp_path / "overrides.csv")

    assert "cannot be read" in message
    assert HEADER in message


@pytest.mark.parametrize(
    "content",
    [b"", HEADER.encode() + b'\n"unclosed,keep,,\n', HEADER.encode() + b"\ncaf\xe9,keep,,\n"],
    ids=["empty", "unclosed quote", "not UTF-8"],
)
def test_a_file_that_is_no_csv_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "overrides.csv"
    path.write_bytes(content)

    assert "cannot be read" in refusal(path)


@pytest.mark.parametrize(
    "header", ["image_id,action,value", "action,image_id,value,note", "id,action,value,note"]
)
def test_other_columns_are_refused(tmp_path: Path, header: str) -> None:
    message = refusal(written(tmp_path, header=header))

    assert f"the columns must be {HEADER}, got {header}" in message


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f"{A},remove,,", "action must be one of keep, drop, relabel, not_duplicate, got 'remove'"),
        (f"{A},Keep,,", "got 'Keep'"),
        (f"{A},,,", "got ''"),
        ("cat.jpg,keep,,", "image_id must be 64 hex digits (see data/removed.csv), got 'cat.jpg'"),
        (f"{A[:-1]},keep,,", "image_id must be 64 hex digits"),
        (f"{A.upper()},keep,,", "image_id must be 64 hex digits"),
        (",drop,,", "image_id must be 64 hex digits"),
        (f"{A},relabel,,", "relabel needs the new label"),
        (f"{A},relabel", "relabel needs the new label"),
        (f"{A},not_duplicate,,", "not_duplicate needs the other picture's image_id"),
        (f"{A},not_duplicate,b.jpg,", "got 'b.jpg'"),
        (f"{A},keep,,note,one field more", "action must be one of"),
    ],
)
def test_a_row_that_is_not_understood_is_named(tmp_path: Path, line: str, words: str) -> None:
    whole = [f"{B},keep,,"] if line.count(",") <= 3 else []

    message = refusal(written(tmp_path, *whole, line))

    assert f"row {len(whole) + 1}: " in message
    assert words in message


def test_keep_and_drop_of_one_picture_contradict(tmp_path: Path) -> None:
    path = written(tmp_path, f"{A},keep,,", f"{A},drop,,")

    assert f"{A} is to be both kept and dropped" in refusal(path)


def test_two_labels_for_one_picture_contradict(tmp_path: Path) -> None:
    path = written(tmp_path, f"{A},relabel,cat,", f"{A},relabel,dog,")

    assert f"{A} is relabelled twice" in refusal(path)


@pytest.mark.parametrize("action", ["keep", "drop"])
def test_a_decision_said_twice_is_one(tmp_path: Path, action: str) -> None:
    found = read_overrides(written(tmp_path, f"{A},{action},,", f"{A},{action},,again"))

    assert found.keep | found.drop == {A}


def test_pairs_told_apart_leave_the_list_of_duplicates(tmp_path: Path) -> None:
    overrides = read_overrides(written(tmp_path, f"{B},not_duplicate,{A},"))
    pairs = pd.DataFrame({"left": [0, 0, 1], "right": [1, 2, 2], "similarity": [0.99, 0.98, 0.97]})

    left = drop_pairs_told_apart(pairs, pd.Series([A, B, C]), overrides)

    assert left.to_numpy().tolist() == [[0, 2, 0.98], [1, 2, 0.97]]


def test_no_pairs_stay_no_pairs() -> None:
    pairs = pd.DataFrame({"left": np.empty(0, np.int64), "right": np.empty(0, np.int64)})

    assert len(drop_pairs_told_apart(pairs, pd.Series([A]), NOTHING)) == 0
