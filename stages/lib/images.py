"""Pixels: decode, resize, thumbnails, simple measures (the one place where cv2 enters)."""

import io
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps

from stages.lib.formats import (
    HEIF,
    ORIENTATION_TAG,
    READABLE,
    WHITE_IS_ZERO,
    jpeg_header,
    sample_kind,
    tiff_header,
    true_format,
)
from stages.lib.value_ranges import (
    SAMPLE_KINDS,
    TYPE_RANGES,
    Range,
    ValueRanges,
    choose_range,
    find_extremes,
    scale_values,
)

if HEIF:
    import pillow_heif

    pillow_heif.register_heif_opener()

# Work is spread over processes, one image each: threads inside OpenCV would only get in their way.
cv2.setNumThreads(1)
# Its TIFF decoder would print a line for every tag that it does not know.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

Picture = NDArray[np.uint8]
Fit = Literal["stretch", "crop", "pad"]
Interpolation = Literal["auto", "nearest", "linear", "cubic", "area", "lanczos"]
Colour = Literal["rgb", "grey"]
METHODS: dict[str, int] = {
    "nearest": cv2.INTER_NEAREST_EXACT,  # of the two it is the one that Pillow agrees with
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
}

# Measures and hashes are taken on a picture whose shorter side is at most this long ...
WORK_SIDE = 128
# ... and which a JPEG decoder may scale down to no less than this; it can do so in eighths.
LEAST_WORK_SIDE = 96
THUMBNAIL_SIDE = 32
CHROMA_SIDE = 16
THUMBNAIL_BYTES = THUMBNAIL_SIDE**2 + 2 * CHROMA_SIDE**2
COLOUR_TOLERANCE = 5  # of 255: chroma further off from neutral can be seen
VALUES = np.arange(256)
QUANTILES = np.array([0.05, 0.99])
PREPROCESSING = "preprocessing.json"

END_OF_IMAGE = b"\xff\xd9"  # of a JPEG
PILLOW_FORMATS = [kind.upper() for kind in READABLE]


class UnsupportedValues(ValueError):
    """An image of more than 8 bits that cannot be brought to 8 bits.

    Attributes
    ----------
    reason : str
        One of `decoding.REASONS`.
    """

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass(frozen=True)
class DeepImage:
    """The decoded values of an image of more than 8 bits, upright.

    Attributes
    ----------
    kind : str
        One of `value_ranges.SAMPLE_KINDS`.
    values : ndarray
        Gray (height, width) or RGB (height, width, 3), in the dtype of the kind.
    alpha : ndarray of uint8 or None
        (height, width): 0 transparent, 255 opaque.
    is_inverted : bool
        Whether the low end is white.
    is_premultiplied : bool
        Whether the values have been multiplied by alpha.
    """

    kind: str
    values: NDArray[Any]
    alpha: Picture | None = None
    is_inverted: bool = False
    is_premultiplied: bool = False


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes an array: the same for training and for serving.

    value_ranges: of images of more than 8 bits, by sample kind: the values that become 0 and 255.
    """

    height: int
    width: int
    fit: Fit
    interpolation: Interpolation
    colour: Colour
    value_ranges: ValueRanges = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every prepared picture."""
        return self.height, self.width, 3 if self.colour == "rgb" else 1


def save_preprocessing(how: Preprocessing, folder: Path) -> None:
    """Write beside arrays or a model how their pictures were prepared."""
    content = asdict(how)
    if not how.value_ranges:  # as it was before there were any
        del content["value_ranges"]
    text = json.dumps(content, indent=1, sort_keys=True)
    (folder / PREPROCESSING).write_text(text + "\n", encoding="utf-8")


def load_preprocessing(folder: Path) -> Preprocessing:
    """Return what `save_preprocessing` wrote."""
    content = json.loads((folder / PREPROCESSING).read_text(encoding="utf-8"))
    if "value_ranges" in content:
        ranges = content["value_ranges"].items()
        content["value_ranges"] = {kind: (low, high) for kind, (low, high) in ranges}
    return Preprocessing(**content)


