"""Decides from a file's bytes whether they are a whole picture: type, header, strict decode."""

import contextlib
import io
import warnings
from dataclasses import dataclass, replace
from functools import partial

from PIL import Image, UnidentifiedImageError

from stages.lib import images
from stages.lib.detail import encode_detail
from stages.lib.formats import (
    READABLE,
    SUFFIXES,
    jpeg_header,
    sample_kind,
    text_format,
    tiff_header,
    true_format,
)
from stages.lib.framing import without_frame
from stages.lib.images import END_OF_IMAGE, LEAST_WORK_SIDE, Picture, UnsupportedValues
from stages.lib.value_ranges import ValueRanges, find_extremes, is_too_coarse, scale_values

MANY_FRAMES = ("gif", "webp", "png", "avif")  # TIFF and HEIF hold pages: the first one counts
OUT_OF_MEMORY = ("out of memory", "insufficient memory")
TURNED_SIDES = (5, 6, 7, 8)  # the EXIF orientations that swap width and height
TIFF_BITS_PER_SAMPLE = 258
TRANSPARENT_MODES = ("RGBA", "RGBa", "LA", "La", "PA")

REASONS = (
    "empty",
    "not_an_image",
    "html_page",
    "lfs_pointer",
    "truncated",
    "damaged",
    "missing_eoi",
    "training_decoder",
    "too_many_pixels",
    "wrong_extension",
    "unsupported_format",
    "animated",
    "no_value_range",
    "too_few_levels",
    "decoder_crash",
    "timeout",
    "out_of_memory",
    "unreadable",
)
# How a picture is stored, which is more than what it shows; "" where there is no picture.
COLOURS = ("", "grey", "pseudo_grey", "colour", "palette", "alpha", "cmyk", "16bit")


@dataclass(frozen=True)
class Inspection:
    """What the bytes of one file are worth.

    verdict: ok | suspect (readable, but not without damage) | corrupt | unsupported; reason: one of
    REASONS or "". width, height: pixels after the EXIF turn, 0 where the header cannot be read.
    mode: as Pillow names it. colour: one of COLOURS. orientation: EXIF's, 1 to 8. picture: upright
    RGB with its shorter side at most WORK_SIDE, thumbnail: see `images.thumbnail`; None where there
    is no picture. sample_kind: of values of more than 8 bits, "" of others; lowest, highest: the
    extremes of those values, as far as they are finite.
    """

    verdict: str
    reason: str
    format: str
    width: int = 0
    height: int = 0
    mode: str = ""
    colour: str = ""
    orientation: int = 1
    picture: Picture | None = None
    thumbnail: Picture | None = None
    detail: bytes = b""
    sample_kind: str = ""
    lowest: float = 0.0
    highest: float = 0.0


