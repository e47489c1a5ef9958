"""File formats: told by the leading bytes, whatever the file is called, and a JPEG's header."""

import contextlib
import re
import struct
from dataclasses import dataclass
from importlib.util import find_spec

# What the bytes of a picture begin with: format, offset, signature.
SIGNATURES = (
    ("jpeg", 0, b"\xff\xd8\xff"),
    ("png", 0, b"\x89PNG\r\n\x1a\n"),
    ("gif", 0, b"GIF8"),
    ("webp", 8, b"WEBP"),
    ("bmp", 0, b"BM"),
    ("tiff", 0, b"II*\x00"),
    ("tiff", 0, b"MM\x00*"),
    ("tiff", 0, b"II+\x00"),  # BigTIFF
    ("tiff", 0, b"MM\x00+"),
    ("avif", 4, b"ftypavif"),
    ("avif", 4, b"ftypavis"),
    ("heif", 4, b"ftypheic"),
    ("heif", 4, b"ftypheix"),
    ("heif", 4, b"ftypheim"),
    ("heif", 4, b"ftypheis"),
    ("heif", 4, b"ftyphevc"),
    ("heif", 4, b"ftyphevx"),
    ("heif", 4, b"ftypmif1"),
    ("heif", 4, b"ftypmsf1"),
    ("jpeg2000", 0, b"\x00\x00\x00\x0cjP  "),
    ("jpeg2000", 0, b"\xff\x4f\xff\x51"),
)
SUFFIXES = {
    "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "png": (".png", ".apng"),
    "gif": (".gif",),
    "webp": (".webp",),
    "bmp": (".bmp", ".dib"),
    "tiff": (".tif", ".tiff"),
    "avif": (".avif", ".avifs"),
    "jpeg2000": (".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc"),
    "heif": (".heic", ".heif", ".hif", ".heics", ".heifs"),
}
# HEIF needs the package of requirements-heif.txt; everything else is built into Pillow.
HEIF = find_spec("pillow_heif") is not None
READABLE = tuple(kind for kind in SUFFIXES if kind != "heif" or HEIF)

# Text that stands in a picture's place, by what it begins with once byte order mark, space, XML
# declaration and comments are skipped.
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
SKIPPED = re.compile(rb"(?:\xef\xbb\xbf|\s+|<\?xml.*?\?>|<!--.*?-->)+", re.DOTALL)
HTML = re.compile(rb"<!doctype\s+html|<(?:html|head|body|title|meta|script)[\s>]", re.IGNORECASE)
SVG = re.compile(rb"<!doctype\s+svg|<(?:\w+:)?svg[\s>]", re.IGNORECASE)
HEAD = 65_536  # bytes; a drawing program's comment before the first element is far shorter

# JPEG markers that start a frame: 0xC0-0xCF but for DHT, JPG and DAC. Baseline, extended and
# progressive are what the strict decoder handles; a lossless frame (SOF3) can crash it, so the
# marker decides first.
FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
STRICT_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
STANDALONE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})
APP1 = 0xE1  # where EXIF and XMP stand
EXIF = b"Exif\x00\x00"
XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
ORIENTATION_TAG = 0x0112  # how a picture is to be turned, 1 to 8; 1 is upright already
SHORT = 3  # EXIF's type for 16 bits

# TIFF 6.0: what says how a page's values are stored, and the types of numbers that do so.
WIDTH, HEIGHT, BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLES_PER_PIXEL = 256, 257, 258, 262, 277
PLANAR_CONFIGURATION, EXTRA_SAMPLES, SAMPLE_FORMAT = 284, 338, 339
TIFF_NUMBERS = {3: "H", 4: "I", 16: "Q"}
SAMPLE_FORMATS = {1: "uint", 2: "int", 3: "float"}
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
TIFF_TAGS = (
    *(WIDTH, HEIGHT, BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLES_PER_PIXEL),
    *(PLANAR_CONFIGURATION, EXTRA_SAMPLES, SAMPLE_FORMAT),
)
PNG_BIT_DEPTH = 24  # where it stands in IHDR, the first chunk
SIZE_OF_CODESTREAM = b"\xff\x4f\xff\x51"  # JPEG 2000: start of codestream, image and tile size


