"""Measures every file once, in one pass over its bytes, and judges nothing.

Reads:  data/files.parquet, data/raw
Writes: data/scan.parquet, data/value_ranges.json, metrics/scan.json
"""

import pickle
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import Field, FiniteFloat, field_validator
from pydantic.dataclasses import dataclass

from stages.lib.errors import InputError, run_stage
from stages.lib.isolation import Limits, Lost
from stages.lib.measuring import (
    as_remembered,
    columns_of,
    extremes_of,
    failed_record,
    key_of,
    measure_file,
    needs_range,
)
from stages.lib.metrics import write_metrics
from stages.lib.parallel import ParallelParams, map_in_order, require_backend
from stages.lib.params import STRICT, CacheParams, load_params
from stages.lib.progress import summarise
from stages.lib.scan_cache import ScanCache, recipe
from stages.lib.table import FILES, SCAN, read_table, writing_table
from stages.lib.value_ranges import (
    MIN_LEVELS,
    Range,
    SampleKind,
    ValueRanges,
    choose_ranges,
    join_extremes,
    write_value_ranges,
)

ROWS_AT_ONCE = 16_384  # held in memory, and a row group of the table: about 30 MB
REMEMBER_AT_ONCE = 256  # records; what a kill can cost
# The largest picture that the budget of pixels lets through, with the copies that reading it makes:
# decoded, turned, on white, as RGB. Pillow takes 4 bytes a pixel for each.
BYTES_PER_PIXEL = 32


@dataclass(frozen=True, config=STRICT)
class Params:
    """The scan section of params.yaml.

    time_limit: seconds that one file may take. memory_limit: megabytes that its decoder may take.
    value_ranges: of images of more than 8 bits, by sample kind: the values that become black and
    white; kinds that are not named, or all with `auto`, get theirs by `choose_range`.
    """

    max_pixels: Annotated[int, Field(gt=0)]
    time_limit: Annotated[float, Field(gt=0)]
    memory_limit: Annotated[int, Field(gt=0)]
    value_ranges: Literal["auto"] | dict[SampleKind, tuple[FiniteFloat, FiniteFloat]]

    @field_validator("value_ranges")
    @classmethod
    def _ascending(cls, ranges: Literal["auto"] | dict[str, Range]) -> Any:
        for kind, (low, high) in ranges.items() if isinstance(ranges, dict) else ():
            if low >= high:
                raise ValueError(f"the range of {kind} must rise, as [0, 4095]")
        return ranges

    @property
    def given_ranges(self) -> dict[str, Range]:
        """The ranges that a person has set."""
        ranges = {} if self.value_ranges == "auto" else self.value_ranges
        return {str(kind): value_range for kind, value_range in ranges.items()}


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
    uris: Sequence[str],
    params: Params,
    parallel: ParallelParams,
    folder: Path,
    value_ranges: ValueRanges,
) -> Iterator[bytes]:
    """Yield the record of every file, in order; those that are new go into the cache of `folder`
    on the way.

    An image of more than 8 bits whose kind is not in value_ranges has a record that says no more
    than its extremes.
    """
    made_by = recipe(params.max_pixels)
    limits = Limits(params.time_limit, params.memory_limit)
    job = partial(
        measure_file,
        max_pixels=params.max_pixels,
        folder=str(folder.absolute()),
        recipe=made_by,
        value_ranges=value_ranges,
    )
    with ScanCache(folder, made_by) as cache:
        results = map_in_order(job, uris, parallel, "scan", isolate=limits)
        records = (
            failed_record(uri, result.reason) if isinstance(result, Lost) else result
            for uri, result in zip(uris, results, strict=True)
        )
        while batch := list(islice(records, REMEMBER_AT_ONCE)):
            new = filter(None, map(as_remembered, batch))
            cache.add((key_of(record, value_ranges), record) for record in new)
            yield from batch


