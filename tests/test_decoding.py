"""Every file gets a verdict from its bytes alone: whole, suspect, corrupt or unsupported."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import simplejpeg
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from stages.lib import images
from stages.lib.decoding import COLOURS, REASONS, Inspection, inspect_bytes, with_extension
from stages.lib.detail import DETAIL_SIDE
from stages.lib.formats import HEIF, SIGNATURES, SUFFIXES, jpeg_header, true_format
from stages.lib.images import LEAST_WORK_SIDE, THUMBNAIL_BYTES, WORK_SIDE, read_picture

Maker = Callable[..., bytes]
MAX_PIXELS = 100_000_000
OK, TRUNCATED, DAMAGED = "ok", "corrupt truncated", "corrupt damaged"
PAINTED_OVER = "suspect damaged"

# Encoding to the verdict on a file that stops half way, and to those allowed where its middle is
# random bytes or zeroes. BMP and TIFF carry no checksum and WebP none over its pixels, so damage
# inside them may be a picture like any other. A spoilt GIF may look like one with more frames.
EXPECTED = {
    "jpeg": (TRUNCATED, {PAINTED_OVER, DAMAGED, TRUNCATED}),
    "jpeg_progressive": (TRUNCATED, {PAINTED_OVER, DAMAGED, TRUNCATED}),
    "jpeg_grey": (TRUNCATED, {PAINTED_OVER, DAMAGED, TRUNCATED}),
    "jpeg_cmyk": (TRUNCATED, {PAINTED_OVER, DAMAGED, TRUNCATED}),
    "png": (TRUNCATED, {DAMAGED}),
    "gif": (TRUNCATED, {DAMAGED, "unsupported animated"}),
    "webp": (TRUNCATED, {OK, DAMAGED}),
    "webp_lossless": (TRUNCATED, {OK, DAMAGED}),
    "bmp": (TRUNCATED, {OK}),
    "tiff": (TRUNCATED, {OK}),
    "tiff_deflate": (DAMAGED, {OK, DAMAGED}),
}
JPEGS = [name for name in EXPECTED if name.startswith("jpeg")]
# Of 20 spoilt JPEG files at least this many are noticed. A run of zeroes is often valid
# entropy-coded data, which no decoder can tell from a picture with less in it.
NOTICED = {"zeroes": 10, "noise": 18}
FILLINGS = {"zeroes": bytes, "noise": np.random.default_rng(0).bytes}
KIND = {name: "jpeg" if name.startswith("jpeg") else name.split("_")[0] for name in EXPECTED}


def suffix_of(encoding: str) -> str:
    return SUFFIXES[KIND[encoding]][0]


def verdict(data: bytes, encoding: str) -> str:
    found = inspect_bytes(data, MAX_PIXELS)
    return f"{found.verdict} {found.reason}".strip()


def with_middle(data: bytes, fill: Callable[[int], bytes]) -> bytes:
    """Return the data with a quarter of its length, from the middle on, replaced."""
    start, length = len(data) // 2, len(data) // 4
    return data[:start] + fill(length) + data[start + length :]


def png_header(width: int, height: int) -> bytes:
    """Return a PNG whose header promises a size and whose data does not keep the promise."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def with_frame(jpeg: bytes, marker: int | None = None, size: int | None = None) -> bytes:
    """Return a baseline JPEG whose frame has another marker or promises size × size pixels."""
    data = bytearray(jpeg)
    at = jpeg.index(b"\xff\xc0")
    if marker is not None:
        data[at + 1] = marker
    if size is not None:
        data[at + 5 : at + 9] = struct.pack(">HH", size, size)
    return bytes(data)


@pytest.mark.parametrize("encoding", EXPECTED)
@pytest.mark.parametrize("seed", range(3))
def test_whole_files_are_ok_with_size_format_and_picture(
    picture_file: Maker, encoding: str, seed: int
) -> None:
    found = inspect_bytes(picture_file(seed, encoding), MAX_PIXELS)

    assert (found.verdict, found.reason, found.format) == ("ok", "", KIND[encoding])
    assert (found.width, found.height) == (64, 48)
    assert found.picture is not None
    assert found.picture.shape == (48, 64, 3)


