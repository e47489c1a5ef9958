"""Owns the tables: columns, types and keys of each, checked on every read and write."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stages.lib.errors import InputError
from stages.lib.files import replacing

TEXT = pa.string()
SPLITS = ("train", "val", "test")
# What a split keeps together: whole groups, or single files, which leaks.
UNITS = ("group", "image")


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

    def without_columns(self, *fewer: str) -> "Table":
        """Return this table without some of its columns."""
        return self.only(*(name for name in self.columns if name not in fewer))

    def only(self, *names: str) -> "Table":
        """Return this table with these columns alone, for a reader that needs no others."""
        columns = {name: kind for name, kind in self.columns.items() if name in names}
        allowed = tuple((name, values) for name, values in self.allowed if name in names)
        return Table(columns, self.key, allowed)


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
        "colour": TEXT,
        "orientation": pa.int8(),
        "verdict": TEXT,
        "reason": TEXT,
        "brightness": pa.float32(),
        "brightness_low": pa.float32(),
        "brightness_high": pa.float32(),
        "sharpness": pa.float32(),
        "entropy": pa.float32(),
        "phash": pa.uint64(),
        "phash_mirrored": pa.uint64(),
        "thumbnail": pa.binary(),
        "detail": pa.binary(),  # a JPEG of at most 128 x 128 pixels, see detail.py
    },
    allowed=(
        *FILES.allowed,
        ("verdict", ("ok", "suspect", "corrupt", "unsupported")),
        ("colour", ("", "grey", "pseudo_grey", "colour", "palette", "alpha", "cmyk", "16bit")),
    ),
)
# Thumbnails stay in data/scan.parquet: of a million images they are 1.5 GB, details 3 to 6 GB.
CLEAN = SCAN.without_columns("thumbnail", "detail").with_columns(
    flags=TEXT,
    comparable=pa.bool_(),  # whether the search for near-duplicates can see anything in it
    group_id=TEXT,
)
SPLIT = Table(
    {
        "uri": TEXT,
        "image_id": TEXT,
        "label": TEXT,
        "group_id": TEXT,
        "split": TEXT,
        "fold": pa.int16(),  # -1 where there are no folds
        "unit": TEXT,  # of the split, the same in all rows
    },
    allowed=(("split", SPLITS), ("unit", UNITS)),
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
        "crc32": pa.uint32(),  # of the row's bytes in the array
        "unit": TEXT,
    },
    key=("split", "row"),
    allowed=(("split", SPLITS), ("unit", UNITS)),
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
MISTAKES = Table(
    {
        "rank": pa.int64(),  # 1 has the highest loss
        "uri": TEXT,
        "image_id": TEXT,
        "label": TEXT,
        "predicted": TEXT,
        "confidence": pa.float32(),
        "of_label": pa.float32(),  # the probability that the right class was given
        "loss": pa.float32(),
        "nearest_uri": TEXT,  # in train, by the model's features; "" where none was sought
        "nearest_label": TEXT,
        "nearest_similarity": pa.float32(),
    },
    key=("rank",),
)
# Near-duplicates across the split, as the second search of `evaluate` finds them.
ACROSS = Table(
    {
        "test_uri": TEXT,
        "other_uri": TEXT,
        "other_split": TEXT,
        "test_id": TEXT,
        "other_id": TEXT,
        "test_label": TEXT,
        "other_label": TEXT,
        "similarity": pa.float32(),  # of the thumbnails after registration, 0 to 1
        "mirrored": pa.bool_(),
        "detail": pa.float32(),  # as in DUPLICATES
        "background": pa.float32(),
        "level": TEXT,  # remove: one exposure; group: one scene
    },
    key=("test_uri", "other_uri"),
    allowed=(("other_split", ("train", "val")), ("level", ("remove", "group"))),
)
REMOVED = Table(
    {
        "uri": TEXT,
        "image_id": TEXT,
        "label": TEXT,
        "action": TEXT,
        "reason": TEXT,
        "kept_uri": TEXT,
        "kept_image_id": TEXT,
        "similarity": pa.float32(),
        "rule": TEXT,
        "group_id": TEXT,  # "" of what was left out before duplicates were sought
    },
    allowed=(("action", ("remove", "quarantine")),),
)
DUPLICATES = Table(
    {
        "left_uri": TEXT,
        "right_uri": TEXT,
        "left_id": TEXT,
        "right_id": TEXT,
        "similarity": pa.float32(),
        "mirrored": pa.bool_(),
        "rotation": pa.int64(),
        "distance": pa.int64(),
        "detail": pa.float32(),  # agreement of the finest detail that both images hold, 0 to 1
        "background": pa.float32(),  # the same for a crowd of look-alikes; 0: there is none
        "level": TEXT,
    },
    key=("left_uri", "right_uri"),
    allowed=(("level", ("remove", "group", "look_alike")),),
)
CLUSTERS = Table(
    {
        "group_id": TEXT,
        "images": pa.int64(),
        "kept": pa.int64(),
        "labels": TEXT,
        "weakest_left_uri": TEXT,
        "weakest_right_uri": TEXT,
        "weakest_similarity": pa.float32(),
    },
    key=("group_id",),
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
            pq.write_table(_rows(frame, table), unfinished, compression="zstd")


@contextmanager
def writing_table(path: Path, table: Table) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Yield a function that adds rows, one row group a call, to a Parquet file at `path`.

    For a table that does not fit into memory: its rows come sorted by key, which is checked with
    everything else. Equal calls give equal bytes.
    """
    last: list[tuple[object, ...]] = []
    # A dictionary pays for the columns of few values; of the others each row has its own.
    repetitive = [column for column, _ in table.allowed]
    with (
        replacing(path) as unfinished,
        pq.ParquetWriter(
            unfinished, _schema(table), compression="zstd", use_dictionary=repetitive
        ) as writer,
    ):

        def add(frame: pd.DataFrame) -> None:
            _check(path, frame, table)
            keys = last + list(frame[list(table.key)].itertuples(index=False, name=None))
            for before, after in pairwise(keys):
                if before >= after:
                    key = "+".join(table.key)
                    raise InputError(f"{path}: {key} must ascend, but {after} follows {before}")
            last[:] = keys[-1:]
            writer.write_table(_rows(frame, table), row_group_size=max(len(frame), 1))

        yield add


