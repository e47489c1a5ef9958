"""Registration: a shot stays the same shot however it was copied, and two shots stay two."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.lib.images import THUMBNAIL_BYTES, THUMBNAIL_SIDE, read_picture, thumbnail, to_grey
from stages.lib.registration import (
    COARSE_SIMILARITY,
    MIRRORED,
    band_passed,
    coarse_similarity,
    registered_similarity,
)

Texture = Callable[..., np.ndarray]
Encode = Callable[..., bytes]
REMOVE, GROUP = 0.85, 0.72  # the usual levels of clean
SEEDS = range(12)
TEXTURES = (11, 16, 24)  # spots each way on a scene, from smooth to fine
SIDE, SCENE = 96, 160
ROUNDING = 1e-5


def window(
    scene: np.ndarray, angle: float = 0, zoom: float = 1, right: float = 0, down: float = 0
) -> np.ndarray:
    """Return what a camera sees of the middle of a scene: turned, nearer, moved by some pixels."""
    cos, sin = math.cos(math.radians(angle)) / zoom, math.sin(math.radians(angle)) / zoom
    middle, centre = (SIDE - 1) / 2, (len(scene) - 1) / 2
    x0 = centre + right - cos * middle + sin * middle
    y0 = centre + down - sin * middle - cos * middle
    place = (cos, -sin, x0, sin, cos, y0)
    image = Image.fromarray(scene)
    return np.asarray(
        image.transform((SIDE, SIDE), Image.Transform.AFFINE, place, Image.Resampling.BICUBIC)
    )


def turn_picture(pixels: np.ndarray, turn: int) -> np.ndarray:
    """Return pixels mirrored (turn + 4) and then turned by quarters anticlockwise."""
    return np.rot90(pixels[:, ::-1] if turn >= MIRRORED else pixels, turn % 4)


def thumbnails_of(pictures: list[np.ndarray]) -> np.ndarray:
    return np.stack([thumbnail(np.ascontiguousarray(picture)) for picture in pictures])


def compare(thumbnails: np.ndarray, left: np.ndarray, right: np.ndarray, turn: int) -> np.ndarray:
    """Return coarse and registered similarity of pairs, one row each."""
    bands, turns = band_passed(thumbnails), np.full(len(left), turn)
    coarse = coarse_similarity(bands, left, right, turns)
    return np.stack([coarse, registered_similarity(thumbnails, bands, left, right, turns)[0]])


def similarities(
    lefts: list[np.ndarray], rights: list[np.ndarray], turn: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return coarse and registered similarity of each left picture and its right one."""
    at = np.arange(len(lefts))
    coarse, similarity = compare(thumbnails_of([*lefts, *rights]), at, at + len(lefts), turn)
    return coarse, similarity


def of_all_pairs(thumbnails: np.ndarray, turn: int = 0) -> np.ndarray:
    """Return the registered similarity of all with all as a matrix."""
    count = len(thumbnails)
    left, right = np.divmod(np.arange(count**2), count)
    return compare(thumbnails, left, right, turn)[1].reshape(count, count)


@pytest.fixture(params=TEXTURES)
def scenes(request: pytest.FixtureRequest, textured_picture: Texture) -> list[np.ndarray]:
    return [textured_picture(seed, SCENE, SCENE, request.param) for seed in SEEDS]


@pytest.fixture
def pictures(scenes: list[np.ndarray]) -> list[np.ndarray]:
    return [window(scene) for scene in scenes]


def assert_copies(lefts: list[np.ndarray], rights: list[np.ndarray], turn: int = 0) -> None:
    """Both doors let the pairs through: the coarse one, and the level at which one goes."""
    coarse, similarity = similarities(lefts, rights, turn)

    assert coarse.min() >= COARSE_SIMILARITY
    assert similarity.min() >= REMOVE


# --- Copies -------------------------------------------------------------------------------------