def read_picture(
    data: bytes,
    smallest_side: int = 0,
    strict: bool = False,
    value_ranges: ValueRanges | None = None,
) -> Picture:
    """Return upright RGB pixels (height, width, 3).

    smallest_side: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as both sides stay
    at least this long; 0 decodes in full. strict: a JPEG decoder's warnings of damage are errors.
    value_ranges: of images of more than 8 bits, see `deep_to_rgb`.
    Grey becomes three equal channels, palettes are looked up, CMYK is converted, values of more
    than 8 bits are scaled, transparent parts become white.
    Raises what the decoder raises on bytes that it cannot read.
    """
    if true_format(data) == "jpeg":
        header = jpeg_header(data)
        scale = {"min_height": smallest_side, "min_width": smallest_side}
        if header.components != 4:
            pixels = simplejpeg.decode_jpeg(data, colorspace="RGB", strict=strict, **scale)
            return upright(pixels, header.orientation)
        if strict:  # to tell damage alone: turbojpeg has no way from CMYK to RGB
            simplejpeg.decode_jpeg(data, colorspace="CMYK", strict=True, **scale)
        data += END_OF_IMAGE  # where it is missing, Pillow would refuse what simplejpeg reads
    if sample_kind(data):
        return deep_to_rgb(read_deep_image(data), value_ranges)
    with open_picture(data) as image:
        return picture_of(image)


def read_deep_image(data: bytes) -> DeepImage:
    """Return the values of an image for which `sample_kind` names a kind.

    Raises UnsupportedValues for a layout that cannot be read, ValueError for damage.
    """
    name, kind = true_format(data), sample_kind(data)
    header = tiff_header(data) if name == "tiff" else None
    if kind not in SAMPLE_KINDS or (header and header.is_planar):
        raise UnsupportedValues("unsupported_format", f"{kind} values in an unknown layout")
    if header is None:  # PNG or JPEG 2000
        with open_picture(data) as image:
            turn = orientation_of(image)
            if image.mode.startswith("I"):
                return _deep_gray(np.asarray(image).astype(kind), turn, image.info)
    pixels: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError(f"{kind} values are damaged")
    channels = header.samples if header else pixels.ndim + 1
    if pixels.dtype != kind or channels not in (1, 3, 4) or pixels.ndim != 2 + (channels > 1):
        raise UnsupportedValues("unsupported_format", f"{kind} values are read as {pixels.dtype}")
    if header is None:
        pixels = upright(pixels, turn)  # OpenCV turns TIFF, but not PNG
    elif 8 < header.bits < 16:
        pixels >>= 16 - header.bits  # OpenCV fills packed values up with zeroes
    if pixels.ndim == 2:
        is_inverted = header is not None and header.photometric == WHITE_IS_ZERO
        return DeepImage(kind, pixels, is_inverted=is_inverted)
    colors, extra = pixels[:, :, 2::-1], header.extra if header else 2  # from blue, green, red
    if pixels.shape[2] == 3 or extra == 0:
        return DeepImage(kind, colors)
    full = 1.0 if kind.startswith("float") else float(np.iinfo(kind).max)
    alpha = scale_values(pixels[:, :, 3], (0.0, full))
    return DeepImage(kind, colors, alpha, is_premultiplied=extra == 1)


def _deep_gray(values: NDArray[Any], turn: int, info: dict[Any, Any]) -> DeepImage:
    """Return a gray image of a format whose orientation and transparent value Pillow knows."""
    values, alpha = upright(values, turn), None
    if "transparency" in info:
        alpha = np.where(values == info["transparency"], 0, 255).astype(np.uint8)
    return DeepImage(str(values.dtype), values, alpha)


def range_of(deep: DeepImage, value_ranges: ValueRanges | None) -> Range:
    """Return the range that applies to an image.

    value_ranges: of the data set, by kind. None: there is no data set, so the range is chosen by
    the rule of `choose_range` from this image alone.
    Raises UnsupportedValues for a kind without a range.
    """
    if value_ranges is None:
        return choose_range(deep.kind, *find_extremes(deep.values))
    if deep.kind not in value_ranges:
        raise UnsupportedValues("no_value_range", f"no range is known for {deep.kind} values")
    return value_ranges[deep.kind]


def deep_to_rgb(deep: DeepImage, value_ranges: ValueRanges | None) -> Picture:
    """Return an image of more than 8 bits as RGB pixels (height, width, 3).

    Its values are scaled by the range of their kind, see `range_of`; then it is treated as the same
    image of 8 bits would be.
    """
    return compose_deep(deep, scale_values(deep.values, range_of(deep, value_ranges)))


