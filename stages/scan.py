"""Measures every file once, in one pass over its bytes, and judges nothing.

Reads:  data/files.parquet, data/raw
Writes: data/scan.parquet, metrics/scan.json
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import Field
from pydantic.dataclasses import dataclass

from stages.lib.errors import InputError, run_stage
from stages.lib.isolation import Limits, Lost
from stages.lib.measuring import (
    as_remembered,
    columns_of,
    failed_record,
    image_id_of,
    measure_file,
)
from stages.lib.metrics import write_metrics
from stages.lib.parallel import ParallelParams, map_in_order, require_backend
from stages.lib.params import STRICT, CacheParams, load_params
from stages.lib.progress import summarise
from stages.lib.scan_cache import ScanCache, recipe
from stages.lib.table import FILES, SCAN, read_table, writing_table

ROWS_AT_ONCE = 16_384  # held in memory, and a row group of the table: about 30 MB
REMEMBER_AT_ONCE = 256  # records; what a kill can cost
# The largest picture that the budget of pixels lets through, with the copies that reading it makes:
# decoded, turned, on white, as RGB. Pillow takes 4 bytes a pixel for each.
BYTES_PER_PIXEL = 32


@dataclass(frozen=True, config=STRICT)
class Params:
    """The scan section of params.yaml.

    time_limit: seconds that one file may take. memory_limit: megabytes that its decoder may take.
    """

    max_pixels: Annotated[int, Field(gt=0)]
    time_limit: Annotated[float, Field(gt=0)]
    memory_limit: Annotated[int, Field(gt=0)]


def scan_file(uri: str, max_pixels: int) -> dict[str, Any]:
    """Return one row of measures; a file that cannot be read is a row with its reason."""
    columns = columns_of([measure_file(uri, max_pixels)], [uri])
    return {name: values[0] for name, values in columns.items()}


def require_memory(params: Params) -> None:
    """Raise InputError where a picture within the budget of pixels would not fit into memory."""
    needed = -(-params.max_pixels * BYTES_PER_PIXEL // 2**20)
    if params.memory_limit < needed:
        raise InputError(
            f"scan.memory_limit must be at least {needed} (MB) to decode scan.max_pixels = "
            f"{params.max_pixels:,}, got {params.memory_limit}; raise it or lower scan.max_pixels"
        )


def scan_files(
    uris: Sequence[str], params: Params, parallel: ParallelParams, folder: Path
) -> Iterator[bytes]:
    """Yield the record of every file, in order; those that are new go into the cache of `folder`
    on the way.
    """
    made_by = recipe(params.max_pixels)
    limits = Limits(params.time_limit, params.memory_limit)
    job = partial(
        measure_file, max_pixels=params.max_pixels, folder=str(folder.absolute()), recipe=made_by
    )
    with ScanCache(folder, made_by) as cache:
        results = map_in_order(job, uris, parallel, "scan", isolate=limits)
        records = (
            failed_record(uri, result.reason) if isinstance(result, Lost) else result
            for uri, result in zip(uris, results, strict=True)
        )
        while batch := list(islice(records, REMEMBER_AT_ONCE)):
            new = filter(None, map(as_remembered, batch))
            cache.add((image_id_of(record), record) for record in new)
            yield from batch


def scan_rows(files: pd.DataFrame, records: Iterator[bytes]) -> Iterator[pd.DataFrame]:
    """Yield the rows of the scan table, ROWS_AT_ONCE at a time, with the column `remembered`."""
    for start in range(0, max(len(files), 1), ROWS_AT_ONCE):
        part = files.iloc[start : start + ROWS_AT_ONCE].reset_index(drop=True)
        columns = columns_of(islice(records, len(part)), part["uri"])
        yield pd.concat([part, pd.DataFrame(columns)], axis="columns")


def scan_metrics(scan: pd.DataFrame) -> Mapping[str, int]:
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


def count_unread_heif(scan: pd.DataFrame) -> int:
    """Return how many files only the optional package for HEIF could read."""
    return int(((scan["format"] == "heif") & (scan["reason"] == "unsupported_format")).sum())


def main() -> None:
    """Scan every file that download listed."""
    params = load_params(Params, "scan")
    parallel = load_params(ParallelParams, "parallel")
    cache = load_params(CacheParams, "cache")
    require_memory(params)
    require_backend(parallel)
    files = read_table(Path("data/files.parquet"), FILES)
    records = scan_files(files["uri"].tolist(), params, parallel, Path(cache.folder))
    counts: Counter[str] = Counter()
    remembered = unread = 0
    with writing_table(Path("data/scan.parquet"), SCAN) as add:
        for rows in scan_rows(files, records):
            add(rows)
            counts.update(scan_metrics(rows))
            remembered += int(rows["remembered"].sum())
            unread += count_unread_heif(rows)
    write_metrics("scan", dict(counts))
    if unread:
        print(
            f"scan: {unread:,} HEIC or HEIF files need a further package: `python -m pip install "
            "-r requirements-heif.txt`, then `dvc repro --force --single-item scan`"
        )
    summarise(
        "scan",
        f"read {counts['files']:,} files ({counts['files'] - remembered:,} measured, "
        f"{remembered:,} of known content): {counts['ok']:,} ok, {counts['suspect']:,} suspect, "
        f"{counts['corrupt']:,} corrupt, {counts['unsupported']:,} unsupported",
    )


if __name__ == "__main__":
    run_stage("scan", main)