@dataclass(frozen=True)
class JpegHeader:
    """What stands before a JPEG's pixels.

    marker: the second byte of the start-of-frame marker. precision: bits of a sample. orientation:
    how the picture is to be turned by its EXIF data, or else its XMP data, 1 to 8; 1 where they do
    not say.
    """

    marker: int
    precision: int
    width: int
    height: int
    components: int
    orientation: int

    @property
    def is_strictly_decodable(self) -> bool:
        """Whether the frame is one that the strict decoder handles."""
        return self.marker in STRICT_FRAMES and self.precision == 8


def true_format(data: bytes) -> str:
    """Return the picture format that the leading bytes show, or "" where they show none."""
    for kind, offset, signature in SIGNATURES:
        if data.startswith(signature, offset):
            return kind
    return ""


def text_format(data: bytes) -> str:
    """Return `html`, `svg` or `lfs_pointer` for text in a picture's place, else ""."""
    head = data[:HEAD]
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        head = head.decode("utf-16", errors="ignore").encode()
    skipped = SKIPPED.match(head)
    start = skipped.end() if skipped else 0
    if head.startswith(LFS_POINTER, start):
        return "lfs_pointer"
    if HTML.match(head, start):
        return "html"
    return "svg" if SVG.match(head, start) else ""


def jpeg_header(data: bytes) -> JpegHeader:
    """Return what a JPEG says of itself. Raises ValueError where no frame is found."""
    position, orientation = 2, 0
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            raise ValueError("no marker where one is due")
        marker = data[position + 1]
        if marker in FRAME_MARKERS:
            return _frame(data, position, orientation or 1)
        if marker == 0xFF:  # a fill byte
            position += 1
        elif marker in STANDALONE_MARKERS:
            position += 2
        else:
            end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
            if marker == APP1 and not orientation:
                orientation = _orientation(data[position + 4 : end])
            position = end
    raise ValueError("truncated before the frame")


def _frame(data: bytes, position: int, orientation: int) -> JpegHeader:
    if position + 10 > len(data):
        raise ValueError("truncated inside the frame")
    precision, height, width, components = struct.unpack_from(">BHHB", data, position + 4)
    return JpegHeader(data[position + 1], precision, width, height, components, orientation)


def _orientation(segment: bytes) -> int:
    """Return the orientation that an APP1 segment names, 0 where it names none that exists."""
    if segment.startswith(EXIF):
        try:
            found = _exif_orientation(segment[len(EXIF) :])
        except struct.error:  # cut short or nonsense, which is no damage to the picture
            found = 0
    else:
        named = XMP_ORIENTATION.search(segment)
        found = int(named[1]) if named else 0
    return found if found in range(1, 9) else 0


def _exif_orientation(tiff: bytes) -> int:
    """Return the value of ORIENTATION_TAG in the first directory of EXIF data (EXIF 2.32, 4.6)."""
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(tiff[:4])
    if order is None:
        return 0
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    (entries,) = struct.unpack_from(f"{order}H", tiff, start)
    for entry in range(start + 2, start + 2 + 12 * entries, 12):
        tag, kind, count = struct.unpack_from(f"{order}HHI", tiff, entry)
        if tag == ORIENTATION_TAG and kind == SHORT and count == 1:
            (value,) = struct.unpack_from(f"{order}H", tiff, entry + 8)
            return int(value)
    return 0


