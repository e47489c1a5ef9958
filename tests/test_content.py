"""What shows nothing is told from what shows little, and what cannot be compared is said."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw
from reading import as_read, details_of

from stages.lib.content import COMPARABLE_SIDE, fine_detail, is_comparable, is_single_color
from stages.lib.duplicates import SearchParams, find_duplicates
from stages.lib.images import THUMBNAIL_BYTES
from stages.lib.registration import FLAT_DETAIL
from stages.scan import scan_file

Pixels = np.ndarray
Scanned = Callable[..., pd.DataFrame]
Encode = Callable[..., bytes]
GREEN = (90, 130, 60)
SEARCH = SearchParams(10, 3, True, False, 0.85, 0.72)


def plain(color: tuple[int, int, int] = GREEN, height: int = 96, width: int = 128) -> Pixels:
    return np.full((height, width, 3), color, np.uint8)


def noisy(deviation: float, height: int = 96, width: int = 128, seed: int = 0) -> Pixels:
    """Return one color with noise of its own in each channel of each pixel."""
    noise = np.random.default_rng(seed).normal(0, deviation, (height, width, 3))
    return np.clip(np.array(GREEN) + noise, 0, 255).round().astype(np.uint8)


def with_square(pixels: Pixels, side: int, color: int) -> Pixels:
    changed = pixels.copy()
    changed[5 : 5 + side, 7 : 7 + side] = color
    return changed


def drawn(draw: Callable[[ImageDraw.ImageDraw], None], size: tuple[int, int]) -> Pixels:
    image = Image.new("RGB", size, "white")
    draw(ImageDraw.Draw(image))
    return np.asarray(image)


def signature(color: tuple[int, int, int], width: int) -> Pixels:
    line = [(100 + 40 * n, 300 + int(60 * np.sin(n))) for n in range(14)]
    return drawn(lambda page: page.line(line, fill=color, width=width), (800, 600))


def gradient(levels: int) -> Pixels:
    row = np.linspace(100, 100 + levels, 128).astype(np.uint8)
    return np.repeat(np.tile(row, (96, 1))[:, :, None], 3, axis=2)


def soft_spot(height: float, deviation: float) -> Pixels:
    """Return gray with a Gaussian spot, in pixels, that has no edge."""
    y, x = np.indices((128, 128))
    spot = height * np.exp(-((y - 50) ** 2 + (x - 70) ** 2) / (2 * deviation**2))
    return np.repeat((100 + spot).round().astype(np.uint8)[:, :, None], 3, axis=2)


def smooth(low: float, high: float, noise: float = 0.0) -> Pixels:
    """Return a smooth image of gray values from low to high, as an X-ray or a night is."""
    rng = np.random.default_rng(3)
    spots = rng.integers(0, 256, (6, 6), dtype=np.uint8)
    wide = np.asarray(Image.fromarray(spots).resize((160, 120), Image.Resampling.BICUBIC), float)
    gray = low + (high - low) * (wide - wide.min()) / np.ptp(wide)
    gray = gray[:, :, None] + rng.normal(0, noise, (120, 160, 3))
    return gray.clip(0, 255).astype(np.uint8)


NOTHING_IN_IT = {
    "black": (plain((0, 0, 0)), "png"),
    "white": (plain((255, 255, 255)), "png"),
    "a color": (plain(), "png"),
    "a color as JPEG": (plain(), "jpeg_rough"),
    "JPEG noise": (noisy(3), "jpeg_rough"),
    "JPEG noise in a small image": (noisy(3, 32, 32), "jpeg"),
    "fine noise": (noisy(2, 64, 64), "png"),
    "a lens cap": (noisy(4, 480, 640), "jpeg"),
    "one pixel among 307,200": (with_square(plain((0, 0, 0), 480, 640), 1, 255), "png"),
}
LITTLE_IN_IT = {
    "a mask with a small blob": (with_square(plain((0, 0, 0), 480, 640), 8, 255), "png"),
    "the same as JPEG": (with_square(plain((0, 0, 0), 480, 640), 8, 255), "jpeg"),
    "a dot in a small image": (with_square(plain((255, 255, 255), 32, 32), 1, 0), "png"),
    "an icon of 16 pixels": (with_square(plain((255, 255, 255), 16, 16), 4, 90), "png"),
    "a signature": (signature((20, 20, 90), 2), "jpeg_rough"),
    "a faint signature": (signature((200, 200, 215), 1), "png"),
    "a gradient of 8 levels": (gradient(8), "png"),
    "a faint square": (with_square(plain((120, 120, 120)), 30, 112), "png"),
    "a pale dot": (with_square(plain((255, 255, 255), 480, 640), 7, 218), "png"),
    "a soft spot": (soft_spot(12, 2.0), "png"),
    "a coarse grain": (noisy(8, 128, 128), "png"),
    "a night": (smooth(0, 12, noise=2), "jpeg"),
    "fog": (smooth(195, 207, noise=1.5), "jpeg"),
    "an X-ray": (smooth(20, 180), "png"),
    "fine stripes": (
        np.repeat((plain((100, 100, 100)) + 30 * (np.arange(128) % 2)[None, :, None]), 1, axis=2),
        "png",
    ),
    "a color of the same gray": (with_square(plain((128, 128, 128)), 40, 128), "png"),
}
# Of equal luma: (167, 109, 128) is a red as bright as the gray around it.
LITTLE_IN_IT["a color of the same gray"][0][5:45, 7:47] = (167, 109, 128)


def files_of(cases: dict[str, tuple[Pixels, str]], encode: Encode, label: str) -> dict[str, bytes]:
    return {
        f"{label}/{name}": encode(pixels.astype(np.uint8), encoding)
        for name, (pixels, encoding) in cases.items()
    }


def test_what_shows_nothing_is_a_single_color_and_what_shows_little_is_not(
    scanned: Scanned, encode: Encode
) -> None:
    files = files_of(NOTHING_IN_IT, encode, "nothing") | files_of(LITTLE_IN_IT, encode, "little")
    rows, thumbnails = as_read(scanned(files))

    found = is_single_color(rows, thumbnails)

    assert rows.loc[found != (rows["label"] == "nothing"), "uri"].tolist() == []
    assert (rows["verdict"] == "ok").all()


@pytest.mark.parametrize(("step", "single"), [(3, True), (4, False)])
@pytest.mark.parametrize("channel", [slice(None), 2])
def test_two_halves_are_one_color_up_to_a_step_of_three_levels(
    scanned: Scanned, encode: Encode, step: int, single: bool, channel: Any
) -> None:
    pixels = plain((120, 120, 120))
    # Blue makes up half of its chroma's value, and a tenth of luma.
    pixels[:, 64:, channel] += step if channel == slice(None) else 2 * step

    found = is_single_color(*as_read(scanned({"cat/1.png": encode(pixels)})))

    assert found.tolist() == [single]


@pytest.mark.parametrize("place", range(90, 150, 7))
def test_a_page_with_nothing_but_its_number_is_no_single_color(
    tmp_path: Path, encode: Encode, place: int
) -> None:
    page = drawn(lambda page: page.text((place, place), "12", "black", font_size=30), (2480, 3508))
    (tmp_path / "1.png").write_bytes(encode(page))
    rows = pd.DataFrame([scan_file(str(tmp_path / "1.png"), 10**7)])

    found = is_single_color(*as_read(rows))

    assert rows["verdict"].tolist() == ["ok"]
    assert not found.any()


def test_what_cannot_be_read_is_neither(scanned: Scanned) -> None:
    rows, thumbnails = as_read(scanned({"cat/1.png": b"", "cat/2.png": b"<html></html>"}))

    assert not is_single_color(rows, thumbnails).any()
    assert not is_comparable(rows, thumbnails).any()


def test_no_rows_have_no_content(scanned: Scanned, encode: Encode) -> None:
    rows, thumbnails = as_read(scanned({"cat/1.png": encode(plain())}))

    assert len(is_single_color(rows.head(0), thumbnails)) == 0
    assert len(is_comparable(rows.head(0), thumbnails)) == 0


def test_each_row_is_judged_by_its_own_thumbnail(
    scanned: Scanned, textured_picture: Callable[..., Pixels], encode: Encode
) -> None:
    files = {"cat/1.png": encode(plain()), "cat/2.png": encode(textured_picture(1))}
    rows, thumbnails = as_read(scanned(files))
    back = rows.iloc[::-1]

    assert is_single_color(rows, thumbnails).tolist() == [True, False]
    assert is_single_color(back, thumbnails).tolist() == [False, True]
    assert is_comparable(rows, thumbnails).tolist() == [False, True]
    assert is_comparable(back, thumbnails).tolist() == [True, False]


# --- Comparable ---------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [COMPARABLE_SIDE - 1, COMPARABLE_SIDE])
def test_an_image_below_the_stated_side_is_not_comparable(
    scanned: Scanned, textured_picture: Callable[..., Pixels], encode: Encode, side: int
) -> None:
    files = {"cat/1.png": encode(textured_picture(1, 40, side))}
    files |= {"cat/2.png": encode(textured_picture(1, side, 40))}

    found = is_comparable(*as_read(scanned(files)))

    assert found.tolist() == [side >= COMPARABLE_SIDE] * 2


def test_detail_is_the_deviation_of_luma_less_its_blur() -> None:
    thumbnails = np.zeros((2, THUMBNAIL_BYTES), np.uint8)
    thumbnails[0, :1024] = 7
    thumbnails[1, :1024] = (100 + 10 * (np.indices((32, 32)).sum(axis=0) % 2)).ravel()

    found = fine_detail(thumbnails)

    # A blur of one pixel leaves all but nothing of a checkerboard: its whole deviation is detail.
    assert found[0] == 0
    assert found[1] == pytest.approx(5, rel=0.02)


@pytest.mark.parametrize(
    ("contrast", "comparable"), [(0.02, False), (0.04, False), (0.3, True), (1.0, True)]
)
@pytest.mark.parametrize("dark", [False, True])
def test_copies_are_found_where_an_image_is_comparable_and_nowhere_else(
    scanned: Scanned,
    textured_picture: Callable[..., Pixels],
    encode: Encode,
    contrast: float,
    comparable: bool,
    dark: bool,
) -> None:
    middle = 0 if dark else 128
    faint = (middle + contrast * (textured_picture(1, 96, 128, 24) - float(middle))).round()
    files = {
        "cat/1.png": encode(faint.astype(np.uint8), "png"),
        "cat/2.jpg": encode(faint.astype(np.uint8), "jpeg"),
    }
    scan = scanned(files)
    rows, thumbnails = as_read(scan)

    found = is_comparable(rows, thumbnails)

    pairs = find_duplicates(rows, thumbnails, details_of(scan), SEARCH)
    assert found.tolist() == [comparable] * 2
    assert len(pairs) == comparable
    assert (pairs["level"] != "look_alike").all()
    assert ((fine_detail(thumbnails) >= FLAT_DETAIL) == comparable).all()


def test_a_pattern_that_neither_hash_nor_descriptor_sees_is_not_comparable(
    scanned: Scanned, encode: Encode
) -> None:
    checkers = (100 + 60 * (np.indices((32, 32)).sum(axis=0) % 2)).astype(np.uint8)
    pixels = np.repeat(checkers[:, :, None], 3, axis=2)
    files = {"cat/1.png": encode(pixels), "cat/2.bmp": encode(pixels, "bmp")}
    scan = scanned(files)
    rows, thumbnails = as_read(scan)

    found = is_comparable(rows, thumbnails)

    assert (fine_detail(thumbnails) > FLAT_DETAIL).all()
    assert not found.any()
    assert find_duplicates(rows, thumbnails, details_of(scan), SEARCH).empty