@pytest.mark.parametrize("encoding", EXPECTED)
@pytest.mark.parametrize("seed", range(3))
def test_files_that_stop_half_way_are_corrupt(
    picture_file: Maker, encoding: str, seed: int
) -> None:
    data = picture_file(seed, encoding)

    assert verdict(data[: len(data) // 2], encoding) == EXPECTED[encoding][0]


@pytest.mark.parametrize("filling", FILLINGS)
@pytest.mark.parametrize("encoding", [name for name in EXPECTED if name not in JPEGS])
def test_damage_in_the_middle_has_the_verdict_its_format_allows(
    picture_file: Maker, encoding: str, filling: str
) -> None:
    files = [with_middle(picture_file(seed, encoding), FILLINGS[filling]) for seed in range(5)]

    found = {verdict(data, encoding) for data in files}

    assert found <= EXPECTED[encoding][1]


@pytest.mark.parametrize("filling", FILLINGS)
@pytest.mark.parametrize("encoding", JPEGS)
def test_damage_in_the_middle_of_a_jpeg_is_noticed_more_often_than_not(
    picture_file: Maker, encoding: str, filling: str
) -> None:
    files = [with_middle(picture_file(seed, encoding), FILLINGS[filling]) for seed in range(20)]

    found = [verdict(data, encoding) for data in files]

    assert set(found) - {OK} <= EXPECTED[encoding][1]
    assert len(found) - found.count(OK) >= NOTICED[filling]


@pytest.mark.parametrize("encoding", EXPECTED)
def test_no_prefix_of_a_file_is_taken_for_a_whole_one(picture_file: Maker, encoding: str) -> None:
    data = picture_file(0, encoding)
    # What follows the last pixel (checksum and end of a PNG, the end mark of a GIF) may be missing.
    ends = range(0, len(data) - 16, 41)

    found = {end: verdict(data[:end], encoding) for end in ends}

    assert {end: words for end, words in found.items() if not words.startswith("corrupt")} == {}


def test_an_empty_file_is_corrupt() -> None:
    assert inspect_bytes(b"", MAX_PIXELS) == Inspection("corrupt", "empty", "")


@pytest.mark.parametrize(
    "data",
    [
        b"cat\n",
        b"\x00" * 100,
        b'{"error": "quota"}',
        b"%PDF-1.7 ...",
        b"\xff\xd8",
    ],
)
def test_what_is_no_picture_is_corrupt_whatever_its_name(data: bytes) -> None:
    assert inspect_bytes(data, MAX_PIXELS) == Inspection("corrupt", "not_an_image", "")


@pytest.mark.parametrize("kind", SUFFIXES)
def test_the_suffixes_of_a_format_are_right_in_any_case_and_all_others_wrong(kind: str) -> None:
    every = {suffix: name for name, suffixes in SUFFIXES.items() for suffix in suffixes}

    for suffix, name in every.items():
        expected = "" if name == kind else "wrong_extension"
        assert with_extension("", "ok", kind, suffix) == expected
        assert with_extension("", "ok", kind, suffix.upper()) == expected
    assert with_extension("", "ok", kind, "") == "wrong_extension"


def test_only_a_whole_picture_has_a_wrong_extension() -> None:
    for verdict, reason in (("suspect", "damaged"), ("corrupt", "html_page"), ("corrupt", "empty")):
        assert with_extension(reason, verdict, "jpeg", ".png") == reason


@pytest.mark.parametrize("kind", ["gif", "webp", "png"])
def test_animations_are_unsupported(kind: str, textured_picture: Callable[..., np.ndarray]) -> None:
    frames = [Image.fromarray(textured_picture(seed)) for seed in range(3)]
    stream = io.BytesIO()
    frames[0].save(stream, kind, save_all=True, append_images=frames[1:], duration=50)

    found = inspect_bytes(stream.getvalue(), MAX_PIXELS)

    assert (found.verdict, found.reason) == ("unsupported", "animated")


@pytest.mark.skipif(HEIF, reason="needs a place without pillow-heif")
@pytest.mark.parametrize("brand", [b"heic", b"heix", b"hevc", b"mif1", b"msf1"])
def test_without_its_package_heif_is_unsupported_and_not_corrupt(brand: bytes) -> None:
    found = inspect_bytes(b"\x00\x00\x00\x18ftyp" + brand + bytes(40), MAX_PIXELS)

    assert found == Inspection("unsupported", "unsupported_format", "heif")


@pytest.mark.parametrize(
    "encoding", ["jpeg", "jpeg_rough", "jpeg_progressive", "jpeg_grey", "jpeg_cmyk"]
)
def test_a_jpeg_without_its_end_marker_is_suspect_and_readable(
    picture_file: Maker, encoding: str
) -> None:
    data = picture_file(0, encoding)
    assert data.endswith(b"\xff\xd9")

    found = inspect_bytes(data[:-2], MAX_PIXELS)

    assert (found.verdict, found.reason) == ("suspect", "missing_eoi")
    assert found.picture is not None


@pytest.mark.parametrize("tail", [b"\x00" * 40, b"\n", b"trailing words"])
def test_bytes_after_the_end_marker_are_no_damage(picture_file: Maker, tail: bytes) -> None:
    assert verdict(picture_file(0, "jpeg") + tail, "jpeg") == OK


@pytest.mark.parametrize("pillows_budget", [None, 1000], ids=["no budget", "Pillow's budget"])
@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_too_many_pixels_are_refused_before_decoding(
    kind: str, pillows_budget: int | None, picture_file: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = picture_file(0, "jpeg")
    huge = png_header(65_000, 65_000) if kind == "png" else with_frame(small, size=65_000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillows_budget)
    for module, name in ((simplejpeg, "decode_jpeg"), (Image.Image, "load")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("decoded"))

    found = inspect_bytes(huge, MAX_PIXELS)

    assert (found.verdict, found.reason) == ("unsupported", "too_many_pixels")
    assert found.picture is None


@pytest.mark.parametrize("encoding", EXPECTED)
def test_the_budget_of_pixels_is_inclusive(picture_file: Maker, encoding: str) -> None:
    data = picture_file(0, encoding)

    assert inspect_bytes(data, 64 * 48).verdict == "ok"
    assert inspect_bytes(data, 64 * 48 - 1).reason == "too_many_pixels"


@pytest.mark.parametrize("marker", [0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF])
def test_jpeg_frames_that_could_crash_the_decoder_never_reach_it(
    marker: int, picture_file: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = with_frame(picture_file(0, "jpeg"), marker=marker)
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *_, **__: pytest.fail("decoded"))

    found = inspect_bytes(data, MAX_PIXELS)

    assert (found.verdict, found.reason) == ("unsupported", "unsupported_format")


@pytest.mark.parametrize(("encoding", "marker"), [("jpeg", 0xC0), ("jpeg_progressive", 0xC2)])
def test_the_frame_marker_is_found_behind_fill_bytes_and_segments(
    picture_file: Maker, encoding: str, marker: int
) -> None:
    data = picture_file(0, encoding)
    comment = b"\xff\xfe" + struct.pack(">H", 6) + b"\xff\xc3\xff\xc3"

    assert jpeg_header(data).marker == marker
    assert jpeg_header(data[:2] + comment + b"\xff\xff\xff" + data[2:]).marker == marker


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe0\x00\x10", b"\xff\xd8ab--"])
def test_a_jpeg_without_a_frame_is_an_error_of_the_marker_search(data: bytes) -> None:
    with pytest.raises(ValueError, match="frame|marker"):
        jpeg_header(data)


@pytest.mark.parametrize("encoding", ["jpeg", "jpeg_grey", "jpeg_cmyk", "png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_gives_the_same_upright_picture(
    encoding: str,
    orientation: int,
    textured_picture: Callable[..., np.ndarray],
    encode: Maker,
) -> None:
    upright = textured_picture(0)
    stored = stored_as(upright, orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation

    found = inspect_bytes(encode(stored, encoding, exif=exif), MAX_PIXELS)

    plain = inspect_bytes(encode(upright, encoding), MAX_PIXELS)
    assert (found.verdict, found.width, found.height) == ("ok", 64, 48)
    assert found.picture is not None
    assert plain.picture is not None
    difference = np.abs(found.picture.astype(int) - plain.picture)
    assert difference.mean() < 3  # lossy blocks fall differently on a turned picture


def stored_as(upright: np.ndarray, orientation: int) -> np.ndarray:
    """Return the pixels that a camera held as `orientation` says would have stored (EXIF 2.32)."""
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: np.swapaxes(upright, 0, 1),
        6: np.rot90(upright, 1),
        7: np.swapaxes(upright[::-1, ::-1], 0, 1),
        8: np.rot90(upright, -1),
    }
    return np.ascontiguousarray(turned[orientation])


@pytest.mark.parametrize("encoding", ["jpeg", "png"])
def test_the_working_picture_has_a_short_side_of_at_most_the_work_side(
    picture_file: Maker, encoding: str
) -> None:
    data = picture_file(0, encoding, height=2 * WORK_SIDE, width=3 * WORK_SIDE)

    found = inspect_bytes(data, MAX_PIXELS)

    assert (found.width, found.height) == (3 * WORK_SIDE, 2 * WORK_SIDE)
    assert found.picture is not None
    assert LEAST_WORK_SIDE <= min(found.picture.shape[:2]) <= WORK_SIDE


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=200))
@example(data=b"\xff\xd8\xff\xff")
def test_no_bytes_at_all_raise(data: bytes) -> None:
    found = inspect_bytes(data, MAX_PIXELS)

    assert found.verdict in ("ok", "suspect", "corrupt", "unsupported")
    assert found.reason in ("", *REASONS)


@settings(max_examples=150, deadline=None)
@given(signature=st.sampled_from(SIGNATURES), data=st.binary(max_size=300))
def test_no_bytes_behind_a_signature_raise(signature: tuple[str, int, bytes], data: bytes) -> None:
    kind, offset, magic = signature

    found = inspect_bytes(bytes(offset) + magic + data, MAX_PIXELS)

    assert found.format == true_format(bytes(offset) + magic + data) != ""
    assert found.verdict in ("ok", "suspect", "corrupt", "unsupported")
    assert found.reason in ("", *REASONS)


@settings(max_examples=150, deadline=None)
@given(
    encoding=st.sampled_from(sorted(EXPECTED)),
    place=st.floats(0, 1, exclude_max=True),
    noise=st.binary(min_size=1, max_size=40),
)
def test_no_damage_to_a_real_file_raises(
    picture_file: Maker, encoding: str, place: float, noise: bytes
) -> None:
    data = picture_file(0, encoding, height=16, width=16)
    at = int(place * len(data))

    found = inspect_bytes(data[:at] + noise + data[at + len(noise) :], MAX_PIXELS)

    assert found.verdict in ("ok", "suspect", "corrupt", "unsupported")
    assert found.reason in ("", *REASONS)
    assert (found.picture is None) == (found.verdict in ("corrupt", "unsupported"))


# --- What stands in a picture's place -----------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<!DOCTYPE html><html><body>404</body></html>", ("corrupt", "html_page", "html")),
        ("\ufeff <html>", ("corrupt", "html_page", "html")),
        ("version https://git-lfs.github.com/spec/v1\n", ("corrupt", "lfs_pointer", "lfs_pointer")),
        ("<rss version='2.0'>", ("corrupt", "not_an_image", "")),
        ("<?xml version='1.0'?><svg >", ("unsupported", "unsupported_format", "svg")),
    ],
)
def test_text_in_a_pictures_place_is_told(text: str, expected: tuple[str, str, str]) -> None:
    assert inspect_bytes(text.encode(), MAX_PIXELS) == Inspection(*expected)


