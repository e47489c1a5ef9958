"""Masks are recognized by what they hold and where they stand; no photograph is taken for one."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import pytest
from reading import as_read

from stages.lib.masks import LEAST_MASKS, find_masks, sentences

Pixels = np.ndarray
Scanned = Callable[..., pd.DataFrame]
Make = Callable[..., bytes]


@pytest.fixture
def mask_file(encode: Make) -> Callable[..., bytes]:
    """Return a maker of masks: black with a white rectangle, none of them for seed 0."""

    def make(seed: int, encoding: str = "png", height: int = 48, width: int = 64) -> bytes:
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[4 : 4 + 3 * seed, 8 : 8 + 4 * seed] = 255
        return encode(pixels, encoding)

    return make


def found_in(scanned: Scanned, files: Mapping[str, bytes]) -> dict[str, str]:
    """Return the photograph of each mask, by uri."""
    rows, thumbnails = as_read(scanned(files))
    photographs = find_masks(rows, thumbnails)
    return {uri: of for uri, of in zip(rows["uri"], photographs, strict=True) if of}


LAYOUTS = {
    "the same folder and name": ("cat/{}.jpg", "cat/{}.png"),
    "a word at the end": ("cat/{}.jpg", "cat/{}_mask.png"),
    "a word and a number at the end": ("cat/{}.jpg", "cat/{}_segmentation_1.png"),
    "a word at the front": ("cat/{}.jpg", "cat/mask_{}.png"),
    "a photograph stored as PNG": ("benign/benign ({}).png", "benign/benign ({})_mask.png"),
    "folders inside a class": ("cat/images/{}.jpg", "cat/masks/{}.png"),
    "a folder beside the photographs": ("cat/{}.jpg", "cat/ground_truth/{}.png"),
    "folders around the classes": ("images/cat/{}.jpg", "SegmentationClass/cat/{}.png"),
    "two folders": ("images/{}.jpg", "annotations/trimaps/{}.png"),
    "both words": ("cat/test/{}.png", "cat/ground_truth/{}_mask.png"),
    "a class with such a name": ("with_mask/{}.jpg", "with_mask/{}.png"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_masks_are_recognized_beside_their_photographs(
    scanned: Scanned, picture_file: Make, mask_file: Make, layout: str
) -> None:
    photograph, mask = LAYOUTS[layout]
    encoding = "png" if photograph.endswith("png") else "jpeg"
    files = {photograph.format(n): picture_file(n, encoding) for n in range(6)}
    files |= {mask.format(n): mask_file(n) for n in range(6)}

    found = found_in(scanned, files)

    assert found == {mask.format(n): photograph.format(n) for n in range(6)}


@pytest.mark.parametrize("encoding", ["png", "bmp", "gif", "tiff"])
def test_every_lossless_format_can_hold_masks(
    scanned: Scanned, picture_file: Make, mask_file: Make, encoding: str
) -> None:
    files = {f"cat/{n}.jpg": picture_file(n, "jpeg") for n in range(6)}
    files |= {f"cat/{n}.{encoding}": mask_file(n, encoding) for n in range(6)}

    assert len(found_in(scanned, files)) == 6


def test_a_mask_of_several_gray_levels_and_of_another_size_is_one(
    scanned: Scanned, picture_file: Make, encode: Make
) -> None:
    levels = np.repeat(np.repeat(np.arange(0, 250, 50, dtype=np.uint8), 20)[None], 75, axis=0)
    mask = np.repeat(levels[:, :, None], 3, axis=2)
    files = {f"cat/{n}.jpg": picture_file(n, "jpeg", 48, 64) for n in range(6)}
    files |= {f"cat/{n}.png": encode(mask) for n in range(6)}

    assert len(found_in(scanned, files)) == 6


def test_few_pairs_are_no_layout(scanned: Scanned, picture_file: Make, mask_file: Make) -> None:
    files = {f"cat/{n}.jpg": picture_file(n, "jpeg") for n in range(LEAST_MASKS - 1)}
    files |= {f"cat/{n}.png": mask_file(n) for n in range(LEAST_MASKS - 1)}

    assert found_in(scanned, files) == {}


# Files beside photographs that could be taken for masks, and are none: for each case the paths and
# the kinds of both.
NO_MASKS = {
    "photographs stored as PNG": ("cat/{}.jpg", "photograph", "cat/{}.png", "photograph"),
    "other photographs": ("cat/{}.jpg", "photograph", "cat/{}.png", "other photograph"),
    "photographs in fog": ("cat/{}.jpg", "photograph", "cat/{}.png", "fog"),
    "drawings of another class": ("cat/{}.jpg", "photograph", "dog/{}.png", "mask"),
    "drawings of other names": ("cat/{}.jpg", "photograph", "cat/drawing{}.png", "mask"),
    "drawings in a folder below": ("cat/{}.jpg", "photograph", "cat/drawn/{}.png", "mask"),
    "drawings in the folder above": ("cat/in/{}.jpg", "photograph", "cat/{}.png", "mask"),
    "a class called like masks": ("without_mask/{}.jpg", "photograph", "with_mask/{}.png", "mask"),
    "drawings of other proportions": ("cat/{}.jpg", "photograph", "cat/{}.png", "square mask"),
    "masks stored with loss": ("cat/{}.jpg", "photograph", "cat/{}_mask.jpg", "mask as JPEG"),
    "drawings stored twice": ("cat/{}.jpg", "drawing as JPEG", "cat/{}.png", "drawing"),
    "two drawings of a name": ("cat/{}.bmp", "drawing", "cat/{}.png", "mask"),
    "drawings without photographs": ("cat/{}.png", "mask", "dog/{}.png", "drawing"),
}


@pytest.fixture
def file_of(
    textured_picture: Callable[..., Pixels], picture_file: Make, mask_file: Make, encode: Make
) -> Callable[[str, int], bytes]:
    """Return a maker of files by what they show and a number."""

    def make(kind: str, n: int) -> bytes:
        blocks = np.random.default_rng(n).integers(0, 2, (12, 16), dtype=np.uint8)
        drawing = np.repeat(np.kron(blocks * 255, np.ones((4, 4), np.uint8))[:, :, None], 3, axis=2)
        return {
            "photograph": lambda: picture_file(n, "jpeg"),
            "other photograph": lambda: picture_file(50 + n),
            "fog": lambda: encode((200 + textured_picture(n) // 12).astype(np.uint8)),
            "mask": lambda: mask_file(n + 1),
            "square mask": lambda: mask_file(n + 1, "png", 64, 64),
            "mask as JPEG": lambda: mask_file(n + 1, "jpeg"),
            "drawing": lambda: encode(drawing),
            "drawing as JPEG": lambda: encode(drawing, "jpeg_rough"),
        }[kind]()

    return make


@pytest.mark.parametrize("case", NO_MASKS)
def test_what_only_looks_like_a_mask_is_none(
    scanned: Scanned, file_of: Callable[[str, int], bytes], case: str
) -> None:
    photograph, one, drawing, other = NO_MASKS[case]
    files = {photograph.format(n): file_of(one, n) for n in range(6)}
    files |= {drawing.format(n): file_of(other, n) for n in range(6)}

    assert found_in(scanned, files) == {}


def test_the_order_of_the_rows_does_not_matter(
    scanned: Scanned, picture_file: Make, mask_file: Make
) -> None:
    files = {f"cat/{n}.{suffix}": picture_file(n, "jpeg") for n in range(6) for suffix in "ab"}
    files |= {f"cat/{n}.png": mask_file(n) for n in range(6)}
    rows, thumbnails = as_read(scanned(files))
    shuffled = rows.sample(frac=1, random_state=1)

    there = dict(zip(rows["uri"], find_masks(rows, thumbnails), strict=True))
    back = dict(zip(shuffled["uri"], find_masks(shuffled, thumbnails), strict=True))

    assert there == back
    assert there["cat/3.png"] == "cat/3.a"


# --- What clean says ----------------------------------------------------------------------------


def said(
    scanned: Scanned, files: Mapping[str, bytes], policy: str = "quarantine", **gone: str
) -> list[str]:
    """gone: reasons of data/removed.csv by the first letters of a uri."""
    rows, thumbnails = as_read(scanned(files))
    reasons = [(uri, why) for uri in rows["uri"] for name, why in gone.items() if name in uri]
    removed = pd.DataFrame(reasons, columns=["uri", "reason"], dtype="str")
    return sentences(rows, find_masks(rows, thumbnails), removed, policy)


@pytest.mark.parametrize(
    ("policy", "done"), [("quarantine", "quarantined"), ("drop", "removed"), ("keep", "kept")]
)
def test_one_sentence_says_how_many_an_example_and_what_to_write(
    scanned: Scanned, picture_file: Make, mask_file: Make, policy: str, done: str
) -> None:
    files = {f"cat/{n}.jpg": picture_file(n, "jpeg") for n in range(6)}
    files |= {f"cat/{n}.png": mask_file(n) for n in range(6)}

    assert said(scanned, files, policy) == [
        f"6 masks {done} (clean.masks: {policy}): few gray levels, each beside its photograph, "
        "as cat/0.png beside cat/0.jpg; "
        "to leave them out by their format write clean.formats: [jpeg]"
    ]


def test_masks_of_a_folder_of_their_own_are_cured_by_its_name(
    scanned: Scanned, picture_file: Make, mask_file: Make
) -> None:
    files = {f"images/{n}.png": picture_file(n) for n in range(6)}
    files |= {f"masks/{n}.png": mask_file(n) for n in range(6)}

    (sentence,) = said(scanned, files)

    assert sentence.endswith("to leave out their folders write download.exclude: [masks]")


def test_masks_like_their_photographs_in_format_and_folder_are_left_to_the_policy(
    scanned: Scanned, picture_file: Make, mask_file: Make
) -> None:
    files = {f"cat/{n}.png": picture_file(n) for n in range(6)}
    files |= {f"cat/{n}_mask.png": mask_file(n) for n in range(6)}

    (sentence,) = said(scanned, files)

    assert sentence.endswith("; clean.masks says what becomes of them")


def test_masks_that_went_for_another_reason_are_not_spoken_of(
    scanned: Scanned, picture_file: Make, mask_file: Make
) -> None:
    files = {f"cat/{n}.jpg": picture_file(n, "jpeg") for n in range(6)}
    files |= {f"cat/{n}.png": mask_file(n) for n in range(6)}

    assert said(scanned, files, png="unwanted_format") == []
    assert said(scanned, files, png="mask") != []
    assert said(scanned, {uri: files[uri] for uri in files if uri.endswith("jpg")}) == []
