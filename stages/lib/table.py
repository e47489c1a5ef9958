"""Owns the tables: columns, types and keys of each, checked on every read and write."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stages.lib.errors import InputError
from stages.lib.files import replacing

TEXT = pa.string()
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Table:
    """A table's contract: column to type, the key that orders and identifies rows, closed lists of
    values.
    """

    columns: dict[str, pa.DataType]
    key: tuple[str, ...] = ("uri",)
    allowed: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def with_columns(self, **more: pa.DataType) -> "Table":
        """Return this table widened by more columns."""
        return Table({**self.columns, **more}, self.key, self.allowed)


FILES = Table(
    {"uri": TEXT, "label": TEXT, "official_split": TEXT, "clip": TEXT},
    allowed=(("official_split", ("", *SPLITS)),),
)
SCAN = Table(
    {
        **FILES.columns,
        "image_id": TEXT,
        "bytes": pa.int64(),
        "format": TEXT,
        "width": pa.int32(),
        "height": pa.int32(),
        "mode": TEXT,
        "verdict": TEXT,
        "reason": TEXT,
        "brightness": pa.float32(),
        "sharpness": pa.float32(),
        "entropy": pa.float32(),
        "phash": pa.uint64(),
        "phash_mirrored": pa.uint64(),
        "thumbnail": pa.binary(),
    },
    allowed=(*FILES.allowed, ("verdict", ("ok", "suspect", "corrupt", "unsupported"))),
)
CLEAN = SCAN.with_columns(group_id=TEXT)
SPLIT = Table(
    {"uri": TEXT, "image_id": TEXT, "label": TEXT, "group_id": TEXT, "split": TEXT},
    allowed=(("split", SPLITS),),
)
INDEX = Table(
    {
        "split": TEXT,
        "row": pa.int64(),
        "uri": TEXT,
        "image_id": TEXT,
        "label": TEXT,
        "parent_id": TEXT,
        "augment_seed": pa.int64(),
    },
    key=("split", "row"),
    allowed=(("split", SPLITS),),
)
PREDICTIONS = Table(
    {
        "uri": TEXT,
        "image_id": TEXT,
        "label": TEXT,
        "predicted": TEXT,
        "confidence": pa.float32(),
        "loss": pa.float32(),
        "correct": pa.bool_(),
        "probabilities": pa.list_(pa.float32()),
    }
)
REMOVED = Table(
    {
        "uri": TEXT,
        "image_id": TEXT,
        "label": TEXT,
        "action": TEXT,
        "reason": TEXT,
        "kept_uri": TEXT,
        "similarity": pa.float32(),
        "rule": TEXT,
    },
    allowed=(("action", ("remove", "quarantine")),),
)
RAW_TRUTH = Table({"uri": TEXT, "fault": TEXT, "original_uri": TEXT})


def write_table(path: Path, frame: pd.DataFrame, table: Table) -> None:
    """Write rows sorted by key as Parquet, or as CSV where `path` says so; equal rows give equal
    bytes.
    """
    frame = frame[list(table.columns)].sort_values(list(table.key), kind="stable")
    frame = frame.reset_index(drop=True)
    _check(path, frame, table)
    with replacing(path) as unfinished:
        if path.suffix == ".csv":
            frame.to_csv(unfinished, index=False, lineterminator="\n", float_format="%.4f")
        else:
            schema = pa.schema(list(table.columns.items()))
            rows = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
            pq.write_table(rows.replace_schema_metadata(None), unfinished, compression="zstd")


def read_table(path: Path, table: Table) -> pd.DataFrame:
    """Return the table's columns in their order.

    Raises InputError for a missing file or column, a duplicate key or a value outside a closed
    list.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing: run `dvc repro`, which makes it")
    try:
        frame = _read_csv(path, table) if path.suffix == ".csv" else pq.read_table(path).to_pandas()
    except (pa.ArrowInvalid, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"{path} is damaged: {error}; run `dvc repro`, which makes it") from error
    _check(path, frame, table)
    frame = frame[list(table.columns)]
    if path.suffix == ".csv":
        numbers = [name for name, kind in table.columns.items() if pa.types.is_floating(kind)]
        frame = frame.assign(**{name: pd.to_numeric(frame[name]) for name in numbers})
    return frame


def _read_csv(path: Path, table: Table) -> pd.DataFrame:
    text = [name for name, kind in table.columns.items() if kind == TEXT]
    return pd.read_csv(path, dtype=dict.fromkeys(text, "str"), keep_default_na=False)


def _check(path: Path, frame: pd.DataFrame, table: Table) -> None:
    missing = [name for name in table.columns if name not in frame.columns]
    if missing:
        raise InputError(
            f"{path}: column {', '.join(missing)} is missing; found {list(frame.columns)}"
        )
    key = list(table.key)
    repeated = frame.loc[frame.duplicated(key), key]
    if len(repeated):
        first = ", ".join(map(str, repeated.iloc[0]))
        raise InputError(f"{path}: {'+'.join(key)} must be unique, but {first!r} stands twice")
    for column, values in table.allowed:
        unknown = sorted(map(str, set(frame[column]) - set(values)))
        if unknown:
            raise InputError(f"{path}: {column} must be one of {values}, got {unknown}")
    if "label" in table.columns:
        nameless = frame.loc[frame["label"].fillna("") == "", "uri"]
        if len(nameless):
            raise InputError(f"{path}: every image needs a label, {nameless.iloc[0]!r} has none")