def test_1_a_picture_is_fully_similar_to_itself(pictures: list[np.ndarray]) -> None:
    coarse, similarity = similarities(pictures, pictures)

    np.testing.assert_allclose(coarse, 1, atol=1e-3)
    np.testing.assert_allclose(similarity, 1, atol=ROUNDING)


@pytest.mark.parametrize(
    ("scale", "offset"), [(1.0, 30), (1.0, -30), (0.7, 0), (0.6, 60), (1.2, -20)]
)
def test_2_brightness_and_contrast_do_not_matter(
    pictures: list[np.ndarray], scale: float, offset: int
) -> None:
    # Leaves room, so that nothing is clipped away.
    plain = [picture * 0.7 + 30 for picture in pictures]
    changed = [np.clip(picture * scale + offset, 0, 255) for picture in plain]

    _, similarity = similarities(
        *([picture.astype(np.uint8) for picture in some] for some in (plain, changed))
    )

    assert similarity.min() > 0.97


@pytest.mark.parametrize("right", [1, -2, 3, 5, 8])
@pytest.mark.parametrize("down", [0, -1, 4])
def test_3_a_shift_keeps_a_copy_a_copy(scenes: list[np.ndarray], right: int, down: int) -> None:
    # 3 pixels are one of the thumbnail, so most of these are broken ones.
    moved = [window(scene, right=right, down=down) for scene in scenes]

    assert_copies([window(scene) for scene in scenes], moved)


@pytest.mark.parametrize("angle", [1, -1, 2, -2, 5, -5])
def test_4_a_camera_held_askew_keeps_a_copy_a_copy(scenes: list[np.ndarray], angle: int) -> None:
    assert_copies(
        [window(scene) for scene in scenes], [window(scene, angle=angle) for scene in scenes]
    )