# --- Formats beyond the damage matrix -----------------------------------------------------------

FURTHER = {"avif": ("AVIF", {"quality": 90}), "jpeg2000": ("JPEG2000", {})}
if HEIF:
    FURTHER["heif"] = ("HEIF", {"quality": 90})


@pytest.mark.parametrize("kind", FURTHER)
def test_further_formats_are_read_and_damage_in_them_is_told(
    kind: str, textured_picture: Callable[..., np.ndarray]
) -> None:
    name, options = FURTHER[kind]
    pixels = textured_picture(0)
    data = saved(Image.fromarray(pixels), name, **options)

    whole = inspect_bytes(data, MAX_PIXELS)
    half = inspect_bytes(data[: len(data) // 2], MAX_PIXELS)

    assert (whole.verdict, whole.reason, whole.format) == ("ok", "", kind)
    assert (whole.width, whole.height, whole.colour) == (64, 48, "colour")
    assert whole.picture is not None
    assert np.abs(whole.picture.astype(int) - pixels).mean() < 8
    assert half.verdict == "corrupt"
    assert inspect_bytes(data, 64 * 48 - 1).reason == "too_many_pixels"


def test_an_animated_avif_is_unsupported(textured_picture: Callable[..., np.ndarray]) -> None:
    frames = [Image.fromarray(textured_picture(seed)) for seed in range(3)]

    found = inspect_bytes(
        saved(frames[0], "AVIF", save_all=True, append_images=frames[1:]), MAX_PIXELS
    )

    assert (found.verdict, found.reason, found.format) == ("unsupported", "animated", "avif")


# --- How a picture is stored --------------------------------------------------------------------


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def in_mode(mode: str) -> Image.Image:
    """Return a colourful picture in one of Pillow's modes."""
    ramp = np.arange(64, dtype=np.uint8) * 4
    pixels = np.stack(np.broadcast_arrays(ramp, ramp[::-1], ramp[:, None]), axis=2)
    image = Image.fromarray(pixels)
    if mode in ("I;16", "I", "F"):
        grey = np.asarray(image.convert("L"))
        kinds = {"I;16": np.uint16(257), "I": np.int32(257), "F": np.float32(1)}
        return Image.fromarray(grey * kinds[mode])
    if mode in ("RGBA", "LA", "PA"):
        image = image.convert("RGBA")
        image.putalpha(128)
    return image.convert(mode)


@pytest.mark.parametrize(
    ("mode", "kind", "colour"),
    [
        ("1", "PNG", "grey"),
        ("1", "TIFF", "grey"),
        ("L", "PNG", "grey"),
        ("L", "JPEG", "grey"),
        ("P", "PNG", "palette"),
        ("P", "GIF", "palette"),
        ("P", "BMP", "palette"),
        ("RGB", "PNG", "colour"),
        ("RGB", "JPEG", "colour"),
        ("RGB", "WEBP", "colour"),
        ("RGB", "BMP", "colour"),
        ("YCbCr", "TIFF", "colour"),
        ("LAB", "TIFF", "colour"),
        ("RGBA", "PNG", "alpha"),
        ("RGBA", "WEBP", "alpha"),
        ("RGBA", "TIFF", "alpha"),
        ("LA", "PNG", "alpha"),
        ("CMYK", "JPEG", "cmyk"),
        ("CMYK", "TIFF", "cmyk"),
        ("I;16", "PNG", "16bit"),
        ("I;16", "TIFF", "16bit"),
        ("I", "TIFF", "16bit"),
        ("F", "TIFF", "16bit"),
    ],
)
def test_every_mode_is_read_and_has_its_colour_class(mode: str, kind: str, colour: str) -> None:
    found = inspect_bytes(saved(in_mode(mode), kind), MAX_PIXELS)

    assert (found.verdict, found.reason, found.colour) == ("ok", "", colour)
    assert found.picture is not None
    assert found.picture.shape == (64, 64, 3)
    assert found.colour in COLOURS


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_palette_with_a_transparent_entry_is_alpha(kind: str) -> None:
    image = in_mode("P")
    data = saved(image, kind, transparency=image.getpixel((0, 0)))

    assert inspect_bytes(data, MAX_PIXELS).colour == "alpha"


def test_grey_with_a_transparent_value_is_alpha() -> None:
    assert inspect_bytes(saved(in_mode("L"), "PNG", transparency=9), MAX_PIXELS).colour == "alpha"


def png(header: bytes, rows: bytes) -> bytes:
    """Return a PNG with any IHDR, which Pillow could not write."""
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


@pytest.mark.parametrize(
    ("colour_type", "channels", "colour"), [(0, 1, "16bit"), (2, 3, "16bit"), (6, 4, "alpha")]
)
def test_sixteen_bits_are_told_though_pillow_shows_eight(
    colour_type: int, channels: int, colour: str
) -> None:
    header = struct.pack(">IIBBBBB", 8, 8, 16, colour_type, 0, 0, 0)
    row = b"\x00" + bytes(range(8 * channels)) * 2

    found = inspect_bytes(png(header, row * 8), MAX_PIXELS)

    assert (found.verdict, found.colour) == ("ok", colour)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("JPEG", {"quality": 95, "subsampling": 0}),
        ("JPEG", {"quality": 75}),
        ("JPEG", {"quality": 10}),
        ("WEBP", {"quality": 80}),
        ("WEBP", {"quality": 5}),
        ("AVIF", {"quality": 60}),
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_grey_stored_as_colour_is_told_through_a_lossy_encoder(
    kind: str, options: dict[str, int], seed: int, textured_picture: Callable[..., np.ndarray]
) -> None:
    pixels = textured_picture(seed, 200, 300, 40)
    noise = np.random.default_rng(seed).normal(0, 12, pixels.shape[:2])
    grey = np.clip(pixels[:, :, 0] + noise, 0, 255).astype(np.uint8)
    data = saved(Image.fromarray(grey).convert("RGB"), kind, **options)

    assert inspect_bytes(data, MAX_PIXELS).colour == "pseudo_grey"


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_tint_or_a_small_coloured_thing_is_colour(kind: str) -> None:
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :], (200, 200))
    sepia = np.stack([ramp, ramp * 0.85, ramp * 0.65], axis=2).astype(np.uint8)
    dated = np.repeat(ramp[:, :, None], 3, axis=2).copy()
    dated[180:190, 150:180] = (255, 140, 0)

    for pixels in (sepia, dated):
        found = inspect_bytes(saved(Image.fromarray(pixels), kind), MAX_PIXELS)
        assert found.colour == "colour"


