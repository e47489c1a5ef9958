"""Decides from a file's bytes whether they are a whole picture: type, header, strict decode."""

import contextlib
import io
import struct
import warnings
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

from stages.lib import images
from stages.lib.images import WORK_SIDE, Picture

# What the bytes begin with, whatever the file is called.
SIGNATURES = (
    ("jpeg", 0, b"\xff\xd8\xff"),
    ("png", 0, b"\x89PNG\r\n\x1a\n"),
    ("gif", 0, b"GIF8"),
    ("webp", 8, b"WEBP"),
    ("bmp", 0, b"BM"),
    ("tiff", 0, b"II*\x00"),
    ("tiff", 0, b"MM\x00*"),
    ("avif", 4, b"ftypavif"),
    ("heif", 4, b"ftypheic"),
    ("heif", 4, b"ftypmif1"),
    ("jpeg2000", 0, b"\x00\x00\x00\x0cjP  "),
    ("jpeg2000", 0, b"\xff\x4f\xff\x51"),
)
SUFFIXES = {
    "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "png": (".png",),
    "gif": (".gif",),
    "webp": (".webp",),
    "bmp": (".bmp", ".dib"),
    "tiff": (".tif", ".tiff"),
}
READABLE = tuple(SUFFIXES)

# JPEG markers that start a frame: 0xC0-0xCF but for DHT, JPG and DAC. Baseline, extended and
# progressive are what the strict decoder handles; a lossless frame (SOF3) can crash it, so the
# marker decides first.
FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
STRICT_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
STANDALONE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})
END_OF_IMAGE = b"\xff\xd9"

REASONS = (
    "empty",
    "not_an_image",
    "truncated",
    "damaged",
    "missing_eoi",
    "too_many_pixels",
    "wrong_extension",
    "unsupported_format",
    "animated",
    "unreadable",
)


@dataclass(frozen=True)
class Inspection:
    """What the bytes of one file are worth.

    verdict: ok | suspect (readable, but not without damage) | corrupt | unsupported; reason: one of
    REASONS or "". width, height: pixels after the EXIF turn, 0 where the header cannot be read.
    mode: as Pillow names it. grey: the upright picture with its shorter side at most WORK_SIDE;
    None where there is no picture.
    """

    verdict: str
    reason: str
    format: str
    width: int = 0
    height: int = 0
    mode: str = ""
    grey: Picture | None = None


def inspect_bytes(data: bytes, suffix: str, max_pixels: int) -> Inspection:
    """Return the verdict on one file; never raises for bad bytes.

    suffix: the file name's ending, as `.jpg`. max_pixels: a header that promises more is refused
    before decoding.
    """
    if not data:
        return Inspection("corrupt", "empty", "")
    kind = true_format(data)
    if not kind:
        return Inspection("corrupt", "not_an_image", "")
    if kind not in READABLE:
        return Inspection("unsupported", "unsupported_format", kind)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata, which is no damage
            found = (_inspect_jpeg if kind == "jpeg" else _inspect_other)(data, kind, max_pixels)
    except Image.DecompressionBombError:  # Pillow's own budget, where it is the smaller one
        return Inspection("unsupported", "too_many_pixels", kind)
    except Exception as error:  # decoders raise anything; this is the one place that guards them
        return Inspection("corrupt", _damage(data, kind, error), kind)
    if found.verdict == "ok" and suffix.lower() not in SUFFIXES[kind]:
        return Inspection(**{**vars(found), "reason": "wrong_extension"})
    return found


def true_format(data: bytes) -> str:
    """Return the format that the leading bytes show, or "" where they are no known picture."""
    for kind, offset, signature in SIGNATURES:
        if data[offset : offset + len(signature)] == signature:
            return kind
    return ""


