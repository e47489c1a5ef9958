"""Tables: a contract checked on every read and write, and equal rows give equal bytes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from stages.lib import table
from stages.lib.errors import InputError
from stages.lib.table import FILES, INDEX, REMOVED, Table, read_table, write_table, writing_table

LABELS = [
    "NA",
    "null",
    "nan",
    "None",
    "007",
    "1e3",
    "True",
    " cat ",
    "a,b",
    '"q"',
    "naïve 猫",
    "#1",
]
NAMES = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1)


def files(*labels: str) -> pd.DataFrame:
    rows = [(f"data/raw/{n:02}.jpg", label, "", "") for n, label in enumerate(labels)]
    return pd.DataFrame(rows, columns=list(FILES.columns), dtype="str")


def removed(*labels: str) -> pd.DataFrame:
    frame = pd.DataFrame({"uri": [f"data/raw/{label}/1.jpg" for label in labels], "label": labels})
    return frame.assign(
        image_id="0" * 64,
        action="remove",
        reason="near_duplicate",
        kept_uri="",
        kept_image_id="",
        similarity=np.float32(0.9625),
        rule="clean.remove_similarity = 0.95",
        group_id="0" * 16,
    )[list(REMOVED.columns)]


def refusal_on_read(path: Path, contract: Table = FILES) -> str:
    with pytest.raises(InputError) as caught:
        read_table(path, contract)
    return str(caught.value)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_labels_that_look_like_something_else_come_back_as_they_are(
    tmp_path: Path, suffix: str
) -> None:
    path, frame = tmp_path / f"files.{suffix}", files(*LABELS)

    write_table(path, frame, FILES)

    assert_frame_equal(read_table(path, FILES), frame)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None
)
@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@given(labels=st.lists(NAMES, max_size=4))
def test_any_text_comes_back_as_it_is(tmp_path: Path, suffix: str, labels: list[str]) -> None:
    path = tmp_path / f"files.{suffix}"

    write_table(path, files(*labels), FILES)

    assert read_table(path, FILES).values.tolist() == files(*labels).values.tolist()


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_rows_in_another_order_give_equal_bytes(tmp_path: Path, suffix: str) -> None:
    frame = files(*LABELS)
    one, other = tmp_path / f"one.{suffix}", tmp_path / f"other.{suffix}"

    write_table(one, frame, FILES)
    write_table(other, frame.sample(frac=1, random_state=0).iloc[:, ::-1], FILES)

    assert one.read_bytes() == other.read_bytes()


def test_rows_are_written_in_the_order_of_the_key(tmp_path: Path) -> None:
    places = [("val", 0), ("train", 10), ("train", 9)]
    frame = pd.DataFrame(places, columns=["split", "row"]).assign(
        uri="u", image_id="i", label="cat", parent_id="", augment_seed=0, crc32=0, unit="group"
    )

    write_table(tmp_path / "index.parquet", frame, INDEX)

    read = read_table(tmp_path / "index.parquet", INDEX)
    assert list(zip(read["split"], read["row"], strict=True)) == [
        ("train", 9),
        ("train", 10),
        ("val", 0),
    ]


def test_columns_have_the_types_of_the_contract(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1.0], "b": [2**63 + 1], "c": [3], "d": [b"x"], "e": ["y"]})
    contract = Table(
        {"a": pa.float32(), "b": pa.uint64(), "c": pa.int32(), "d": pa.binary(), "e": pa.string()},
        key=("e",),
    )

    write_table(tmp_path / "t.parquet", frame, contract)

    read = read_table(tmp_path / "t.parquet", contract)
    assert read["a"].dtype == np.float32
    assert read["b"].dtype == np.uint64
    assert read["b"].tolist() == [2**63 + 1]
    assert read["c"].dtype == np.int32
    assert read["d"].tolist() == [b"x"]


def test_what_a_contract_does_not_name_is_not_written(tmp_path: Path) -> None:
    write_table(tmp_path / "files.parquet", files("cat").assign(secret=1), FILES)

    assert list(pd.read_parquet(tmp_path / "files.parquet").columns) == list(FILES.columns)


def test_numbers_of_a_csv_come_back_as_numbers_and_gaps_as_gaps(tmp_path: Path) -> None:
    frame = removed("cat", "dog").assign(similarity=[0.9625, np.nan])

    write_table(tmp_path / "removed.csv", frame, REMOVED)

    assert_frame_equal(read_table(tmp_path / "removed.csv", REMOVED), frame, check_dtype=False)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_table_without_rows_keeps_its_columns(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"removed.{suffix}"

    write_table(path, removed(), REMOVED)

    read = read_table(path, REMOVED)
    assert list(read.columns) == list(REMOVED.columns)
    assert len(read) == 0


def test_a_missing_file_names_the_remedy(tmp_path: Path) -> None:
    message = refusal_on_read(tmp_path / "files.parquet")

    assert "files.parquet is missing: run `dvc repro`" in message


@pytest.mark.parametrize("content", [b"", b"PAR1", b"\x00\xff" * 40])
def test_a_damaged_parquet_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "files.parquet"
    path.write_bytes(content)

    assert f"{path} is damaged" in refusal_on_read(path)


def test_an_empty_csv_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "removed.csv"
    path.write_bytes(b"")

    assert f"{path} is damaged" in refusal_on_read(path, REMOVED)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_missing_column_is_named_on_read(tmp_path: Path, suffix: str) -> None:
    path, frame = tmp_path / f"files.{suffix}", files("cat").drop(columns=["clip"])
    frame.to_parquet(path) if suffix == "parquet" else frame.to_csv(path, index=False)

    assert "column clip is missing" in refusal_on_read(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"uri": "same"}, "uri must be unique, but 'same' stands twice"),
        ({"official_split": "holdout"}, "official_split must be one of"),
        ({"official_split": ["holdout", None]}, "official_split must be one of"),
        ({"label": ["cat", ""]}, "every image needs a label, 'data/raw/01.jpg' has none"),
        ({"label": ["cat", None]}, "every image needs a label, 'data/raw/01.jpg' has none"),
    ],
)
def test_a_row_that_breaks_the_contract_is_refused_both_ways(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    frame = files("cat", "dog").assign(**changes)
    frame.to_parquet(tmp_path / "read.parquet")

    with pytest.raises(InputError) as caught:
        write_table(tmp_path / "written.parquet", frame, FILES)

    assert words in str(caught.value)
    assert words in refusal_on_read(tmp_path / "read.parquet")
    assert not (tmp_path / "written.parquet").exists()


def test_a_key_of_two_columns_is_unique_as_a_whole(tmp_path: Path) -> None:
    frame = pd.DataFrame({"split": ["train", "val"], "row": [0, 0]}).assign(
        uri="u", image_id="i", label="cat", parent_id="", augment_seed=0, crc32=0, unit="group"
    )
    write_table(tmp_path / "index.parquet", frame, INDEX)

    with pytest.raises(InputError, match="split\\+row must be unique, but 'val, 0' stands twice"):
        write_table(tmp_path / "index.parquet", frame.assign(split="val"), INDEX)


def test_a_write_that_fails_leaves_the_earlier_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "files.parquet"
    write_table(path, files("cat"), FILES)

    def stop_half_way(rows: pa.Table, unfinished: Path, **_: object) -> None:
        unfinished.write_bytes(b"half")
        raise OSError("stopped")

    monkeypatch.setattr(table.pq, "write_table", stop_half_way)

    with pytest.raises(OSError, match="stopped"):
        write_table(path, files("dog"), FILES)

    assert_frame_equal(read_table(path, FILES), files("cat"))


@pytest.mark.parametrize("rows", [0, 2])
def test_every_column_of_a_csv_comes_back_in_its_type(tmp_path: Path, rows: int) -> None:
    types = {"uri": pa.string(), "n": pa.int64(), "share": pa.float32(), "mirrored": pa.bool_()}
    table = Table(types)
    frame = pd.DataFrame({"uri": ["a", "b"], "n": [7, 0], "share": 0.5, "mirrored": [True, False]})

    write_table(tmp_path / "t.csv", frame.head(rows), table)

    read = read_table(tmp_path / "t.csv", table)
    assert [read[name].dtype.kind for name in ("n", "share", "mirrored")] == ["i", "f", "b"]
    assert read["mirrored"].tolist() == [True, False][:rows]


def test_columns_that_the_contract_does_not_name_are_not_read(tmp_path: Path) -> None:
    wide = Table({"uri": pa.string(), "thumbnail": pa.binary()})
    write_table(tmp_path / "t.parquet", pd.DataFrame({"uri": ["a"], "thumbnail": [b"0"]}), wide)

    assert list(read_table(tmp_path / "t.parquet", wide.without_columns("thumbnail"))) == ["uri"]


def test_a_table_with_fewer_columns_is_held_to_their_rules_alone(tmp_path: Path) -> None:
    files = pd.DataFrame([{"uri": "a", "label": "cat", "official_split": "exam", "clip": ""}])
    write_table(tmp_path / "t.parquet", files, Table(FILES.columns))

    read = read_table(tmp_path / "t.parquet", FILES.only("uri", "label"))

    assert read.to_dict("records") == [{"uri": "a", "label": "cat"}]
    assert "official_split must be one of" in refusal_on_read(tmp_path / "t.parquet")


def test_rows_written_in_groups_are_one_table(tmp_path: Path) -> None:
    parts = [files("bird", "cat"), files("dog"), files()]
    for number, part in enumerate(parts):
        part["uri"] = f"{number}/" + part["uri"]

    with writing_table(tmp_path / "t.parquet", FILES) as add:
        for part in parts:
            add(part)

    expected = pd.concat(parts, ignore_index=True)
    assert_frame_equal(read_table(tmp_path / "t.parquet", FILES), expected)


def test_equal_groups_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with writing_table(tmp_path / f"{name}.parquet", FILES) as add:
            add(files("cat", "dog"))

    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


@pytest.mark.parametrize(
    ("uris", "message"),
    [(["b", "a"], "must ascend"), (["a", "a"], "must be unique|must ascend")],
)
@pytest.mark.parametrize("groups", [1, 2])
def test_rows_out_of_order_or_twice_are_an_error_and_leave_the_earlier_table(
    tmp_path: Path, uris: list[str], message: str, groups: int
) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, files("cat"), FILES)
    rows = files("cat", "dog").assign(uri=uris)
    parts = [rows] if groups == 1 else [rows.iloc[:1], rows.iloc[1:]]

    with pytest.raises(InputError, match=message), writing_table(path, FILES) as add:
        for part in parts:
            add(part)

    assert_frame_equal(read_table(path, FILES), files("cat"))