# --- Extremes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000"])
def test_a_single_pixel_is_a_picture(kind: str) -> None:
    found = inspect_bytes(saved(Image.new("RGB", (1, 1), "red"), kind), MAX_PIXELS)

    assert (found.verdict, found.width, found.height) == ("ok", 1, 1)
    assert found.thumbnail is not None
    assert found.thumbnail.shape == (THUMBNAIL_BYTES,)
    assert Image.open(io.BytesIO(found.detail)).size == (1, 1)


@pytest.mark.parametrize("size", [(65_500, 1), (1, 65_500), (65_500, 200)])
def test_the_widest_and_the_highest_jpeg_are_pictures(size: tuple[int, int]) -> None:
    data = saved(Image.linear_gradient("L").resize(size), "JPEG")

    found = inspect_bytes(data, MAX_PIXELS)

    assert (found.verdict, found.width, found.height) == ("ok", *size)
    assert found.picture is not None
    assert min(found.picture.shape[:2]) <= WORK_SIDE
    assert max(Image.open(io.BytesIO(found.detail)).size) == DETAIL_SIDE


@pytest.mark.parametrize("side", [100_000, 2**31 - 1])
def test_a_png_that_promises_too_much_is_refused_unread(side: int) -> None:
    found = inspect_bytes(png_header(side, side), MAX_PIXELS)

    assert (found.verdict, found.picture) == ("unsupported", None)
    assert found.reason == "too_many_pixels"