@pytest.mark.parametrize("zoom", [0.9, 0.95, 1.02, 1.05, 1.1])
def test_5_a_zoom_keeps_a_copy_a_copy(scenes: list[np.ndarray], zoom: float) -> None:
    assert_copies(
        [window(scene) for scene in scenes], [window(scene, zoom=zoom) for scene in scenes]
    )


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("sides", ["all", "top left", "left"])
@pytest.mark.parametrize("swap", [False, True])
def test_6_a_crop_keeps_a_copy_a_copy(
    pictures: list[np.ndarray], share: float, sides: str, swap: bool
) -> None:
    cut = round(SIDE * share)
    window_of = {
        "all": np.s_[cut // 2 : SIDE - cut // 2, cut // 2 : SIDE - cut // 2],
        "top left": np.s_[cut:, cut:],
        "left": np.s_[:, cut:],  # which stretches the rest
    }[sides]
    cropped = [picture[window_of] for picture in pictures]

    assert_copies(*((cropped, pictures) if swap else (pictures, cropped)))


@pytest.mark.parametrize("quality", [95, 70, 50, 30])
def test_7_another_encoding_and_size_keep_a_copy_a_copy(
    pictures: list[np.ndarray], encode: Encode, quality: int
) -> None:
    halves = [np.asarray(Image.fromarray(picture).resize((60, 45))) for picture in pictures]

    for copies in (pictures, halves):
        files = [encode(copy, "jpeg", quality=quality) for copy in copies]
        assert_copies(pictures, [read_picture(data) for data in files])


@pytest.mark.parametrize("turn", range(8))
def test_8_a_turned_copy_is_a_copy_at_its_own_turn_and_at_no_other(
    pictures: list[np.ndarray], turn: int
) -> None:
    turned = [turn_picture(picture, turn) for picture in pictures]

    # `turn` says how the right one is turned to look like the left one.
    similarity = [similarities(turned, pictures, other)[1] for other in range(8)]

    np.testing.assert_allclose(similarity[turn], 1, atol=1e-3)
    assert max(found.max() for at, found in enumerate(similarity) if at != turn) < GROUP


@pytest.mark.parametrize("swap", [False, True])
def test_9_a_grey_copy_of_a_colour_picture_is_a_copy(
    pictures: list[np.ndarray], swap: bool
) -> None:
    grey = [np.repeat(to_grey(picture)[:, :, None], 3, axis=2) for picture in pictures]

    assert_copies(*((grey, pictures) if swap else (pictures, grey)))


@pytest.mark.parametrize("side", [0, 1])
def test_a_grey_copy_whose_encoder_has_left_a_breath_of_colour_is_a_copy(
    pictures: list[np.ndarray], side: int
) -> None:
    both = np.stack([thumbnails_of(pictures)] * 2)
    chroma = both[side, :, THUMBNAIL_SIDE**2 :]
    chroma[:] = np.random.default_rng(0).integers(127, 130, chroma.shape)
    at = np.arange(len(pictures))

    _, similarity = compare(np.concatenate(both), at, at + len(at), 0)

    assert similarity.min() > 0.95


@pytest.mark.parametrize("swap", [False, True])
def test_a_copy_that_was_small_once_and_has_lost_its_detail_is_still_tied(
    pictures: list[np.ndarray], swap: bool
) -> None:
    tiny = [Image.fromarray(picture).resize((20, 20)) for picture in pictures]
    blunt = [np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for image in tiny]

    _, similarity = similarities(*((blunt, pictures) if swap else (pictures, blunt)))

    assert similarity.min() >= GROUP


def test_10_several_changes_at_once_keep_a_copy_a_copy(
    scenes: list[np.ndarray], encode: Encode
) -> None:
    changed = [window(scene, angle=2, zoom=1.05, right=3, down=-2)[:, ::-1] for scene in scenes]
    files = [encode(np.ascontiguousarray(copy), "jpeg", quality=60) for copy in changed]

    assert_copies(
        [window(scene) for scene in scenes], [read_picture(data) for data in files], MIRRORED
    )


def captioned(picture: np.ndarray, seed: int) -> np.ndarray:
    """Return a picture with something like a line of white text near its lower border."""
    marked = picture.copy()
    strokes = np.random.default_rng(seed).random((4, 30)) < 0.4
    marked[-16:-4, 18:78][np.kron(strokes, np.ones((3, 2), bool))] = 255
    return marked


@pytest.mark.parametrize("part", ["caption", "corner", "black bar", "white bar"])
def test_11_a_caption_a_mended_corner_and_a_thin_bar_do_not_hide_a_copy(
    pictures: list[np.ndarray], part: str
) -> None:
    marked = [picture.copy() for picture in pictures]
    for at, picture in enumerate(marked):
        if part == "caption":
            marked[at] = captioned(picture, at)
        elif part == "corner":
            picture[:16, :16] = pictures[at - 1][:16, :16]
        else:
            picture[-6:] = 0 if part == "black bar" else 255

    assert_copies(pictures, marked)


# --- Different pictures -------------------------------------------------------------------------


def test_different_pictures_stay_below_the_level_of_groups(scenes: list[np.ndarray]) -> None:
    pictures = [window(scene, right=right) for scene in scenes for right in (-32, 32)]

    similarity = of_all_pairs(thumbnails_of(pictures))

    # Windows 64 of 96 pixels apart share a third of a scene: no more two of a kind than the rest.
    assert similarity[~np.eye(len(pictures), dtype=bool)].max() < GROUP
    np.testing.assert_allclose(np.diag(similarity), 1, atol=ROUNDING)


def test_two_things_in_the_same_saturated_colours_do_not_remove_each_other(
    textured_picture: Texture,
) -> None:
    pairs: list[list[np.ndarray]] = [[], []]
    for seed in range(30):
        colours = textured_picture(seed, SIDE, SIDE, 5).astype(float)
        for side in range(2):
            relief = textured_picture(1000 + 2 * seed + side, SIDE, SIDE, 14).mean(axis=2) - 127
            seen = np.clip(colours + 0.3 * relief[:, :, None], 0, 255)
            pairs[side].append(seen.astype(np.uint8))
    chroma = [thumbnails_of(side)[:, THUMBNAIL_SIDE**2 :].astype(float) - 128 for side in pairs]
    alike = [np.corrcoef(left, right)[0, 1] for left, right in zip(*chroma, strict=True)]
    assert min(alike) > 0.9  # their colours alone would tie them

    _, similarity = similarities(*pairs)

    assert similarity.max() < REMOVE


def test_the_more_of_another_picture_is_mixed_in_the_less_similar_it_is(
    pictures: list[np.ndarray],
) -> None:
    others = pictures[1:] + pictures[:1]
    mixed = [
        [
            (one * (1 - share) + other * share).astype(np.uint8)
            for one, other in zip(pictures, others, strict=True)
        ]
        for share in (0, 0.15, 0.3, 0.4, 1)
    ]

    values = np.stack([similarities(pictures, some)[1] for some in mixed])

    assert (np.diff(values, axis=0) < 0).all()
    assert (values[1] > REMOVE).all()
    assert (values[-1] < GROUP).all()


def test_the_negative_of_a_picture_and_one_in_a_corner_of_it_are_no_copies(
    pictures: list[np.ndarray],
) -> None:
    negatives = [255 - picture for picture in pictures]
    quarters = [picture[: SIDE // 2, : SIDE // 2] for picture in pictures]

    for changed in (negatives, quarters):
        assert similarities(pictures, changed)[1].max() < GROUP


# --- Pictures that show nothing, and odd ones ---------------------------------------------------


def grey_thumbnail(luma: np.ndarray) -> np.ndarray:
    small = np.full(THUMBNAIL_BYTES, 128, np.uint8)
    small[: THUMBNAIL_SIDE**2] = np.clip(luma, 0, 255).astype(np.uint8).ravel()
    return small


DOWN, ACROSS = np.mgrid[:THUMBNAIL_SIDE, :THUMBNAIL_SIDE]
FEATURELESS = {
    "black": 0 * ACROSS,
    "grey": 0 * ACROSS + 128,
    "white": 0 * ACROSS + 255,
    "nearly flat": 128 + (ACROSS + DOWN) % 2,
    "across": 8 * ACROSS,
    "down": 8 * DOWN,
}
STEEP_DIAGONAL = 4 * (ACROSS + DOWN)
ODD = {
    "one pixel": 255 * ((ACROSS == 16) & (DOWN == 16)),
    "one corner": 255 * ((ACROSS == 0) & (DOWN == 0)),
    "checks of 1": 255 * ((ACROSS + DOWN) % 2),
    "checks of 2": 255 * ((ACROSS // 2 + DOWN // 2) % 2),
    "checks of 8": 255 * ((ACROSS // 8 + DOWN // 8) % 2),
    "stripes": 255 * (ACROSS % 2),
    "halves": 255 * (ACROSS >= 16),
    "border": 255 * ((ACROSS % 31 == 0) | (DOWN % 31 == 0)),
}


@pytest.mark.parametrize("turn", [0, 1, MIRRORED])
def test_flat_pictures_and_mere_gradients_match_nothing_not_even_themselves(
    textured_picture: Texture, turn: int
) -> None:
    blank = [grey_thumbnail(luma) for luma in FEATURELESS.values()]
    others = [grey_thumbnail(luma) for luma in ODD.values()]
    others += [thumbnail(textured_picture(seed)) for seed in SEEDS]
    coloured = grey_thumbnail(FEATURELESS["grey"])
    coloured[THUMBNAIL_SIDE**2 :] = np.arange(THUMBNAIL_BYTES - THUMBNAIL_SIDE**2) % 256

    similarity = of_all_pairs(np.stack([*blank, coloured, *others]), turn)

    assert similarity[: len(blank) + 1].max() <= 0
    assert similarity[:, : len(blank) + 1].max() <= 0


def test_a_steep_gradient_matches_nothing_either() -> None:
    gradients = [grey_thumbnail(luma) for luma in (STEEP_DIAGONAL, 255 - STEEP_DIAGONAL)]

    assert of_all_pairs(np.stack(gradients)).max() <= 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 7), st.sampled_from([0.5, 3, 20, 200]))
def test_whatever_the_pixels_the_similarity_is_a_number_from_minus_one_to_one(
    seed: int, turn: int, contrast: float
) -> None:
    rng = np.random.default_rng(seed)
    noise = np.clip(rng.normal(128, contrast, (6, THUMBNAIL_BYTES)), 0, 255).astype(np.uint8)
    sparse = np.where(rng.random((6, THUMBNAIL_BYTES)) < 0.01, 255, 0).astype(np.uint8)
    odd = [grey_thumbnail(luma) for luma in (FEATURELESS | ODD).values()]
    extremes = [np.full(THUMBNAIL_BYTES, value, np.uint8) for value in (0, 255)]
    thumbnails = np.concatenate([noise, sparse, odd, extremes])
    left, right = rng.integers(0, len(thumbnails), (2, 300))

    coarse, similarity = compare(thumbnails, left, right, turn)

    assert np.isfinite([coarse, similarity]).all()
    assert coarse.min() >= 0
    assert coarse.max() <= 1 + 1e-3
    assert np.abs(similarity).max() <= 1 + ROUNDING


# --- The search as a whole ----------------------------------------------------------------------


def test_a_copy_is_as_similar_the_other_way_round(scenes: list[np.ndarray]) -> None:
    pictures = [window(scene) for scene in scenes]
    changes = ({"angle": 3.0}, {"zoom": 1.1}, {"right": 4.0, "down": -2.0})

    for change in changes:
        changed = [window(scene, **change) for scene in scenes]
        one, other = (similarities(*two)[1] for two in ((pictures, changed), (changed, pictures)))
        np.testing.assert_allclose(one, other, atol=0.02)


def test_the_order_of_the_pairs_and_how_they_are_divided_has_no_say(
    textured_picture: Texture,
) -> None:
    pictures = [textured_picture(seed, SIDE, SIDE) for seed in range(8)]
    pictures += [picture[2:, 3:] for picture in pictures]
    thumbnails = thumbnails_of(pictures)
    bands = band_passed(thumbnails)
    left, right = np.divmod(np.arange(256), 16)
    turns = np.random.default_rng(0).choice([0, 0, MIRRORED, 3], 256)
    order = np.random.default_rng(1).permutation(256)

    def run(at: np.ndarray) -> np.ndarray:
        three = left[at], right[at], turns[at]
        coarse = coarse_similarity(bands, *three)
        return np.stack([coarse, registered_similarity(thumbnails, bands, *three)[0]])

    whole = run(np.arange(256))
    shuffled = run(order)
    divided = np.concatenate([run(part) for part in np.split(order, [1, 2, 50, 51])], axis=1)

    np.testing.assert_array_equal(shuffled, whole[:, order])
    np.testing.assert_array_equal(divided, shuffled)
    assert (whole[1] >= REMOVE).sum() >= 16


def test_the_thumbnails_are_not_changed(textured_picture: Texture) -> None:
    thumbnails = thumbnails_of([textured_picture(seed) for seed in range(3)])
    before = thumbnails.copy()

    of_all_pairs(thumbnails, 5)

    np.testing.assert_array_equal(thumbnails, before)


def test_no_pairs_have_no_similarity(textured_picture: Texture) -> None:
    none = np.empty(0, np.int64)

    assert compare(thumbnails_of([textured_picture(0)]), none, none, 0).shape == (2, 0)


def test_bands_know_no_brightness_and_no_colour() -> None:
    rng = np.random.default_rng(0)
    dim = rng.integers(0, 128, (5, THUMBNAIL_BYTES), dtype=np.uint8)
    brighter = dim + np.uint8(100)
    brighter[:, THUMBNAIL_SIDE**2 :] = rng.integers(0, 256, (5, 512), dtype=np.uint8)

    bands = band_passed(dim)

    assert bands.shape == (5, 16, 16)
    np.testing.assert_allclose(band_passed(brighter), bands, atol=1e-4)
    assert np.abs(band_passed(np.full((1, THUMBNAIL_BYTES), 77, np.uint8))).max() < 1e-4