def compose_deep(deep: DeepImage, scaled: Picture) -> Picture:
    """Return scaled values (height, width) or (height, width, 3) as RGB pixels on white."""
    if deep.is_inverted:
        scaled = 255 - scaled
    if scaled.ndim == 2:
        scaled = np.repeat(scaled[:, :, None], 3, axis=2)
    if deep.alpha is None:
        return scaled
    alpha = deep.alpha[:, :, None]
    if deep.is_premultiplied:
        return np.asarray(cv2.add(scaled, np.repeat(255 - alpha, 3, axis=2)), np.uint8)
    return to_rgb(Image.fromarray(np.concatenate([scaled, alpha], axis=2)))


def open_picture(data: bytes) -> Image.Image:
    """Return Pillow's image of a file in one of the formats that the pipeline reads; its pixels are
    not decoded yet.
    """
    return Image.open(io.BytesIO(data), formats=PILLOW_FORMATS)


def picture_of(image: Image.Image) -> Picture:
    """Return the upright RGB pixels of an open image."""
    return to_rgb(ImageOps.exif_transpose(image))


def orientation_of(image: Image.Image) -> int:
    """Return an image's EXIF orientation, 1 to 8; 1 where there is none or no such one."""
    turn = image.getexif().get(ORIENTATION_TAG, 1)
    return turn if turn in range(1, 9) else 1


