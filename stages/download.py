"""Brings the pictures in (copies, unpacks, fetches or draws them) and lists every file.

Reads:  the source that params.yaml names
Writes: data/raw, data/files.parquet, data/raw_truth.csv, metrics/download.json,
        metrics/plots/files.csv
"""

import contextlib
import re
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import Field, StringConstraints
from pydantic.dataclasses import dataclass

from stages.lib import demo, sources
from stages.lib.errors import InputError, run_stage
from stages.lib.files import require_space
from stages.lib.hashing import fingerprint
from stages.lib.metrics import write_metrics, write_plot
from stages.lib.parallel import ParallelParams, map_in_order
from stages.lib.params import STRICT, load_params
from stages.lib.progress import summarise, track
from stages.lib.sources import SourceFile
from stages.lib.table import FILES, RAW_TRUTH, write_table

RAW = Path("data/raw")
PARTIAL = Path("data/raw.partial")
DEMO = "demo"


@dataclass(frozen=True, config=STRICT)
class Params:
    """The download section of params.yaml."""

    source: Annotated[str, StringConstraints(min_length=1)]
    watch: str
    sha256: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")]
    class_names: dict[str, str]
    exclude: tuple[str, ...]
    clip_pattern: str
    demo_seed: int
    demo_share: Annotated[float, Field(gt=0, le=1)]


def check_source(params: Params) -> None:
    """Raise InputError where the source cannot be what it says, before anything is written."""
    try:
        groups = re.compile(params.clip_pattern).groups
    except re.error as error:
        raise InputError(f"download.clip_pattern is no regular expression: {error}") from error
    if params.clip_pattern and groups != 1:
        raise InputError(
            "download.clip_pattern must have one group, which names the clip, got "
            f"{params.clip_pattern!r}"
        )
    for folder, label in params.class_names.items():
        if label in ("", ".", "..") or "/" in label:
            raise InputError(
                f"download.class_names: a label must be a folder name, got {label!r} for {folder!r}"
            )
    if params.source == DEMO or sources.is_url(params.source):
        return
    if not Path(params.source).exists():
        raise InputError(
            f"download.source {params.source!r} does not exist; name a folder, an archive, a URL "
            f"or {DEMO!r}"
        )
    if params.watch != params.source:
        print(
            f"download: warning: download.watch is not {params.source!r}, so DVC will not see it "
            "change"
        )


def bring_in(params: Params, parallel: ParallelParams) -> tuple[Path, pd.DataFrame, str]:
    """Put the source's files at hand below a folder.

    Returns that folder, the truth of what a demo planted, and an archive's sha256.
    """
    if params.source == DEMO:
        plan = demo.plan_demo(params.demo_seed, params.demo_share)
        PARTIAL.mkdir(parents=True)
        draw = partial(demo.write_demo_file, PARTIAL)
        for _ in map_in_order(draw, plan, parallel, "draw"):
            pass
        return PARTIAL, demo.truth_table(plan), ""
    source = Path(params.source)
    truth = pd.DataFrame(columns=list(RAW_TRUTH.columns), dtype="str")
    if source.is_dir():
        if params.sha256:
            raise InputError(
                "download.sha256 is the checksum of an archive; leave it empty for a folder"
            )
        return source, truth, ""
    PARTIAL.mkdir(parents=True)
    if sources.is_url(params.source):
        source = PARTIAL / "archive"
        sources.fetch_archive(params.source, source)
    checksum = sources.sha256_of_file(source)
    if params.sha256 and checksum != params.sha256:
        raise InputError(
            f"download.sha256 promises {params.sha256}, {params.source} has {checksum}; "
            "fetch it again, or correct the checksum if the new content is meant"
        )
    sources.unpack_archive(source, PARTIAL / "unpacked")
    return PARTIAL / "unpacked", truth, checksum


def list_files(files: Sequence[SourceFile], clip_pattern: str) -> pd.DataFrame:
    """Return the files table; the clip is what the pattern finds in the file's name."""
    clip = re.compile(clip_pattern) if clip_pattern else None
    rows = []
    for file in files:
        match = clip.search(file.place) if clip else None
        name = (match[1] or "") if match else ""  # a group that took no part is None
        rows.append((_uri(file), file.label, file.official_split, name))
    return pd.DataFrame(rows, columns=list(FILES.columns), dtype="str")


def _uri(file: SourceFile) -> str:
    return (RAW / file.label / file.place).as_posix()


def place_files(files: Sequence[SourceFile], folder: Path) -> None:
    """Fill data/raw, all or nothing: copy a person's files, move what was unpacked here."""
    ours = PARTIAL in (folder, *folder.parents)
    if not ours:
        sizes = (file.path.stat().st_size for file in files if file.path.exists())
        require_space(RAW.parent, sum(sizes))
    finished = PARTIAL / "finished"
    for file in track(files, len(files), "copy", "files"):
        target = finished / file.label / file.place
        target.parent.mkdir(parents=True, exist_ok=True)
        if ours:
            file.path.rename(target)
        else:
            # A file that may not be read, or a link to no file, becomes a row that scan calls
            # unreadable.
            with contextlib.suppress(PermissionError, FileNotFoundError):
                if file.path.is_file():
                    shutil.copyfile(file.path, target)
    if RAW.exists():
        shutil.rmtree(RAW)
    finished.rename(RAW)


def content_fingerprint(listing: pd.DataFrame) -> str:
    """Return a fingerprint of names and bytes; a file that could not be copied counts by name."""
    uris = track(listing["uri"], len(listing), "fingerprint", "files")
    hashes = (sources.sha256_of_file(Path(uri)) if Path(uri).is_file() else "" for uri in uris)
    return fingerprint(f"{uri} {sha}" for uri, sha in zip(listing["uri"], hashes, strict=True))


def file_counts(listing: pd.DataFrame) -> pd.DataFrame:
    """Return the files per class and published split: columns label, official_split, images."""
    sizes = listing.groupby(["label", "official_split"]).size()
    return sizes.rename("images").reset_index()


def main() -> None:
    """Bring the source into data/raw and list it."""
    params = load_params(Params, "download")
    parallel = load_params(ParallelParams, "parallel")
    check_source(params)
    shutil.rmtree(PARTIAL, ignore_errors=True)
    RAW.parent.mkdir(exist_ok=True)
    try:
        folder, truth, checksum = bring_in(params, parallel)
        files = sources.list_source(folder, params.class_names, params.exclude)
        place_files(files, folder)
    finally:
        shutil.rmtree(PARTIAL, ignore_errors=True)
    listing = list_files(files, params.clip_pattern)
    truth = truth.assign(
        uri=(RAW.as_posix() + "/") + truth["uri"],
        original_uri=truth["original_uri"].map(lambda uri: uri and f"{RAW.as_posix()}/{uri}"),
    )
    write_table(Path("data/files.parquet"), listing, FILES)
    write_table(Path("data/raw_truth.csv"), truth, RAW_TRUTH)
    counts = listing["label"].value_counts()
    write_metrics(
        "download",
        {
            "files": len(listing),
            "classes": len(counts),
            "largest_class": int(counts.max()),
            "smallest_class": int(counts.min()),
            "source_fingerprint": checksum or content_fingerprint(listing),
        },
    )
    write_plot("files", file_counts(listing))
    largest, smallest = counts.index[0], counts.index[-1]
    summarise(
        "download",
        f"{len(listing):,} files in {len(counts)} classes, "
        f"{counts.max():,} ({largest}) to {counts.min():,} ({smallest})",
    )


if __name__ == "__main__":
    run_stage("download", main)