def frame_marker(data: bytes) -> int:
    """Return the second byte of a JPEG's start-of-frame marker.

    Raises ValueError where there is none.
    """
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            raise ValueError("no marker where one is due")
        marker = data[position + 1]
        if marker in FRAME_MARKERS:
            return marker
        if marker == 0xFF:  # a fill byte
            position += 1
        elif marker in STANDALONE_MARKERS:
            position += 2
        else:
            position += 2 + struct.unpack(">H", data[position + 2 : position + 4])[0]
    raise ValueError("truncated before the frame")


def _inspect_jpeg(data: bytes, kind: str, max_pixels: int) -> Inspection:
    if frame_marker(data) not in STRICT_FRAMES:
        return Inspection("unsupported", "unsupported_format", kind)
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as header:
        (width, height), mode = header.size, header.mode
        turn = header.getexif().get(images.ORIENTATION_TAG, 1)
    if turn in (5, 6, 7, 8):
        width, height = height, width
    if width * height > max_pixels:
        return Inspection("unsupported", "too_many_pixels", kind, width, height, mode)
    verdict, reason, grey = _decode_jpeg(data, mode)
    if grey is not None:
        grey = images.shrink(images.upright(grey, turn))
    return Inspection(verdict, reason, kind, width, height, mode, grey)


def _decode_jpeg(data: bytes, mode: str) -> tuple[str, str, Picture | None]:
    """Return verdict, reason and the grey picture.

    The strict decoder takes libjpeg-turbo's warnings for errors, so it tells damage that other
    decoders paint over; a scaled decode still parses every bit of the entropy-coded data.
    """
    try:
        return "ok", "", _decode_grey(data, mode, strict=True)
    except ValueError as error:
        strict_error = error
    if not data.rstrip(b"\x00\n").endswith(END_OF_IMAGE):
        with contextlib.suppress(ValueError):
            return "suspect", "missing_eoi", _decode_grey(data + END_OF_IMAGE, mode, strict=True)
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            image.load()
    except OSError:
        return "corrupt", _damage(data, "jpeg", strict_error), None
    return "suspect", "damaged", _decode_grey(data, mode, strict=False)


def _decode_grey(data: bytes, mode: str, strict: bool) -> Picture:
    side = {"min_height": WORK_SIDE, "min_width": WORK_SIDE}
    if mode == "CMYK":
        simplejpeg.decode_jpeg(data, colorspace="CMYK", strict=strict, **side)
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            return images.to_grey(images.to_rgb(image))
    grey = simplejpeg.decode_jpeg(data, colorspace="GRAY", strict=strict, **side)
    return np.asarray(grey[:, :, 0], np.uint8)


def _inspect_other(data: bytes, kind: str, max_pixels: int) -> Inspection:
    with Image.open(io.BytesIO(data), formats=[kind.upper()]) as header:
        width, height = header.size
        mode, frames = header.mode, getattr(header, "n_frames", 1)
        if width * height > max_pixels:
            return Inspection("unsupported", "too_many_pixels", kind, width, height, mode)
        if frames > 1 and kind in ("gif", "webp", "png"):
            return Inspection("unsupported", "animated", kind, width, height, mode)
        header.verify()
    with Image.open(io.BytesIO(data), formats=[kind.upper()]) as image:
        image.load()
        turned = ImageOps.exif_transpose(image)
        grey = images.shrink(images.to_grey(images.to_rgb(turned)))
    return Inspection("ok", "", kind, turned.width, turned.height, mode, grey)


def _damage(data: bytes, kind: str, error: Exception) -> str:
    """Tell a file that stops early from one that is damaged inside."""
    text = str(error).lower()
    if any(word in text for word in ("truncated", "premature", "unexpected end", "not enough")):
        return "truncated"
    whole = {
        "jpeg": END_OF_IMAGE in data[-16:],
        "png": b"IEND" in data[-16:],
        "webp": len(data) >= 8 + int.from_bytes(data[4:8], "little"),  # the size that RIFF promises
    }
    return "damaged" if whole.get(kind, True) else "truncated"
