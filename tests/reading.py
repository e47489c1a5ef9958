"""What a stage reads of the table that the fixture `scanned` returns."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from stages.lib.images import THUMBNAIL_BYTES
from stages.lib.verification import Read


def as_read(scan: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a scan's table and its thumbnails as `stages.lib.thumbnails.read_scan` does."""
    thumbnails = [small or bytes(THUMBNAIL_BYTES) for small in scan["thumbnail"]]
    array = np.frombuffer(b"".join(thumbnails), np.uint8).reshape(-1, THUMBNAIL_BYTES)
    rows = scan.drop(columns="detail", errors="ignore")
    return rows.assign(thumbnail=np.arange(len(scan))), array


def details_of(scan: pd.DataFrame) -> Read:
    """Return what `stages.lib.thumbnails.read_details` is for the scan's file."""
    details = scan["detail"].tolist()

    def read(wanted: Sequence[int]) -> dict[int, bytes]:
        return {row: details[row] for row in wanted}

    return read