def inspect_bytes(
    data: bytes, max_pixels: int, value_ranges: ValueRanges | None = None
) -> Inspection:
    """Return the verdict on one file's bytes; never raises for bad bytes.

    max_pixels: a header that promises more is refused before decoding. value_ranges: of values of
    more than 8 bits, see `images.range_of`; an image whose kind has none there is `unsupported`
    with its extremes, and so is one of which its range would leave too little. Raises MemoryError
    where a decoder runs out of memory, which says nothing about the bytes.
    """
    if not data:
        return Inspection("corrupt", "empty", "")
    kind = true_format(data)
    if not kind:
        return _inspect_text(data)
    if kind not in READABLE:
        return Inspection("unsupported", "unsupported_format", kind)
    try:
        if kind == "jpeg":
            return _inspect_jpeg(data, kind, max_pixels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata, which is no damage
            deep = sample_kind(data)
            if deep:
                return _inspect_deep(data, kind, deep, max_pixels, value_ranges)
            return _inspect_other(data, kind, max_pixels)
    except Image.DecompressionBombError:  # Pillow's own budget, where it is the smaller one
        return Inspection("unsupported", "too_many_pixels", kind)
    except MemoryError:
        raise
    except Exception as error:  # decoders raise anything; this is the one place that guards them
        _raise_if_out_of_memory(error)
        return Inspection("corrupt", _damage(data, kind, error), kind)


def with_extension(reason: str, verdict: str, kind: str, suffix: str) -> str:
    """Return the reason, which becomes `wrong_extension` for a whole picture with another name.

    suffix: the file name's ending, as `.jpg`.
    """
    wrong = verdict == "ok" and suffix.lower() not in SUFFIXES[kind]
    return "wrong_extension" if wrong else reason


def _inspect_text(data: bytes) -> Inspection:
    kind = text_format(data)
    if kind == "svg":
        return Inspection("unsupported", "unsupported_format", kind)
    reasons = {"html": "html_page", "lfs_pointer": "lfs_pointer"}
    return Inspection("corrupt", reasons.get(kind, "not_an_image"), kind)


def _inspect_jpeg(data: bytes, kind: str, max_pixels: int) -> Inspection:
    header = jpeg_header(data)
    if not header.is_strictly_decodable:
        return Inspection("unsupported", "unsupported_format", kind)
    mode = {1: "L", 3: "RGB", 4: "CMYK"}.get(header.components, "")
    width, height = header.width, header.height
    if header.orientation in TURNED_SIDES:
        width, height = height, width
    found = partial(Inspection, format=kind, width=width, height=height, mode=mode)
    found = partial(found, orientation=header.orientation)
    if width * height > max_pixels:
        return found("unsupported", "too_many_pixels")
    verdict, reason, pixels = _decode_jpeg(data)
    if pixels is None:
        return found(verdict, reason)
    picture = images.shrink(pixels)
    content = without_frame(picture)
    thumbnail = images.thumbnail(content)
    colour = colour_class(mode, False, False, thumbnail)
    shown = {"picture": picture, "thumbnail": thumbnail, "detail": encode_detail(content)}
    return found(verdict, reason, colour=colour, **shown)


def _decode_jpeg(data: bytes) -> tuple[str, str, Picture | None]:
    """Return verdict, reason and the upright picture.

    The strict decoder takes libjpeg-turbo's warnings for errors, so it tells damage that other
    decoders paint over; a scaled decode still parses every bit of the entropy-coded data. Whatever
    it says, a picture is what the decoder of training makes of the bytes.
    """
    verdict, reason, pixels = "ok", "", None
    try:
        pixels = images.read_picture(data, LEAST_WORK_SIDE, strict=True)
    except (ValueError, OSError) as error:
        _raise_if_out_of_memory(error)
        verdict, reason = _judge_rejected_jpeg(data, error)
    if verdict == "suspect":
        pixels = _read_for_training(data)
    if verdict != "corrupt" and pixels is None:
        return "corrupt", "training_decoder", None
    return verdict, reason, pixels


def _judge_rejected_jpeg(data: bytes, strict_error: Exception) -> tuple[str, str]:
    """Return verdict and reason of a JPEG that the strict decoder does not take."""
    if not data.rstrip(b"\x00\n").endswith(END_OF_IMAGE):
        with contextlib.suppress(ValueError, OSError):
            images.read_picture(data + END_OF_IMAGE, LEAST_WORK_SIDE, strict=True)
            return "suspect", "missing_eoi"
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            image.load()
    except OSError as error:
        _raise_if_out_of_memory(error)
        return "corrupt", _damage(data, "jpeg", strict_error)
    return "suspect", "damaged"


def _read_for_training(data: bytes) -> Picture | None:
    try:
        return images.read_picture(data, LEAST_WORK_SIDE)
    except (ValueError, OSError) as error:
        _raise_if_out_of_memory(error)
        return None


def _inspect_other(data: bytes, kind: str, max_pixels: int) -> Inspection:
    found = _inspect_other_header(data, kind, max_pixels)
    if found.verdict != "ok":
        return found
    with images.open_picture(data) as image:
        image.load()
        turn, transparent = images.orientation_of(image), _is_transparent(image)
        deep = _is_deep(image, data)
        pixels = images.picture_of(image)  # what training reads, by the same calls
    return _shown(pixels, kind, found.mode, turn, transparent, deep)


def _inspect_other_header(data: bytes, kind: str, max_pixels: int) -> Inspection:
    """Return the verdict on what stands before the pixels of a file that is no JPEG."""
    with images.open_picture(data) as image:
        (width, height), mode = image.size, image.mode
        if width * height > max_pixels:
            return Inspection("unsupported", "too_many_pixels", kind, width, height, mode)
        if kind in MANY_FRAMES and getattr(image, "n_frames", 1) > 1:
            return Inspection("unsupported", "animated", kind, width, height, mode)
        if kind == "png":
            image.verify()  # the checksums, which load() does not look at in every chunk
    return Inspection("ok", "", kind, width, height, mode)


def _shown(
    pixels: Picture, kind: str, mode: str, turn: int, transparent: bool, deep: bool
) -> Inspection:
    height, width = pixels.shape[:2]
    picture = images.shrink(pixels)
    content = without_frame(picture)
    thumbnail = images.thumbnail(content)
    colour = colour_class(mode, transparent, deep, thumbnail)
    size = (width, height, mode, colour, turn)
    return Inspection("ok", "", kind, *size, picture, thumbnail, encode_detail(content))


def _inspect_deep(
    data: bytes, kind: str, deep: str, max_pixels: int, value_ranges: ValueRanges | None
) -> Inspection:
    """Return the verdict on an image of more than 8 bits.

    Pillow looks first, because it tells damage best, then the decoder of the values. TIFF layouts
    that only the latter knows, such as RGB of floats, have the sample kind for a mode.
    """
    mode, turn, transparent = deep, 1, False
    header = tiff_header(data) if kind == "tiff" else None
    try:
        found = _inspect_other_header(data, kind, max_pixels)
        if found.verdict != "ok":
            return found
        with images.open_picture(data) as image:
            image.load()
            mode, turn, transparent = (
                image.mode,
                images.orientation_of(image),
                _is_transparent(image),
            )
    except UnidentifiedImageError:
        if header is None:
            raise
        if header.width * header.height > max_pixels:
            size = (header.width, header.height)
            return Inspection("unsupported", "too_many_pixels", kind, *size, mode)
    try:
        values = images.read_deep_image(data)
        extremes = find_extremes(values.values)
        height, width = values.values.shape[:2]
        found = Inspection("unsupported", "no_value_range", kind, width, height, mode)
        found = replace(found, sample_kind=deep, lowest=extremes[0], highest=extremes[1])
        scaled = scale_values(values.values, images.range_of(values, value_ranges))
    except UnsupportedValues as error:
        if error.reason == "no_value_range":
            return found
        size = (header.width, header.height) if header else (0, 0)
        return Inspection("unsupported", error.reason, kind, *size, mode)
    if is_too_coarse(values.values, scaled):
        return replace(found, reason="too_few_levels")
    transparent = transparent or values.alpha is not None
    pixels = images.compose_deep(values, scaled)
    shown = _shown(pixels, kind, mode, turn, transparent, True)
    return replace(shown, sample_kind=deep, lowest=extremes[0], highest=extremes[1])


def colour_class(mode: str, transparent: bool, deep: bool, thumbnail: Picture) -> str:
    """Return how a picture is stored: one of COLOURS, the first that holds in this order.

    cmyk, alpha (any transparency, in a palette or in grey as well), 16bit (more than 8 bits a
    value), palette, grey, pseudo_grey (stored as colour, but none to be seen), colour.
    """
    if mode == "CMYK":
        return "cmyk"
    if transparent:
        return "alpha"
    if deep:
        return "16bit"
    stored = {"P": "palette", "L": "grey", "1": "grey"}.get(mode, "")
    return stored or ("colour" if images.shows_colour(thumbnail) else "pseudo_grey")


def _is_transparent(image: Image.Image) -> bool:
    return image.mode in TRANSPARENT_MODES or "transparency" in image.info


def _is_deep(image: Image.Image, data: bytes) -> bool:
    """Tell whether a value takes more than 8 bits; of RGB, Pillow shows the high byte alone."""
    if image.mode[0] in "IF":
        return True
    if image.format == "PNG":
        return data[24] == 16  # the bit depth in IHDR, the first chunk
    tags = getattr(image, "tag_v2", {})
    return bool(max(tags.get(TIFF_BITS_PER_SAMPLE, (8,))) > 8)


def _raise_if_out_of_memory(error: Exception) -> None:
    text = str(error).lower()
    if any(words in text for words in OUT_OF_MEMORY):
        raise MemoryError(str(error)) from error


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
