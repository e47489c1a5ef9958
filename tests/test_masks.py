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


def not_masks(case: str, picture_file: Make, mask_file: Make, encode: Make) -> dict[str, bytes]:
    """Return files beside photographs that could be taken for masks, and are none."""
    photographs = {f"cat/{n}.jpg": picture_file(n, "jpeg") for n in range(6)}
    masks = {n: mask_file(n + 1) for n in range(6)}
    if case == "photographs stored as PNG":
        return photographs | {f"cat/{n}.png": picture_file(n) for n in range(6)}
    if case == "other photographs stored as PNG":
        return photographs | {f"cat/{n}.png": picture_file(n + 50) for n in range(6)}
    if case == "drawings of another class with the same numbers":
        return photographs | {f"dog/{n}.png": masks[n] for n in range(6)}
    if case == "drawings of other names":
        return photographs | {f"cat/drawing{n}.png": masks[n] for n in range(6)}
    if case == "drawings in a folder below":
        return photographs | {f"cat/drawings/{n}.png": masks[n] for n in range(6)}
    if case == "drawings of other proportions":
        return photographs | {f"cat/{n}.png": mask_file(n, "png", 64, 64) for n in range(6)}
    if case == "masks stored with loss":
        return photographs | {f"cat/{n}_mask.jpg": mask_file(n, "jpeg") for n in range(6)}
    if case == "drawings stored twice":
        pixels = [np.zeros((48, 64, 3), np.uint8) for _ in range(6)]
        for n, drawing in enumerate(pixels):
            drawing[:, : 8 + 8 * n] = 200
        return {
            f"icon/{n}.{suffix}": encode(drawing, encoding)
            for n, drawing in enumerate(pixels)
            for suffix, encoding in (("png", "png"), ("jpg", "jpeg_rough"))
        }
    return {f"cat/{n}.png": masks[n] for n in range(6)}  # without any photograph


@pytest.mark.parametrize(
    "case",
    [
        "photographs stored as PNG",
        "other photographs stored as PNG",
        "drawings of another class with the same numbers",
        "drawings of other names",
        "drawings in a folder below",
        "drawings of other proportions",
        "masks stored with loss",
        "drawings stored twice",
        "drawings without photographs",
    ],
)
def test_what_only_looks_like_a_mask_is_none(
    scanned: Scanned, picture_file: Make, mask_file: Make, encode: Make, case: str
) -> None:
    assert found_in(scanned, not_masks(case, picture_file, mask_file, encode)) == {}


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