def test_a_bomb_within_the_budget_is_a_picture_like_any_other() -> None:
    rows = (b"\x00" + bytes(3000)) * 3000  # 9 MB of black in 9 kB

    data = png(struct.pack(">IIBBBBB", 3000, 3000, 8, 0, 0, 0, 0), rows)

    assert len(data) < 20_000
    assert inspect_bytes(data, MAX_PIXELS).verdict == "ok"


def test_a_png_with_a_bomb_of_text_is_refused_or_read_but_never_eats_memory() -> None:
    text = b"Comment\x00\x00" + zlib.compress(bytes(200_000_000), 9)
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text
    chunk += struct.pack(">I", zlib.crc32(b"zTXt" + text))
    plain = saved(Image.new("RGB", (9, 9)), "PNG")

    found = inspect_bytes(plain[:33] + chunk + plain[33:], MAX_PIXELS)

    assert found.verdict in ("ok", "corrupt")


# --- Polyglots ----------------------------------------------------------------------------------


def test_an_archive_behind_a_picture_changes_nothing(picture_file: Maker) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        writer.writestr("a.txt", "hidden")

    for kind in ("jpeg", "png"):
        found = inspect_bytes(picture_file(0, kind) + archive.getvalue(), MAX_PIXELS)
        assert (found.verdict, found.reason, found.format) == ("ok", "", kind)


