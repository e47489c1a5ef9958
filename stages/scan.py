"""Measures every file once, in one pass over its bytes, and judges nothing.

Reads:  data/files.parquet, data/raw
Writes: data/scan.parquet, metrics/scan.json
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from PIL import Image
from pydantic import Field
from pydantic.dataclasses import dataclass

from stages.lib import images
from stages.lib.decoding import Inspection, inspect_bytes
from stages.lib.errors import run_stage
from stages.lib.hashing import perceptual_hash, sha256_hex
from stages.lib.metrics import write_metrics
from stages.lib.parallel import ParallelParams, map_in_order
from stages.lib.params import STRICT, load_params
from stages.lib.progress import summarise
from stages.lib.table import FILES, SCAN, read_table, write_table


@dataclass(frozen=True, config=STRICT)
class Params:
    """The scan section of params.yaml."""

    max_pixels: Annotated[int, Field(gt=0)]


def scan_file(uri: str, max_pixels: int) -> dict[str, Any]:
    """Return one row of measures; a file that cannot be read is a row with its reason."""
    # The budget of pixels is ours, checked before any decoding; Pillow's own would only be a second
    # opinion.
    Image.MAX_IMAGE_PIXELS = None
    try:
        data = Path(uri).read_bytes()
    except OSError:
        return _row(b"", Inspection("corrupt", "unreadable", ""))
    return _row(data, inspect_bytes(data, Path(uri).suffix, max_pixels))


def _row(data: bytes, found: Inspection) -> dict[str, Any]:
    row: dict[str, Any] = {
        "image_id": sha256_hex(data),
        "bytes": len(data),
        "format": found.format,
        "width": found.width,
        "height": found.height,
        "mode": found.mode,
        "verdict": found.verdict,
        "reason": found.reason,
    }
    return row | _measures(found)


def _measures(found: Inspection) -> dict[str, Any]:
    if found.grey is None:
        zeros = dict.fromkeys(("brightness", "sharpness", "entropy"), 0.0)
        return {**zeros, "phash": 0, "phash_mirrored": 0, "thumbnail": b""}
    return {
        "brightness": images.brightness(found.grey),
        "sharpness": images.sharpness(found.grey),
        "entropy": images.entropy(found.grey),
        "phash": perceptual_hash(found.grey),
        "phash_mirrored": perceptual_hash(found.grey[:, ::-1]),
        "thumbnail": images.thumbnail(found.grey).tobytes(),
    }


def scan_metrics(scan: pd.DataFrame) -> Mapping[str, float]:
    """Return counts per verdict and of wrong extensions."""
    verdicts = scan["verdict"].value_counts()
    counts = {
        name: int(verdicts.get(name, 0)) for name in ("ok", "suspect", "corrupt", "unsupported")
    }
    return {
        **counts,
        "files": len(scan),
        "bytes": int(scan["bytes"].sum()),
        "wrong_extension": int((scan["reason"] == "wrong_extension").sum()),
    }


def main() -> None:
    """Scan every file that download listed."""
    params = load_params(Params, "scan")
    parallel = load_params(ParallelParams, "parallel")
    files = read_table(Path("data/files.parquet"), FILES)
    job = partial(scan_file, max_pixels=params.max_pixels)
    rows = list(map_in_order(job, files["uri"].tolist(), parallel, "scan"))
    scan = pd.concat([files, pd.DataFrame(rows)], axis="columns")
    write_table(Path("data/scan.parquet"), scan, SCAN)
    counts = scan_metrics(scan)
    write_metrics("scan", counts)
    summarise(
        "scan",
        f"read {counts['files']:,} files: {counts['ok']:,} ok, {counts['suspect']:,} suspect, "
        f"{counts['corrupt']:,} corrupt, {counts['unsupported']:,} unsupported",
    )


if __name__ == "__main__":
    run_stage("scan", main)
