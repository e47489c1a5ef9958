"""Pixels: every kind of file becomes upright RGB, resizing keeps its word."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.lib.images import (
    Preprocessing,
    measure_levels,
    prepare_picture,
    read_picture,
    resize_picture,
    sharpness,
    shrink,
    to_grey,
    upright,
)

Texture = Callable[..., np.ndarray]


def prep(
    height: int, width: int, fit: Any, interpolation: Any = "auto", colour: Any = "rgb"
) -> Preprocessing:
    return Preprocessing(height, width, fit, interpolation, colour)


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


# --- Reading ----------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["png", "bmp", "tiff", "tiff_deflate", "webp_lossless"])
def test_lossless_files_are_read_exactly(
    textured_picture: Texture, encode: Callable[..., bytes], encoding: str
) -> None:
    pixels = textured_picture(0)

    np.testing.assert_array_equal(read_picture(encode(pixels, encoding)), pixels)


@pytest.mark.parametrize("encoding", ["jpeg", "jpeg_progressive", "jpeg_cmyk", "webp"])
def test_lossy_files_are_read_closely(
    textured_picture: Texture, encode: Callable[..., bytes], encoding: str
) -> None:
    pixels = textured_picture(0)

    read = read_picture(encode(pixels, encoding))

    assert read.shape == pixels.shape
    assert np.abs(read.astype(int) - pixels).mean() < 8


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_grey_becomes_three_equal_channels(textured_picture: Texture, kind: str) -> None:
    grey = to_grey(textured_picture(0))

    read = read_picture(saved(Image.fromarray(grey), kind))

    assert read.shape == (48, 64, 3)
    assert (read == read[:, :, :1]).all()
    assert np.abs(read[:, :, 0].astype(int) - grey).mean() < 2


def test_16_bit_values_are_scaled_and_rounded() -> None:
    values = np.array([[0, 128, 129, 32768, 65535]], np.uint16)

    read = read_picture(saved(Image.fromarray(values)))

    np.testing.assert_array_equal(read[0, :, 1], [0, 0, 1, 128, 255])


def test_a_palette_is_looked_up() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])

    np.testing.assert_array_equal(read_picture(saved(image))[0], [[10, 20, 30], [200, 100, 50]])


def test_a_transparent_palette_entry_becomes_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])

    read = read_picture(saved(image, transparency=0))

    np.testing.assert_array_equal(read[0], [[255, 255, 255], [200, 100, 50]])


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_lies_on_white(mode: str) -> None:
    black = {"RGBA": (0, 0, 0), "LA": (0,)}[mode]
    image = Image.new(mode, (3, 1))
    image.putdata([(*black, 0), (*black, 128), (*black, 255)])

    read = read_picture(saved(image))

    np.testing.assert_allclose(read[0, :, 0], [255, 127, 0], atol=1)


def test_a_black_drawing_on_transparent_ground_does_not_vanish() -> None:
    alpha = np.zeros((32, 32, 4), np.uint8)
    alpha[8:24, 8:24, 3] = 255

    assert to_grey(read_picture(saved(Image.fromarray(alpha)))).std() > 50


@pytest.mark.parametrize("encoding", ["jpeg", "jpeg_cmyk", "png", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_read_upright(
    textured_picture: Texture, encode: Callable[..., bytes], encoding: str, orientation: int
) -> None:
    stored = textured_picture(0)
    exif = Image.Exif()
    exif[0x0112] = orientation

    read = read_picture(encode(stored, encoding, exif=exif))

    expected = upright(read_picture(encode(stored, encoding)), orientation)
    np.testing.assert_array_equal(read, expected)


def test_each_orientation_turns_a_corner_to_its_place() -> None:
    # Where EXIF says that the stored first row and first column are seen: e.g. 6 is "right, top".
    stored = np.zeros((2, 3, 3), np.uint8)
    stored[0, 0] = 255
    corners = {1: "top left", 2: "top right", 3: "bottom right", 4: "bottom left"}
    corners |= {5: "top left", 6: "top right", 7: "bottom right", 8: "bottom left"}
    places = {"top": 0, "bottom": -1, "left": 0, "right": -1}

    seen = {turn: upright(stored, turn) for turn in corners}

    for turn, corner in corners.items():
        row, column = (places[word] for word in corner.split())
        assert seen[turn][row, column, 0] == 255, turn
        assert seen[turn].shape == ((2, 3, 3) if turn < 5 else (3, 2, 3))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_changes_nothing(
    textured_picture: Texture, orientation: int
) -> None:
    pixels = textured_picture(0)

    np.testing.assert_array_equal(upright(pixels, orientation), pixels)


def test_a_scaled_decode_never_falls_below_the_smallest_side(picture_file: Any) -> None:
    data = picture_file(0, "jpeg", height=96, width=160)

    shapes = {side: read_picture(data, side).shape for side in (0, 12, 13, 24, 48, 200)}

    assert shapes == {
        0: (96, 160, 3),
        12: (12, 20, 3),
        13: shapes[13],
        24: (24, 40, 3),
        48: (48, 80, 3),
        200: (96, 160, 3),
    }
    assert min(shapes[13][:2]) >= 13


# --- Resizing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("target", [(16, 16), (16, 40), (40, 16), (90, 70), (8, 8)])
@pytest.mark.parametrize("size", [(48, 64), (64, 48), (1, 40), (40, 1), (7, 7), (1, 1), (3, 200)])
def test_every_picture_gets_the_size_asked_for(
    textured_picture: Texture, fit: Any, target: tuple[int, int], size: tuple[int, int]
) -> None:
    resized = resize_picture(textured_picture(0, *size), prep(*target, fit))

    assert resized.shape == (*target, 3)
    assert resized.dtype == np.uint8


def square_in(height: int, width: int, side: int) -> np.ndarray:
    """Return a black picture with a white square in its centre."""
    pixels = np.full((height, width, 3), 0, np.uint8)
    top, left = (height - side) // 2, (width - side) // 2
    pixels[top : top + side, left : left + side] = 255
    return pixels


def extent(pixels: np.ndarray) -> tuple[int, int]:
    """Return height and width of what is brighter than half."""
    rows, columns = np.nonzero(pixels[:, :, 0] > 127)
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


@pytest.mark.parametrize("target", [(32, 32), (64, 32), (32, 64)])
@pytest.mark.parametrize("size", [(64, 128), (128, 64), (96, 96)])
@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_crop_and_pad_do_not_distort(
    fit: Any, size: tuple[int, int], target: tuple[int, int]
) -> None:
    resized = resize_picture(square_in(*size, 32), prep(*target, fit))

    height, width = extent(resized)

    assert abs(height - width) <= 1
    assert height > 4


def test_stretch_changes_proportions_as_the_sides_do() -> None:
    resized = resize_picture(square_in(64, 128, 32), prep(64, 64, "stretch"))

    assert extent(resized) == (32, 16)


def test_crop_keeps_the_centre_and_fills_the_frame() -> None:
    pixels = np.zeros((32, 96, 3), np.uint8)
    pixels[:, 32:64] = 255

    assert (resize_picture(pixels, prep(16, 16, "crop")) == 255).all()


def test_pad_keeps_everything_between_black_borders() -> None:
    pixels = np.full((32, 64, 3), 255, np.uint8)

    resized = resize_picture(pixels, prep(32, 32, "pad"))

    assert (resized[8:24] == 255).all()
    assert (resized[:8] == 0).all()
    assert (resized[24:] == 0).all()


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_a_prepared_picture_is_the_picture_read_and_resized(
    picture_file: Any, encoding: str, fit: Any
) -> None:
    data, how = picture_file(0, encoding, 128, 96), prep(16, 24, fit)

    prepared = prepare_picture(data, how)

    full = resize_picture(read_picture(data), how)
    assert prepared.shape == (16, 24, 3)
    assert np.abs(prepared.astype(int) - full).mean() < 2  # JPEG may be decoded at a smaller scale


METHODS = ["auto", "nearest", "linear", "cubic", "area", "lanczos"]


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("interpolation", METHODS)
@pytest.mark.parametrize("size", [(48, 64), (5, 90), (1, 1)])
def test_grey_pictures_have_one_channel_and_the_size_asked_for(
    picture_file: Any, fit: Any, interpolation: Any, size: tuple[int, int]
) -> None:
    how = prep(16, 24, fit, interpolation, "grey")

    prepared = prepare_picture(picture_file(0, "png", *size), how)

    assert prepared.shape == how.shape == (16, 24, 1)
    assert prepared.dtype == np.uint8


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_grey_is_the_luma_of_the_colours(picture_file: Any, fit: Any) -> None:
    data = picture_file(0)

    grey = prepare_picture(data, prep(16, 24, fit, "auto", "grey"))

    luma = to_grey(prepare_picture(data, prep(16, 24, fit)))
    assert np.abs(grey[:, :, 0].astype(int) - luma).max() <= 2
    assert grey.std() > 5


@pytest.mark.parametrize(("factor", "same_as"), [(0.5, "area"), (2, "cubic")])
def test_auto_averages_what_shrinks_and_is_cubic_otherwise(
    textured_picture: Texture, factor: float, same_as: Any
) -> None:
    pixels = textured_picture(0, blobs=20)
    size = (round(48 * factor), round(64 * factor))

    resized = {name: resize_picture(pixels, prep(*size, "stretch", name)) for name in METHODS}

    np.testing.assert_array_equal(resized["auto"], resized[same_as])
    assert len({result.tobytes() for result in resized.values()}) >= 4


def test_nearest_takes_pixels_as_they_stand_in_the_file(picture_file: Any) -> None:
    data = picture_file(0, "jpeg", 128, 96)
    colours = {tuple(pixel) for pixel in read_picture(data).reshape(-1, 3)}

    prepared = prepare_picture(data, prep(16, 24, "stretch", "nearest"))

    assert {tuple(pixel) for pixel in prepared.reshape(-1, 3)} <= colours


@pytest.mark.parametrize("interpolation", METHODS)
def test_no_interpolation_moves_the_picture(interpolation: Any) -> None:
    pixels = square_in(64, 64, 32)

    small = resize_picture(pixels, prep(32, 32, "stretch", interpolation))

    np.testing.assert_array_equal(small > 127, square_in(32, 32, 16) > 127)


def test_shrinking_stops_at_the_work_side_and_never_enlarges() -> None:
    sizes = [(256, 512), (512, 256), (128, 300), (64, 48), (1, 1000)]

    shapes = [shrink(np.zeros(size, np.uint8)).shape for size in sizes]

    assert shapes == [(128, 256), (256, 128), (128, 300), (64, 48), (1, 1000)]


# --- Measures ---------------------------------------------------------------------------------


def test_measures_of_pictures_with_known_values() -> None:
    black, white = np.zeros((8, 8), np.uint8), np.full((8, 8), 255, np.uint8)
    halves = np.concatenate([black, white])
    every_value = np.arange(256, dtype=np.uint8).reshape(16, 16)

    levels = [measure_levels(grey) for grey in (black, white, halves, every_value)]

    assert [level.brightness for level in levels] == [0.0, 1.0, 0.5, 0.5]
    assert [level.low for level in levels] == [0.0, 1.0, 0.0, 12 / 255]
    assert [level.high for level in levels] == [0.0, 1.0, 1.0, 253 / 255]
    assert [level.entropy for level in levels] == [0, 0, 1, 8]
    assert sharpness(black) == sharpness(white) == 0.0
    assert sharpness(halves) > 0


def test_a_blurred_picture_is_less_sharp(textured_picture: Texture) -> None:
    sharp = textured_picture(0)
    blurred = np.asarray(Image.fromarray(sharp).resize((8, 6)).resize((64, 48)))

    assert sharpness(to_grey(blurred)) < sharpness(to_grey(sharp))
