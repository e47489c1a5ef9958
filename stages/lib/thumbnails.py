"""The thumbnails of data/scan.parquet as one array, without a Python object for each picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stages.lib.images import THUMBNAIL_BYTES
from stages.lib.table import SCAN, read_table

Thumbnails = NDArray[np.uint8]  # (images, THUMBNAIL_BYTES)
SCAN_FILE = Path("data/scan.parquet")


def read_scan(path: Path = SCAN_FILE) -> tuple[pd.DataFrame, Thumbnails]:
    """Return the scan's table and its thumbnails; the column thumbnail says which row of the array.

    A file without a picture has a row of zeros. The array takes 1.5 GB per million pictures.
    """
    rows = read_table(path, SCAN.without_columns("thumbnail", "detail"))
    return rows.assign(thumbnail=np.arange(len(rows))), read_thumbnails(path)


def read_thumbnails(path: Path = SCAN_FILE) -> Thumbnails:
    """Return the column thumbnail as an array, row by row of the table."""
    with pq.ParquetFile(path) as file:
        thumbnails = np.zeros((file.metadata.num_rows, THUMBNAIL_BYTES), np.uint8)
        at = 0
        for batch in file.iter_batches(batch_size=8192, columns=["thumbnail"]):
            column = batch.column(0)
            present = pc.binary_length(column).to_numpy(zero_copy_only=False) == THUMBNAIL_BYTES
            # All that are present lie one after another in the buffer: the others are empty.
            offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset :]
            first, last = offsets[0], offsets[len(column)]
            data = column.buffers()[2]
            if data is not None:
                pixels = np.frombuffer(data, np.uint8)[first:last].reshape(-1, THUMBNAIL_BYTES)
                thumbnails[at : at + len(column)][present] = pixels
            at += len(column)
    return thumbnails


def read_details(wanted: Sequence[int], path: Path = SCAN_FILE) -> dict[int, bytes]:
    """Return the detail images (JPEG bytes) of some rows of the table, by row number.

    Only the row groups that hold one of them are read.
    """
    rows = np.unique(np.asarray(wanted, np.int64))
    found: dict[int, bytes] = {}
    with pq.ParquetFile(path) as file:
        start = 0
        for group in range(file.metadata.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            within = rows[(rows >= start) & (rows < end)]
            if len(within):
                column = file.read_row_group(group, columns=["detail"]).column(0)
                taken = column.take(within - start).to_pylist()
                found.update(zip(within.tolist(), taken, strict=True))
            start = end
    return found
