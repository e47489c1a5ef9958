"""The measures of one file, as a record: what scan notes and its cache remembers."""

import hashlib
import os
import stat
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.lib import images, scan_cache
from stages.lib.decoding import Inspection, inspect_bytes, with_extension
from stages.lib.formats import sample_kind
from stages.lib.hashing import perceptual_hashes
from stages.lib.images import THUMBNAIL_BYTES
from stages.lib.value_ranges import ValueRanges

IMAGE_ID_BYTES = hashlib.sha256().digest_size
BLOCK = 1 << 20

# Plain bytes of a stated layout, so that a cache can hold them and a process can send them without
# any code in between. Little-endian on every machine. After them comes the detail image, a JPEG of
# any length.
RECORD = np.dtype(
    [
        ("image_id", "V32"),
        ("bytes", "<i8"),
        ("format", "S12"),
        ("width", "<i4"),
        ("height", "<i4"),
        ("mode", "S8"),
        ("colour", "S12"),
        ("orientation", "i1"),
        ("verdict", "S12"),
        ("reason", "S20"),
        ("brightness", "<f4"),
        ("brightness_low", "<f4"),
        ("brightness_high", "<f4"),
        ("sharpness", "<f4"),
        ("entropy", "<f4"),
        ("phash", "<u8"),
        ("phash_mirrored", "<u8"),
        ("has_picture", "?"),
        ("remembered", "?"),
        ("sample_kind", "S8"),
        ("lowest", "<f8"),
        ("highest", "<f8"),
        ("thumbnail", f"V{THUMBNAIL_BYTES}"),
    ]
)
REMEMBERED: int = RECORD.fields["remembered"][1]  # type: ignore[index]  # where this flag stands in a record
PASSING_REASONS = (b"timeout", b"out_of_memory", b"decoder_crash", b"unreadable")
NO_MEASURES = (0.0, 0.0, 0.0, 0.0, 0.0, 0, 0)
NO_COLUMNS = ("image_id", "has_picture", "thumbnail")  # as they stand in a record


def read_bytes(uri: str) -> bytes:
    """Return a file's bytes. Raises OSError where it cannot be read or is no regular file: from a
    pipe, reading would never end.
    """
    descriptor = os.open(uri, os.O_RDONLY | os.O_NONBLOCK)  # to open a pipe would wait as well
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise OSError(f"{uri} is no file")
        data = os.read(descriptor, about.st_size)
        while block := os.read(descriptor, BLOCK):  # at most 2 GB come at once
            data += block
        return data
    finally:
        os.close(descriptor)


def measure_file(
    uri: str,
    max_pixels: int,
    folder: str = "",
    recipe: str = "",
    value_ranges: ValueRanges | None = None,
) -> bytes:
    """Return the record of one file; one that cannot be read is a record with its reason.

    folder: of a cache that is asked first, "" for none; recipe: see `scan_cache.recipe`.
    value_ranges: see `inspect_bytes`; the cache knows an image of more than 8 bits by the range
    that applied as well.
    """
    try:
        data = read_bytes(uri)
    except OSError:
        return failed_record(uri, "unreadable")
    image_id = hashlib.sha256(data).digest()
    if folder:
        key = _key(image_id, sample_kind(data), value_ranges)
        remembered = scan_cache.find(folder, recipe, key)
        if remembered and len(remembered) >= RECORD.itemsize:
            return remembered
    return measure(data, image_id, max_pixels, value_ranges)


def measure(
    data: bytes, image_id: bytes, max_pixels: int, value_ranges: ValueRanges | None = None
) -> bytes:
    """Return the record of a file's bytes.

    Its name has no say, so equal bytes have equal records.
    """
    found = inspect_bytes(data, max_pixels, value_ranges)
    return _record(image_id, len(data), replace(found, sample_kind=sample_kind(data)))


def failed_record(uri: str, reason: str) -> bytes:
    """Return the record of a file on which the decoder's process died, or that cannot be read.

    The image_id is computed in blocks: such a file may be larger than memory.
    """
    digest, size = hashlib.sha256(), 0
    try:
        if reason != "unreadable" and Path(uri).is_file():
            with Path(uri).open("rb") as stream:
                while block := stream.read(BLOCK):
                    digest.update(block)
                    size += len(block)
    except OSError:
        digest, size, reason = hashlib.sha256(), 0, "unreadable"
    return _record(digest.digest(), size, Inspection("corrupt", reason, ""))