@pytest.mark.parametrize(
    "data",
    [
        b"GIF89a/*<html><script>alert(1)</script></html>*/",
        b"GIF89a" + bytes(7) + b"\x3b<html></html>",
        b"BM<html>" + bytes(60),
        b"\xff\xd8\xff<html>",
        b"\x89PNG\r\n\x1a\n<html>",
        b"RIFF\x10\x00\x00\x00WEBP<html>",
        b"II*\x00<svg xmlns='http://www.w3.org/2000/svg'/>",
    ],
)
def test_text_behind_a_signature_is_no_picture(data: bytes) -> None:
    found = inspect_bytes(data, MAX_PIXELS)

    assert (found.verdict, found.picture) == ("corrupt", None)


# --- The decoder of training --------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["jpeg", "jpeg_cmyk", "jpeg_progressive"])
@pytest.mark.parametrize("damage", ["none", "missing_eoi", "noise"])
def test_whatever_is_not_corrupt_is_read_by_training(
    picture_file: Maker, encoding: str, damage: str
) -> None:
    for seed in range(10):
        data = picture_file(seed, encoding)
        if damage == "missing_eoi":
            data = data[:-2]
        elif damage == "noise":
            data = with_middle(data, FILLINGS["noise"])

        if inspect_bytes(data, MAX_PIXELS).verdict in ("ok", "suspect"):
            assert read_picture(data).shape == (48, 64, 3)


def test_what_training_cannot_read_is_corrupt_and_says_so(
    picture_file: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    strictly = images.read_picture

    def only_strictly(data: bytes, side: int = 0, strict: bool = False) -> np.ndarray:
        if not strict:
            raise OSError("not this one")
        return strictly(data, side, strict)

    monkeypatch.setattr(images, "read_picture", only_strictly)

    found = inspect_bytes(picture_file(0, "jpeg")[:-2], MAX_PIXELS)

    assert (found.verdict, found.reason) == ("corrupt", "training_decoder")
    assert found.picture is None


@pytest.mark.parametrize("words", ["Insufficient memory (case 4)", "Out of memory"])
@pytest.mark.parametrize("encoding", ["jpeg", "png"])
def test_a_decoder_without_memory_says_nothing_about_the_file(
    picture_file: Maker, encoding: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = picture_file(0, encoding)

    def starve(*_: object, **__: object) -> None:
        raise ValueError(words)

    monkeypatch.setattr(simplejpeg, "decode_jpeg", starve)
    monkeypatch.setattr(Image.Image, "load", starve)
    monkeypatch.setattr(ImageFile.ImageFile, "load", starve)

    with pytest.raises(MemoryError):
        inspect_bytes(data, MAX_PIXELS)