class RangedScan:
    """The scan of all files where images of more than 8 bits share one range per kind.

    Only these are read twice: first for their extremes, then, once all are known, with the range.

    Attributes
    ----------
    value_ranges : dict
        Sample kind to range; complete when `records` is exhausted.
    """

    def __init__(
        self, uris: Sequence[str], params: Params, parallel: ParallelParams, folder: Path
    ) -> None:
        self.uris = uris
        self.value_ranges = params.given_ranges
        self._scan = partial(scan_files, params=params, parallel=parallel, folder=folder)

    def records(self) -> Iterator[bytes]:
        """Yield the record of every file, in order.

        From the first that waits for a range, records are kept on disk until the last is known.
        """
        waiting: list[str] = []
        extremes: dict[str, Range] = {}
        with tempfile.TemporaryFile() as held:
            for uri, record in zip(
                self.uris, self._scan(self.uris, value_ranges=self.value_ranges), strict=True
            ):
                if needs_range(record):
                    waiting.append(uri)
                    known = ((kind, *values) for kind, values in extremes.items())
                    extremes = join_extremes([*known, extremes_of(record)])
                if waiting:
                    pickle.dump(record, held)
                else:
                    yield record
            if waiting:
                self.value_ranges = choose_ranges(extremes, self.value_ranges)
                held.seek(0)
                yield from self._completed(held, waiting)

    def _completed(self, held: Any, waiting: Sequence[str]) -> Iterator[bytes]:
        scaled = self._scan(waiting, value_ranges=self.value_ranges)
        while True:
            try:
                record = pickle.load(held)
            except EOFError:
                return
            yield next(scaled) if needs_range(record) else record


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


def count_kinds(scan: pd.DataFrame) -> Counter[str]:
    """Return how many images of more than 8 bits of each kind were read."""
    deep = scan[(scan["sample_kind"] != "") & ~scan["verdict"].isin(("corrupt",))]
    return Counter(deep["sample_kind"])


def range_metrics(kinds: Mapping[str, int], value_ranges: ValueRanges) -> dict[str, float]:
    """Return per kind of more than 8 bits the number of files and the range; none for others."""
    metrics: dict[str, float] = {}
    for kind, (low, high) in value_ranges.items():
        if kinds.get(kind):
            metrics |= {f"{kind}_files": kinds[kind], f"{kind}_low": low, f"{kind}_high": high}
    return metrics


def range_sentences(metrics: Mapping[str, float], kinds: Iterable[str], coarse: int) -> list[str]:
    """Return what is said of the ranges, and of images of which they leave too little."""
    lines = [
        f"{metrics[f'{kind}_files']:,} {kind} images: values {metrics[f'{kind}_low']:g} to "
        f"{metrics[f'{kind}_high']:g} become black to white (scan.value_ranges)"
        for kind in kinds
        if f"{kind}_files" in metrics
    ]
    if coarse:
        lines.append(
            f"{coarse:,} images are left out because that leaves them fewer than {MIN_LEVELS} gray "
            "levels: write the range of the values that matter to scan.value_ranges, as "
            "{uint16: [0, 4095]}"
        )
    return lines


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
    ranged = RangedScan(files["uri"].tolist(), params, parallel, Path(cache.folder))
    records = ranged.records()
    counts: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    remembered = unread = coarse = 0
    with writing_table(Path("data/scan.parquet"), SCAN) as add:
        for rows in scan_rows(files, records):
            add(rows)
            counts.update(scan_metrics(rows))
            remembered += int(rows["remembered"].sum())
            unread += count_unread_heif(rows)
            kinds.update(count_kinds(rows))
            coarse += int((rows["reason"] == "too_few_levels").sum())
    write_value_ranges(ranged.value_ranges)
    ranges = range_metrics(kinds, ranged.value_ranges)
    write_metrics("scan", {**counts, **ranges})
    for line in range_sentences(ranges, ranged.value_ranges, coarse):
        print(f"scan: {line}")
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