def _schema(table: Table) -> pa.Schema:
    return pa.schema(list(table.columns.items()))


def _rows(frame: pd.DataFrame, table: Table) -> pa.Table:
    rows = pa.Table.from_pandas(frame, schema=_schema(table), preserve_index=False)
    return rows.replace_schema_metadata(None)


def read_table(path: Path, table: Table) -> pd.DataFrame:
    """Return the table's columns in their order.

    Raises InputError for a missing file or column, a duplicate key or a value outside a closed
    list.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing: run `dvc repro`, which makes it")
    try:
        frame = (_read_csv if path.suffix == ".csv" else _read_parquet)(path, table)
    except (pa.ArrowInvalid, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"{path} is damaged: {error}; run `dvc repro`, which makes it") from error
    _check(path, frame, table)
    frame = frame[list(table.columns)]
    return _typed(frame, table) if path.suffix == ".csv" else frame


def _read_parquet(path: Path, table: Table) -> pd.DataFrame:
    """Return the columns that the table names, and no others: some of those are large."""
    present = set(pq.read_schema(path).names)
    columns = [name for name in table.columns if name in present]
    frame: pd.DataFrame = pq.read_table(path, columns=columns).to_pandas()
    return frame


def _read_csv(path: Path, table: Table) -> pd.DataFrame:
    text = [name for name, kind in table.columns.items() if kind == TEXT]
    return pd.read_csv(path, dtype=dict.fromkeys(text, "str"), keep_default_na=False)


def _typed(frame: pd.DataFrame, table: Table) -> pd.DataFrame:
    """Give a CSV's numbers their types, which pandas cannot tell where no row holds one."""
    columns = {}
    for name, kind in table.columns.items():
        if pa.types.is_floating(kind):
            columns[name] = pd.to_numeric(frame[name]).astype("float64")
        elif kind != TEXT:
            columns[name] = frame[name].astype(kind.to_pandas_dtype())
    return frame.assign(**columns)


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
        unknown = sorted(map(str, set(frame[column].unique()) - set(values)))
        if unknown:
            raise InputError(f"{path}: {column} must be one of {values}, got {unknown}")
    if "label" in table.columns:
        nameless = frame.loc[frame["label"].fillna("") == "", "uri"]
        if len(nameless):
            raise InputError(f"{path}: every image needs a label, {nameless.iloc[0]!r} has none")