def key_of(record: bytes, value_ranges: ValueRanges) -> bytes:
    """Return the 32 bytes by which a record is remembered: the image_id or, of an image of more
    than 8 bits, a hash of it and of the range that applied.
    """
    (row,) = np.frombuffer(record, RECORD, 1)
    return _key(record[:IMAGE_ID_BYTES], row["sample_kind"].decode(), value_ranges)


def _key(image_id: bytes, kind: str, value_ranges: ValueRanges | None) -> bytes:
    if not kind or not value_ranges or kind not in value_ranges:
        return image_id
    low, high = value_ranges[kind]
    return hashlib.sha256(image_id + f"{kind} {low!r} {high!r}".encode()).digest()


def needs_range(record: bytes) -> bool:
    """Tell whether a record says no more than the extremes of values that have no range yet."""
    (row,) = np.frombuffer(record, RECORD, 1)
    return bool(row["reason"] == b"no_value_range")


def extremes_of(record: bytes) -> tuple[str, float, float]:
    """Return the sample kind of a record with its lowest and highest value."""
    (row,) = np.frombuffer(record, RECORD, 1)
    return row["sample_kind"].decode(), float(row["lowest"]), float(row["highest"])


def as_remembered(record: bytes) -> bytes | None:
    """Return a record as the cache should hold it; None for one that it holds already, or that says
    more about a run than about bytes: too slow, too large, not to be read.
    """
    (row,) = np.frombuffer(record, RECORD, 1)
    if row["remembered"] or row["reason"] in PASSING_REASONS:
        return None
    return record[:REMEMBERED] + b"\x01" + record[REMEMBERED + 1 :]


def columns_of(records: Iterable[bytes], uris: Iterable[str]) -> dict[str, Any]:
    """Return records as columns of the scan table; here the file's name gets its say."""
    records = list(records)
    size = RECORD.itemsize
    table = np.frombuffer(b"".join(record[:size] for record in records), RECORD)
    columns: dict[str, Any] = {"image_id": _hex(table["image_id"])}
    for name in RECORD.names or ():
        if name not in NO_COLUMNS:
            column = table[name]
            is_text = column.dtype.kind == "S"
            columns[name] = np.char.decode(column, "ascii").tolist() if is_text else column
    judged = zip(columns["reason"], columns["verdict"], columns["format"], uris, strict=True)
    columns["reason"] = [
        with_extension(reason, verdict, kind, Path(uri).suffix)
        for reason, verdict, kind, uri in judged
    ]
    pictures = zip(table["thumbnail"], table["has_picture"], strict=True)
    columns["thumbnail"] = [pixels.tobytes() if has else b"" for pixels, has in pictures]
    columns["detail"] = [record[size:] for record in records]
    return columns


def _record(image_id: bytes, size: int, found: Inspection) -> bytes:
    texts = [found.format, found.mode, found.colour, found.verdict, found.reason]
    kind, mode, colour, verdict, reason = (text.encode() for text in texts)
    head = (image_id, size, kind, found.width, found.height, mode, colour, found.orientation)
    thumbnail = bytes(THUMBNAIL_BYTES) if found.thumbnail is None else found.thumbnail.tobytes()
    values = (found.sample_kind.encode(), found.lowest, found.highest)
    tail = (found.picture is not None, False, *values, thumbnail)
    record = np.array((*head, verdict, reason, *_measures(found), *tail), RECORD)
    return record.tobytes() + found.detail


def _measures(found: Inspection) -> tuple[Any, ...]:
    if found.picture is None:
        return NO_MEASURES
    grey = images.to_grey(found.picture)
    levels = images.measure_levels(grey)
    return (
        *(levels.brightness, levels.low, levels.high),
        images.sharpness(grey),
        levels.entropy,
        *perceptual_hashes(grey),
    )


def _hex(image_ids: NDArray[np.void]) -> list[str]:
    text = image_ids.tobytes().hex()
    width = 2 * IMAGE_ID_BYTES
    return [text[start : start + width] for start in range(0, len(text), width)]