def to_rgb(image: Image.Image) -> Picture:
    """Return any Pillow image as RGB pixels; the conversions are those stated at `read_picture`."""
    if image.mode[0] in "IF":  # convert would clip at 255 or wrap; see `read_deep_image`
        raise UnsupportedValues("unsupported_format", f"values of mode {image.mode} need a range")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.asarray(image.convert("RGB"))


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return pixels turned and mirrored as EXIF orientation 1 to 8 says; any other value changes
    nothing.
    """
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def resize_picture(pixels: Picture, how: Preprocessing) -> Picture:
    """Return RGB (height, width, 3) or grey (height, width) pixels at (how.height, how.width, 3 or
    1).

    fit: `stretch` changes the proportions, `crop` cuts the centre, `pad` adds black borders.
    interpolation: `auto` averages (area) where the picture shrinks, else it is cubic.
    """
    height, width = pixels.shape[:2]
    if how.fit == "crop":
        scale = max(how.height / height, how.width / width)
        rows, columns = round(how.height / scale), round(how.width / scale)
        top, left = (height - rows) // 2, (width - columns) // 2
        pixels = pixels[top : top + max(rows, 1), left : left + max(columns, 1)]
    if how.fit != "pad":
        resized = _resize(pixels, how.height, how.width, how.interpolation)
        return resized.reshape(how.height, how.width, -1)
    scale = min(how.height / height, how.width / width)
    rows, columns = max(round(height * scale), 1), max(round(width * scale), 1)
    inner = _resize(pixels, rows, columns, how.interpolation).reshape(rows, columns, -1)
    canvas = np.zeros((how.height, how.width, inner.shape[2]), np.uint8)
    top, left = (how.height - rows) // 2, (how.width - columns) // 2
    canvas[top : top + rows, left : left + columns] = inner
    return canvas


def prepare_picture(data: bytes, how: Preprocessing) -> Picture:
    """Return a file's bytes as the model sees them: decoded, upright, RGB or grey, resized;
    uint8, `how.shape`.
    """
    # A DCT-scaled decode at twice the target keeps the detail that the final resize averages;
    # `nearest` averages nothing: its pixels are those of the file.
    smallest_side = 0 if how.interpolation == "nearest" else 2 * max(how.height, how.width)
    pixels = read_picture(data, smallest_side, value_ranges={**TYPE_RANGES, **how.value_ranges})
    return resize_picture(pixels if how.colour == "rgb" else to_grey(pixels), how)


def warp_picture(pixels: Picture, place: NDArray[np.float64], smooth: bool) -> Picture:
    """Return pixels (height, width, channels) moved, turned or stretched, in the same shape.

    place: the affine map from a new pixel (x, y) to the old one, (2, 3). smooth: between pixels,
    values are interpolated. Beyond its border the picture goes on mirrored.
    """
    height, width, channels = pixels.shape
    flags = (cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST) | cv2.WARP_INVERSE_MAP
    border = cv2.BORDER_REFLECT_101
    moved = cv2.warpAffine(pixels, place, (width, height), flags=flags, borderMode=border)
    return np.asarray(moved, np.uint8).reshape(height, width, channels)


def to_grey(pixels: Picture) -> Picture:
    """Return luma (ITU-R BT.601) of RGB pixels, the weights that JPEG uses as well."""
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)


def shrink(pixels: Picture) -> Picture:
    """Return a picture (grey or RGB) whose shorter side is at most WORK_SIDE; one that is no larger
    comes back as it is.
    """
    height, width = pixels.shape[:2]
    scale = WORK_SIDE / min(height, width)
    if scale >= 1:
        return pixels
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    # Up to a half, two pixels each way are averaged by INTER_LINEAR too, at a fifth of the time.
    method = cv2.INTER_LINEAR if scale >= 0.5 else cv2.INTER_AREA
    return np.asarray(cv2.resize(pixels, size, interpolation=method), np.uint8)


def thumbnail(pixels: Picture) -> Picture:
    """Return RGB pixels squeezed to THUMBNAIL_BYTES values.

    They are luma (ITU-R BT.601) of THUMBNAIL_SIDE x THUMBNAIL_SIDE, row by row, then Cb and Cr of
    CHROMA_SIDE x CHROMA_SIDE each, where 128 is neutral.
    """
    height, width = pixels.shape[:2]
    if min(height, width) >= 3 * THUMBNAIL_SIDE:
        # First to a half, where each pixel is an average by INTER_LINEAR too, at half the time.
        pixels = np.asarray(cv2.resize(pixels, ((width + 1) // 2, (height + 1) // 2)), np.uint8)
    small = _resize(pixels, THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    luma_and_chroma = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb), np.uint8)
    tiny = _resize(luma_and_chroma, CHROMA_SIDE, CHROMA_SIDE)
    planes = (luma_and_chroma[:, :, 0], tiny[:, :, 2], tiny[:, :, 1])
    return np.concatenate([plane.ravel() for plane in planes])


def is_near(pixels: Picture, colour: NDArray[np.float64], tolerance: float) -> Picture:
    """Return 255 where an RGB pixel lies within `tolerance` of a colour in all channels, else 0."""
    near = cv2.inRange(pixels, np.maximum(colour - tolerance, 0), colour + tolerance)
    return np.asarray(near, np.uint8)


def shares_of_lines(mask: Picture, axis: Literal[0, 1]) -> NDArray[np.float64]:
    """Return the share of each row (axis 1) or column (axis 0) of a mask of 0 and 255 that is
    set.
    """
    shares = cv2.reduce(mask, axis, cv2.REDUCE_AVG, dtype=cv2.CV_64F).ravel() / 255
    return np.asarray(shares, np.float64)


def shows_colour(thumbnail: Picture) -> bool:
    """Tell whether a thumbnail shows a colour that an eye could see.

    A grey picture stays grey through a lossy encoder: its noise moves the chroma of pixels by a few
    steps of 255 and averages out over the many pixels of each value of a thumbnail. A small
    coloured thing, as a date, does not.
    """
    chroma = thumbnail[THUMBNAIL_SIDE**2 :]
    return bool(chroma.max() > 128 + COLOUR_TOLERANCE or int(chroma.min()) < 128 - COLOUR_TOLERANCE)


@dataclass(frozen=True)
class Levels:
    """How the values of a grey picture are spread.

    brightness: their mean; low, high: the values that 5 % and 99 % of the pixels do not exceed; all
    from 0 (black) to 1 (white). entropy: Shannon's, in bits, 0 (one value) to 8.
    """

    brightness: float
    low: float
    high: float
    entropy: float


def measure_levels(grey: Picture) -> Levels:
    """Return how the values of a grey picture are spread."""
    counts = cv2.calcHist([grey], [0], None, [256], [0, 256]).ravel().astype(np.float64)
    low, high = np.searchsorted(counts.cumsum(), QUANTILES * grey.size)
    shares = counts[counts > 0] / grey.size
    entropy = max(-float(shares @ np.log2(shares)), 0.0)
    return Levels(float(counts @ VALUES) / grey.size / 255, low / 255, high / 255, entropy)


def sharpness(grey: Picture) -> float:
    """Return the variance of the Laplacian, the usual measure of focus; 0 is flat, blurry is
    small.
    """
    _, deviation = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))
    return float(deviation[0, 0]) ** 2


def _resize(
    pixels: Picture, height: int, width: int, interpolation: Interpolation = "auto"
) -> Picture:
    if interpolation == "auto":
        shrinks = height * width <= pixels.shape[0] * pixels.shape[1]
        interpolation = "area" if shrinks else "cubic"
    method = METHODS[interpolation]
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=method), np.uint8)
