"""Images of more than 8 bits: one stated range per kind, and the content of the 8-bit image."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from stages.lib.decoding import inspect_bytes
from stages.lib.formats import sample_kind
from stages.lib.images import Preprocessing, prepare_picture, read_picture, to_grey
from stages.lib.value_ranges import (
    MIN_LEVELS,
    choose_range,
    choose_ranges,
    find_extremes,
    is_too_coarse,
    join_extremes,
    scale_values,
)

Texture = Callable[..., np.ndarray]
MAX_PIXELS = 10**6
FORMATS = {"u": 1, "i": 2, "f": 3}


def tiff(
    values: NDArray[Any],
    photometric: int = 1,
    order: Literal["<", ">"] = "<",
    orientation: int = 1,
    extra: int | None = None,
    bits: int = 0,
    is_planar: bool = False,
) -> bytes:
    """Return an uncompressed TIFF of gray (height, width) or colored (height, width, n) values, in
    layouts that Pillow cannot write.
    """
    height, width = values.shape[:2]
    channels = values.shape[2] if values.ndim == 3 else 1
    stored = values.astype(values.dtype.newbyteorder(order))
    planes = [stored[:, :, at] for at in range(channels)] if is_planar else [stored]
    body, offsets = b"", []
    for plane in planes:
        offsets.append(8 + len(body))
        body += plane.tobytes() + b"\0" * (plane.nbytes % 2)
    bits = bits or values.dtype.itemsize * 8
    tags = [(256, "I", [width * values.dtype.itemsize * 8 // bits]), (257, "I", [height])]
    tags += [(258, "H", [bits] * channels), (259, "H", [1]), (262, "H", [photometric])]
    tags += [(273, "I", offsets), (274, "H", [orientation]), (277, "H", [channels])]
    tags += [(278, "I", [height]), (279, "I", [plane.nbytes for plane in planes])]
    tags += [(284, "H", [2 if is_planar else 1])]
    tags += [(338, "H", [extra])] if extra is not None else []
    tags += [(339, "H", [FORMATS[values.dtype.kind]] * channels)]
    entries = b""
    for tag, form, numbers in tags:
        raw = struct.pack(order + form * len(numbers), *numbers)
        if len(raw) > 4:
            at, body = 8 + len(body), body + raw + b"\0" * (len(raw) % 2)
            raw = struct.pack(order + "I", at)
        kind = {"H": 3, "I": 4}[form]
        entries += struct.pack(order + "HHI", tag, kind, len(numbers)) + raw.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(body))
    return head + body + struct.pack(order + "H", len(tags)) + entries + bytes(4)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(values: NDArray[np.uint16], more: bytes = b"") -> bytes:
    """Return a PNG of 16 bits: gray, gray and alpha, RGB or RGBA by the last axis."""
    height, width = values.shape[:2]
    color = {1: 0, 2: 4, 3: 2, 4: 6}[values.shape[2] if values.ndim == 3 else 1]
    header = struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = chunk(b"IHDR", header) + more + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunks + chunk(b"IEND", b"")


def plain(pixels: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", **options)
    return stream.getvalue()


@pytest.fixture
def gray(textured_picture: Texture) -> np.ndarray:
    """Return a gray image of 8 bits in which 0 and 255 occur."""
    pixels = np.asarray(to_grey(textured_picture(3))).copy()
    pixels[0, :2] = 0, 255
    return pixels


# --- The rule ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "lowest", "highest", "expected"),
    [
        ("uint16", 0, 200, (0, 255)),
        ("uint16", 100, 110, (0, 255)),  # every value keeps a level of its own
        ("uint16", 0, 256, (0, 1023)),
        ("uint16", 0, 1023, (0, 1023)),
        ("uint16", 12, 4080, (0, 4095)),
        ("uint16", 0, 4096, (0, 16383)),
        ("uint16", 0, 65535, (0, 65535)),
        ("uint16", 30000, 30400, (30000, 30400)),  # 2 of 256 levels would be left
        ("uint16", 20000, 40000, (0, 65535)),
        ("uint16", 30000, 30000, (0, 65535)),
        ("int32", 0, 255, (0, 255)),
        ("int32", 0, 65536, (0, 131071)),
        ("uint32", 0, 2**32 - 1, (0, 2**32 - 1)),
        ("int16", -856, 912, (-1024, 1023)),
        ("int16", -1000, 3000, (-1024, 4095)),
        ("int16", -1, 30000, (-1, 32767)),
        ("int16", -30000, -5, (-32768, 0)),
        ("int16", -30400, -30000, (-30400, -30000)),
        ("int16", -32768, 32767, (-32768, 32767)),
        ("int16", 0, 900, (0, 1023)),
        ("int8", -128, 127, (-128, 127)),
        ("float32", 0, 1, (0, 1)),
        ("float32", 0.2, 0.7, (0, 1)),
        ("float32", 0.1, 0.11, (0.1, 0.11)),
        ("float32", 0, 1.02, (0, 1.02)),  # in 0 to 255 hardly a level would be left
        ("float32", -1, 1, (-1, 1)),
        ("float32", -0.5, 0.5, (-1, 1)),
        ("float32", 0, 255, (0, 255)),
        ("float32", 0, 65535, (0, 65535)),
        ("float32", -2.1, 2.6, (-4, 4)),
        ("float64", 0, 1e6, (0, 2**20)),
        ("float64", -1.7e308, 1.7e308, (-1.7e308, 1.7e308)),
        ("float32", 0, 0, (0, 1)),
    ],
)
def test_the_range_is_the_smallest_usual_one_that_leaves_enough_levels(
    kind: str, lowest: float, highest: float, expected: tuple[float, float]
) -> None:
    assert choose_range(kind, lowest, highest) == expected


def test_a_data_set_has_one_range_per_kind_and_what_is_given_counts() -> None:
    found = [("uint16", 5.0, 90.0), ("float32", -0.5, 0.0), ("uint16", 0.0, 4000.0)]

    extremes = join_extremes(found)

    assert extremes == {"uint16": (0, 4000), "float32": (-0.5, 0)}
    assert choose_ranges(extremes, {"float32": (-2, 2), "int16": (0, 9)}) == {
        "float32": (-2, 2),
        "int16": (0, 9),
        "uint16": (0, 4095),
    }


# --- Scaling ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["int8", "uint16", "int16", "uint32", "int32"])
@pytest.mark.parametrize("count", [40, 70_000])  # computed one by one, or looked up
def test_integers_are_scaled_linearly_clipped_and_never_wrap(kind: str, count: int) -> None:
    bounds = np.iinfo(kind)
    values = np.linspace(bounds.min, bounds.max, count).astype(kind).reshape(10, -1)
    low, high = bounds.min // 3, bounds.max // 2

    scaled = scale_values(values, (low, high))

    share = (values.astype(float) - low) / (high - low)
    np.testing.assert_array_equal(scaled, np.rint(np.clip(share, 0, 1) * 255))
    assert (np.diff(scaled.reshape(-1).astype(int)) >= 0).all()


def test_not_a_number_is_black_and_infinity_an_end_of_the_range() -> None:
    values = np.array([[np.nan, -np.inf, np.inf, 0.5, -7.0, 7.0]], np.float32)

    assert scale_values(values, (0.0, 1.0)).tolist() == [[0, 0, 255, 128, 0, 255]]
    assert find_extremes(values) == (-7.0, 7.0)
    assert find_extremes(np.full((2, 2), np.nan)) == (0.0, 0.0)


def test_the_largest_floats_do_not_overflow() -> None:
    values = np.array([[-1.7e308, 0.0, 1.7e308]])

    assert scale_values(values, (-1.7e308, 1.7e308)).tolist() == [[0, 128, 255]]


def test_coarse_is_what_loses_most_of_its_levels_to_the_range() -> None:
    many = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    few = (many % 3) * np.uint16(1000)

    assert is_too_coarse(many, scale_values(many, (0, 65535)))
    assert not is_too_coarse(many, scale_values(many, (0, 4095)))
    assert not is_too_coarse(few, scale_values(few, (0, 65535)))
    enough = many * np.uint16(4)  # 16,380 of 65,535: 64 levels
    assert len(np.unique(scale_values(enough, (0, 65535)))) >= MIN_LEVELS
    assert not is_too_coarse(enough, scale_values(enough, (0, 65535)))


# --- Content ----------------------------------------------------------------------------------

# How 8-bit gray is stored in other kinds, and how far off the content may be.
STORED: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int]] = {
    "8 bits in uint16": (lambda g: g.astype(np.uint16), 0),
    "10 bits in uint16": (lambda g: (g * 1023 // 255).astype(np.uint16), 1),
    "12 bits in uint16": (lambda g: (g * 16).astype(np.uint16), 1),
    "14 bits in uint16": (lambda g: (g * 64).astype(np.uint16), 1),
    "uint16": (lambda g: (g * 257).astype(np.uint16), 0),
    "narrow uint16": (lambda g: (30000 + g * 400 // 255).astype(np.uint16), 1),
    "int8": (lambda g: (g - 128).astype(np.int8), 0),
    "int16": (lambda g: (g * 8 - 1000).astype(np.int16), 128),  # -1024 to 2047: half as steep
    "int16 from -1024": (lambda g: (g * 8 - 1024).astype(np.int16), 1),
    "full int16": (lambda g: (g * 257 - 32768).astype(np.int16), 0),
    "int32": (lambda g: g.astype(np.int32), 0),
    "negative int32": (lambda g: (g * 400 - 50_000).astype(np.int32), 60),
    "uint32": (lambda g: (g * 16_843_009).astype(np.uint32), 0),
    "float32": (lambda g: (g / 255).astype(np.float32), 0),
    "float32 to 255": (lambda g: g.astype(np.float32), 0),
    "float32 to 65535": (lambda g: (g * 257).astype(np.float32), 0),
    "float32 from -1": (lambda g: (g / 127.5 - 1).astype(np.float32), 0),
    "float64": (lambda g: g / 255, 0),
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("stored", STORED)
def test_a_tiff_of_every_kind_shows_what_the_8_bit_image_shows(
    gray: np.ndarray, stored: str, order: Literal["<", ">"]
) -> None:
    store, off = STORED[stored]
    values = store(gray.astype(np.int64))
    data = tiff(values, order=order)

    read = read_picture(data)

    assert sample_kind(data) == values.dtype.name
    assert np.abs(read.astype(int) - gray[:, :, None]).max() <= off
    assert np.corrcoef(read[:, :, 0].ravel(), gray.ravel())[0, 1] > 0.999
    found = inspect_bytes(data, MAX_PIXELS)
    assert (found.verdict, found.sample_kind) == ("ok", values.dtype.name)
    assert (found.lowest, found.highest) == (values.min(), values.max())


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_16_bit_png_shows_what_the_8_bit_png_shows(
    textured_picture: Texture, channels: int
) -> None:
    pixels = np.concatenate([textured_picture(1), textured_picture(2)], axis=2)[:, :, :channels]
    pixels = pixels[:, :, 0] if channels == 1 else pixels

    read = read_picture(png(pixels.astype(np.uint16) * 257), value_ranges={"uint16": (0, 65535)})

    np.testing.assert_array_equal(read, read_picture(plain(pixels)))


@pytest.mark.parametrize("kind", ["uint16", "float32"])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_deep_tiff_in_color_shows_what_the_8_bit_image_shows(
    textured_picture: Texture, kind: str, channels: int, order: Literal["<", ">"]
) -> None:
    pixels = np.concatenate([textured_picture(1), textured_picture(2)], axis=2)[:, :, :channels]
    values: NDArray[Any] = pixels.astype(np.uint16) * 257
    if kind == "float32":
        values = pixels / np.float32(255)
    ranges = {"uint16": (0.0, 65535.0), "float32": (0.0, 1.0)}
    data = tiff(values, 2, order, extra=2 if channels == 4 else None)

    found = inspect_bytes(data, MAX_PIXELS, ranges)

    np.testing.assert_array_equal(
        read_picture(data, value_ranges=ranges), read_picture(plain(pixels))
    )
    assert (found.verdict, found.width, found.height) == ("ok", 64, 48)
    assert found.colour == ("alpha" if channels == 4 else "16bit")


def test_12_bits_in_a_16_bit_color_png_use_all_levels(textured_picture: Texture) -> None:
    pixels = textured_picture(1)

    read = read_picture(png(pixels.astype(np.uint16) * 16), value_ranges={"uint16": (0, 4095)})

    assert np.abs(read.astype(int) - pixels).max() <= 1


def test_premultiplied_alpha_and_channels_that_are_none(textured_picture: Texture) -> None:
    pixels = textured_picture(1)
    alpha = np.full((48, 64, 1), 128, np.uint8)
    light = np.concatenate([pixels // 2, alpha], axis=2).astype(np.uint16) * 257

    ranges = {"uint16": (0.0, 65535.0)}
    read = {
        extra: read_picture(tiff(light, 2, extra=extra), value_ranges=ranges) for extra in (0, 1)
    }

    np.testing.assert_array_equal(read[0], pixels // 2)
    np.testing.assert_array_equal(read[1], pixels // 2 + 127)


def test_where_zero_is_white_the_image_is_inverted(gray: np.ndarray) -> None:
    values = gray.astype(np.uint16) * 257

    read = read_picture(tiff(values, photometric=0))

    np.testing.assert_array_equal(read[:, :, 0], 255 - gray)


def test_the_transparent_value_of_a_gray_png_is_white(gray: np.ndarray) -> None:
    values = gray.astype(np.uint16) * 257

    read = read_picture(png(values, chunk(b"tRNS", struct.pack(">H", 0))))

    np.testing.assert_array_equal(read[:, :, 0], np.where(gray == 0, 255, gray))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [1, 3])
def test_deep_images_are_read_upright(
    textured_picture: Texture, orientation: int, channels: int
) -> None:
    pixels = textured_picture(1)[:, :, :channels].squeeze()
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = read_picture(plain(pixels, exif=exif))
    values = pixels.astype(np.uint16) * 257
    marked = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    files = [png(values, marked), tiff(values, 2 if channels == 3 else 1, orientation=orientation)]

    for data in files:
        read = read_picture(data, value_ranges={"uint16": (0, 65535)})
        np.testing.assert_array_equal(read, expected)


def test_packed_values_of_12_bits_are_read_as_they_are() -> None:
    values = np.random.default_rng(0).integers(0, 4096, (6, 10))
    left, right = values[:, 0::2], values[:, 1::2]
    packed = np.stack([left >> 4, (left & 15) << 4 | right >> 8, right & 255], axis=2)

    data = tiff(packed.astype(np.uint8).reshape(6, 15), bits=12)

    found = inspect_bytes(data, MAX_PIXELS)
    assert (found.verdict, found.width, found.sample_kind) == ("ok", 10, "uint16")
    assert (found.lowest, found.highest) == (values.min(), values.max())


def test_jpeg_2000_of_16_bits_is_scaled(gray: np.ndarray) -> None:
    stream = io.BytesIO()
    Image.fromarray(gray.astype(np.uint16) * 257).save(stream, "JPEG2000")

    np.testing.assert_array_equal(read_picture(stream.getvalue())[:, :, 0], gray)
    assert inspect_bytes(stream.getvalue(), MAX_PIXELS).sample_kind == "uint16"


# --- What a range leaves -----------------------------------------------------------------------


def test_an_image_whose_kind_has_no_range_is_unsupported_with_its_extremes(
    gray: np.ndarray,
) -> None:
    found = inspect_bytes(tiff(gray.astype(np.int32) * 9 - 5), MAX_PIXELS, {"uint16": (0, 1)})

    assert (found.verdict, found.reason) == ("unsupported", "no_value_range")
    assert (found.sample_kind, found.lowest, found.highest) == ("int32", -5, 255 * 9 - 5)


def test_an_image_that_keeps_few_levels_is_unsupported(textured_picture: Texture) -> None:
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)

    verdicts = [
        inspect_bytes(data, MAX_PIXELS, {"uint16": value_range})
        for data in (tiff(values), png(values))
        for value_range in ((0.0, 65535.0), (0.0, 4095.0))
    ]

    coarse, fine = ("unsupported", "too_few_levels"), ("ok", "")
    assert [(found.verdict, found.reason) for found in verdicts] == [coarse, fine, coarse, fine]


@pytest.mark.parametrize(
    "data",
    [
        tiff(np.zeros((8, 8, 3), np.uint16), 2, is_planar=True),
        tiff(np.zeros((8, 8, 2), np.uint16), 1, extra=2),
        tiff(np.zeros((8, 8), np.float16)),
        tiff(np.zeros((8, 8), np.int64)),
    ],
    ids=["planar", "gray and alpha", "float16", "int64"],
)
def test_a_layout_that_no_decoder_reads_rightly_is_unsupported(data: bytes) -> None:
    found = inspect_bytes(data, MAX_PIXELS)

    assert (found.verdict, found.reason) == ("unsupported", "unsupported_format")
    assert (found.width, found.height) == (8, 8)


@pytest.mark.parametrize("kind", ["uint16", "float64"])
def test_a_deep_tiff_that_is_cut_short_or_too_large_is_no_image(kind: str) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (40, 40)).astype(kind)
    data = tiff(values)

    assert inspect_bytes(data[: len(data) // 2], MAX_PIXELS).verdict == "corrupt"
    found = inspect_bytes(data, 40 * 40 - 1)
    assert (found.verdict, found.reason, found.width) == ("unsupported", "too_many_pixels", 40)


def test_training_and_serving_scale_by_the_range_that_is_stated(gray: np.ndarray) -> None:
    data = tiff(gray.astype(np.uint16) * 8)  # of itself it would be scaled by 0 to 4095
    wide, narrow = (
        prepare_picture(
            data, Preprocessing(48, 64, "stretch", "nearest", "grey", {"uint16": (0.0, high)})
        )
        for high in (8160.0, 2040.0)
    )

    np.testing.assert_array_equal(narrow[:, :, 0], gray)
    assert np.abs(wide[:, :, 0] - gray / 4).max() <= 0.5
