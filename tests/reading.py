"""What a stage reads of the table that the fixture `scanned` returns."""

import numpy as np
import pandas as pd

from stages.lib.images import THUMBNAIL_BYTES


def as_read(scan: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a scan's table and its thumbnails as `stages.lib.thumbnails.read_scan` does."""
    thumbnails = [small or bytes(THUMBNAIL_BYTES) for small in scan["thumbnail"]]
    array = np.frombuffer(b"".join(thumbnails), np.uint8).reshape(-1, THUMBNAIL_BYTES)
    return scan.assign(thumbnail=np.arange(len(scan))), array
