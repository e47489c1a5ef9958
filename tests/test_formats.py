"""A format is told by its bytes alone; a JPEG's header is read without a decoder."""

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.lib.formats import SIGNATURES, jpeg_header, text_format, true_format

HTML = "<html><body>404 Not Found</body></html>"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n"


def jpeg(**options: Any) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (20, 10), "red").save(stream, "JPEG", **options)
    return stream.getvalue()


def segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def with_segments(*segments: bytes) -> bytes:
    plain = jpeg()
    return plain[:2] + b"".join(segments) + plain[2:]


def exif(orientation: int, order: str = "<", before: int = 0) -> bytes:
    """Return an EXIF segment whose directory has other entries before the orientation."""
    magic = b"II*\x00" if order == "<" else b"MM\x00*"
    entries = [struct.pack(f"{order}HHII", 0x0100 + n, 4, 1, n) for n in range(before)]
    entries.append(struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0))
    directory = struct.pack(f"{order}IH", 8, before + 1) + b"".join(entries) + bytes(4)
    return segment(0xE1, b"Exif\x00\x00" + magic + directory)


def xmp(orientation: int) -> bytes:
    text = f'<x:xmpmeta><rdf:Description tiff:Orientation="{orientation}"/></x:xmpmeta>'
    return segment(0xE1, b"http://ns.adobe.com/xap/1.0/\x00" + text.encode())


@pytest.mark.parametrize(("kind", "offset", "signature"), SIGNATURES)
def test_a_signature_in_its_place_names_the_format(
    kind: str, offset: int, signature: bytes
) -> None:
    assert true_format(bytes(offset) + signature + bytes(20)) == kind
    assert true_format(bytes(offset + 1) + signature + bytes(20)) == ""
    assert true_format((bytes(offset) + signature)[:-1]) == ""


@pytest.mark.parametrize("start", ["", "\ufeff", "\n \t", DECLARATION, "<!-- made by -->\n"])
@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (HTML, "html"),
        ("<!DOCTYPE html>" + HTML, "html"),
        ("<!doctype HTML PUBLIC '-//W3C//DTD'>" + HTML, "html"),
        (HTML.upper(), "html"),
        ("<head><title>", "html"),
        (SVG, "svg"),
        ("<!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN' 'svg11.dtd'>" + SVG, "svg"),
        ("<svg:svg xmlns:svg='http://www.w3.org/2000/svg'>", "svg"),
        ("<svg>", "svg"),
        ("<html5-like>", ""),
        ("a < b and <html> comes later", ""),
        ("<rss version='2.0'>", ""),
        ("{}", ""),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_text_is_told_by_its_first_element(start: str, text: str, kind: str, encoding: str) -> None:
    if encoding == "utf-16" and start == "\ufeff":
        start = ""  # this encoding brings a mark of its own

    assert text_format((start + text).encode(encoding)) == kind


def test_the_first_element_is_found_behind_a_long_comment_and_several() -> None:
    comments = "<!-- licence " + 9000 * "x" + " -->\n" + DECLARATION + "<!-- two -->"

    assert text_format((comments + SVG).encode()) == "svg"


@pytest.mark.parametrize("start", ["", "\ufeff", "\n"])
def test_a_git_lfs_pointer_is_told(start: str) -> None:
    assert text_format((start + LFS).encode()) == "lfs_pointer"
    assert text_format((start + LFS[3:]).encode()) == ""


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"\xfe\xff<", b"<!--", b"<?xml", bytes(99)])
def test_no_start_of_a_text_is_an_error(data: bytes) -> None:
    assert text_format(data) == ""


def test_a_header_names_size_and_components() -> None:
    header = jpeg_header(jpeg())

    assert (header.width, header.height, header.components) == (20, 10, 3)
    assert (header.marker, header.precision, header.orientation) == (0xC0, 8, 1)
    assert header.is_strictly_decodable


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("before", [0, 1, 5])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_found_in_exif_of_either_order(
    orientation: int, before: int, order: str
) -> None:
    data = with_segments(segment(0xFE, b"a comment"), exif(orientation, order, before))

    assert jpeg_header(data).orientation == orientation == by_pillow(data)


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ([xmp(6)], 6),
        ([exif(3), xmp(6)], 3),
        ([exif(0), xmp(6)], 6),
        ([exif(9)], 1),
        ([xmp(9)], 1),
        ([segment(0xE1, b"Exif\x00\x00")], 1),
        ([segment(0xE1, b"Exif\x00\x00II*\x00\xff\xff\xff\xff")], 1),
        ([segment(0xE1, b"Exif\x00\x00nonsense" * 3)], 1),
        ([exif(6, before=3)[:-20]], 1),
        ([segment(0xE1, b"something else")], 1),
    ],
)
def test_what_does_not_say_how_to_turn_is_upright(segments: list[bytes], expected: int) -> None:
    if len(segments[0]) == len(exif(6, before=3)) - 20:  # cut short, so its length is made true
        segments = [segment(0xE1, segments[0][4:])]

    assert jpeg_header(with_segments(*segments)).orientation == expected


@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_the_orientation_is_the_one_that_pillow_writes(
    orientation: int, picture_file: Callable[..., bytes], textured_picture: Any
) -> None:
    described = Image.Exif()
    described[0x0112] = orientation
    described[0x010F] = "a camera"
    described[0x9003] = "2024:01:01 00:00:00"
    stream = io.BytesIO()
    Image.fromarray(np.asarray(textured_picture(0))).save(stream, "JPEG", exif=described)

    assert jpeg_header(stream.getvalue()).orientation == orientation


def by_pillow(data: bytes) -> int:
    with Image.open(io.BytesIO(data)) as image:
        return int(image.getexif().get(0x0112, 1))


@pytest.mark.parametrize("precision", [12, 16])
def test_more_bits_than_eight_are_not_for_the_strict_decoder(precision: int) -> None:
    data = bytearray(jpeg())
    data[data.index(b"\xff\xc0") + 4] = precision

    assert not jpeg_header(bytes(data)).is_strictly_decodable