@dataclass(frozen=True)
class TiffHeader:
    """How the first page of a TIFF file stores its values.

    Attributes
    ----------
    bits : int
        Of the largest sample.
    sample_format : int
        1 unsigned, 2 signed, 3 float.
    photometric : int
        0 gray where 0 is white, 1 gray, 2 RGB; others are palettes, CMYK, YCbCr, CIELAB.
    samples : int
        Channels per pixel.
    is_planar : bool
        Whether each channel is stored by itself.
    extra : int
        What the channel beyond gray or RGB is: 1 premultiplied alpha, 2 alpha, 0 neither; -1 where
        the file does not say.
    """

    width: int
    height: int
    bits: int
    sample_format: int
    photometric: int
    samples: int
    is_planar: bool
    extra: int

    @property
    def kind(self) -> str:
        """The sample kind, such as uint16; "" for 8 bits or less and for colors other than RGB."""
        if self.photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB):
            return ""
        if self.bits <= 8 and self.sample_format not in (2, 3):
            return ""
        name = SAMPLE_FORMATS.get(self.sample_format, "other")
        # Packed samples of 10, 12 or 14 bits are unpacked to 16.
        bits = 16 if name == "uint" and 8 < self.bits < 16 else self.bits
        return f"{name}{bits}"


def tiff_header(data: bytes) -> TiffHeader | None:
    """Return how a TIFF's first page is stored; None where its directory cannot be read."""
    order = {b"II": "<", b"MM": ">"}[data[:2]]
    is_big = data[2:4] in (b"+\x00", b"\x00+")
    tags: dict[int, tuple[int, ...]] = {}
    with contextlib.suppress(struct.error):
        start, count, entry, inline = (8, "Q", "HHQ", 8) if is_big else (4, "H", "HHI", 4)
        (at,) = struct.unpack_from(order + ("Q" if is_big else "I"), data, start)
        (entries,) = struct.unpack_from(order + count, data, at)
        at += struct.calcsize("=" + count)
        size = struct.calcsize("=" + entry)
        for place in range(at, at + (size + inline) * min(entries, 4096), size + inline):
            tag, kind, number = struct.unpack_from(order + entry, data, place)
            form = TIFF_NUMBERS.get(kind)
            if form and 0 < number <= 16 and tag in TIFF_TAGS:
                values, place = order + form * number, place + size
                if struct.calcsize(values) > inline:
                    (place,) = struct.unpack_from(order + ("Q" if is_big else "I"), data, place)
                tags[tag] = struct.unpack_from(values, data, place)
        samples = tags.get(SAMPLES_PER_PIXEL, (1,))[0]
        return TiffHeader(
            width=tags.get(WIDTH, (0,))[0],
            height=tags.get(HEIGHT, (0,))[0],
            bits=max(tags.get(BITS_PER_SAMPLE, (1,))),
            sample_format=tags.get(SAMPLE_FORMAT, (1,))[0],
            photometric=tags.get(PHOTOMETRIC, (BLACK_IS_ZERO,))[0],
            samples=samples,
            is_planar=tags.get(PLANAR_CONFIGURATION, (1,))[0] == 2 and samples > 1,
            extra=tags.get(EXTRA_SAMPLES, (-1,))[0],
        )
    return None


def sample_kind(data: bytes) -> str:
    """Return how an image of more than 8 bits, or of signed values, stores them: uint16, int16,
    int32, float32 or alike; "" for all other files.

    Only what the header says is read. AVIF and HEIF of more than 8 bits are "" because their
    decoders scale them: such a file states its range.
    """
    name = true_format(data)
    if name == "png":
        return "uint16" if data[PNG_BIT_DEPTH : PNG_BIT_DEPTH + 1] == b"\x10" else ""
    if name == "tiff":
        header = tiff_header(data)
        return header.kind if header else ""
    if name == "jpeg2000":
        start = data.find(SIZE_OF_CODESTREAM)
        channels, depth = data[start + 40 : start + 42], data[start + 42 : start + 43]
        # Of colors, Pillow scales each to 8 bits by the depth that the file states.
        is_deep = start >= 0 and channels == b"\x00\x01" and depth and depth[0] & 0x7F > 7
        return "uint16" if is_deep else ""
    return ""
