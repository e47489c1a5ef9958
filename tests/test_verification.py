"""What a pair is depends on its detail, and on what unrelated images of the set reach."""

import hashlib
import io
from collections.abc import Sequence

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.lib.duplicates import SearchParams, find_duplicates
from stages.lib.images import THUMBNAIL_BYTES, Picture
from stages.lib.measuring import columns_of, measure
from tests.test_detail import scene

SEARCH = SearchParams(10, 3, True, False, 0.85, 0.72)


def encoded(pixels: Picture, quality: int = 95) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def levels(files: list[bytes], search: SearchParams = SEARCH) -> dict[tuple[int, int], str]:
    """Return the level of every judged pair, by the places of the two files."""
    records = [measure(data, hashlib.sha256(data).digest(), 10**8) for data in files]
    rows = pd.DataFrame(columns_of(records, [f"{at}.jpg" for at in range(len(files))]))
    pixels = b"".join(small or bytes(THUMBNAIL_BYTES) for small in rows["thumbnail"])
    thumbnails = np.frombuffer(pixels, np.uint8).reshape(-1, THUMBNAIL_BYTES)
    details = rows["detail"].tolist()

    def read(wanted: Sequence[int]) -> dict[int, bytes]:
        return {at: details[at] for at in wanted}

    rows = rows.assign(thumbnail=np.arange(len(rows)))
    pairs = find_duplicates(rows, thumbnails, read, search)
    ends = zip(pairs["left"], pairs["right"], pairs["level"], strict=True)
    return {(int(left), int(right)): str(level) for left, right, level in ends}


def found(files: list[bytes]) -> dict[tuple[int, int], str]:
    """Return the pairs at level remove or group."""
    return {pair: level for pair, level in levels(files).items() if level != "look_alike"}


def in_other_light(pixels: Picture, seed: int) -> Picture:
    """Return a second exposure from the same place: other light, and noise of its own."""
    height, width = pixels.shape[:2]
    random = np.random.default_rng(seed)
    ramp = (
        np.linspace(0.75, 1.1, width)[None, :, None] * np.linspace(1.1, 0.85, height)[:, None, None]
    )
    return np.clip(pixels * ramp + random.normal(0, 4, pixels.shape), 0, 255).astype(np.uint8)


def form(number: int) -> Picture:
    """Return a form filled in with other words each time."""
    random = np.random.default_rng(number)
    page = np.full((400, 300, 3), 255, np.uint8)
    cv2.putText(page, "DELIVERY", (30, 40), 0, 0.9, (0, 0, 0), 2)
    for row in range(9):
        cv2.line(page, (20, 70 + 36 * row), (280, 70 + 36 * row), (0, 0, 0), 2)
        text = "".join(random.choice(list("abcdefghik "), int(random.integers(4, 14))))
        cv2.putText(page, text, (30, 96 + 36 * row), 0, 0.6, (0, 0, 0), 1, cv2.LINE_AA)
    return page


def test_a_copy_is_to_be_removed() -> None:
    originals = [scene(seed) for seed in range(6)]
    smaller = np.asarray(
        cv2.resize(originals[0], (150, 120), interpolation=cv2.INTER_AREA), np.uint8
    )
    files = [encoded(pixels) for pixels in originals]
    files += [
        encoded(smaller, 85),
        encoded(originals[1], 60),
        encoded(originals[2][:, ::-1].copy()),
    ]

    assert found(files) == {(0, 6): "remove", (1, 7): "remove", (2, 8): "remove"}


def test_another_exposure_of_the_scene_is_only_grouped() -> None:
    originals = [scene(seed) for seed in range(6)]
    files = [encoded(pixels) for pixels in (*originals, in_other_light(originals[0], 9))]

    assert found(files) == {(0, 6): "group"}


def test_a_copy_with_a_caption_is_grouped() -> None:
    originals = [scene(seed) for seed in range(6)]
    captioned = originals[0].copy()
    captioned[-14:] = 255
    files = [encoded(pixels) for pixels in (*originals, captioned)]

    assert found(files) == {(0, 6): "group"}


def test_things_of_one_kind_are_neither() -> None:
    judged = levels([encoded(form(number)) for number in range(24)])

    assert len(judged) > 20  # they do resemble each other
    assert set(judged.values()) == {"look_alike"}


def photographed_part(number: int, freedom: float) -> Picture:
    """Return a part from a fixed camera, every second one with a hole less; each with own noise."""
    random = np.random.default_rng(number)
    page = np.full((240, 320, 3), (165, 168, 170), np.uint8)
    cv2.rectangle(page, (60, 50), (260, 190), (95, 98, 102), -1)
    holes = [(90, 75), (230, 75), (90, 165), (230, 165)][number % 2 :]
    for place in holes:
        cv2.circle(page, place, 10, (40, 40, 40), -1, cv2.LINE_AA)
    cv2.circle(page, (160, 120), 34, (140, 132, 115), -1, cv2.LINE_AA)
    cv2.putText(page, "AX-204", (115, 85), 0, 0.7, (190, 185, 180), 1, cv2.LINE_AA)
    shift = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    shift[:, 2] = random.uniform(-3, 3, 2) * freedom
    shot = cv2.warpAffine(page.astype(np.float32), shift, (320, 240), borderMode=1)
    shot = shot * (1 + random.uniform(-0.05, 0.05) * freedom) + random.normal(0, 3, shot.shape)
    return np.clip(shot, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("freedom", [0.0, 0.3])
@pytest.mark.parametrize("count", [24, 60])
def test_a_part_photographed_again_from_a_fixed_place_is_no_copy(
    count: int, freedom: float
) -> None:
    judged = levels([encoded(photographed_part(number, freedom)) for number in range(count)])

    assert len(judged) >= count
    assert set(judged.values()) == {"look_alike"}


@pytest.mark.parametrize(("originals", "versions"), [(8, 6), (8, 10), (3, 6)])
def test_versions_of_few_originals_are_copies_though_they_fill_the_set(
    originals: int, versions: int
) -> None:
    files = [
        encoded(scene(seed), 95 - 4 * version)
        for seed in range(originals)
        for version in range(versions)
    ]

    pairs = found(files)

    assert {left // versions == right // versions for left, right in pairs} == {True}
    assert {at for pair in pairs for at in pair} == set(range(len(files)))


def test_a_copy_among_look_alikes_is_found_and_it_alone() -> None:
    files = [encoded(form(number)) for number in range(24)] + [encoded(form(5), 80)]

    assert set(found(files)) == {(5, 24)}


def test_many_copies_of_one_image_are_no_crowd_in_a_set_of_many() -> None:
    files = [encoded(scene(seed)) for seed in range(60)]
    files += [encoded(scene(0), quality) for quality in range(60, 90, 3)]

    copies = {0, *range(60, 70)}
    pairs = found(files)
    assert {at for pair in pairs for at in pair} == copies
    assert set(pairs.values()) == {"remove"}


def test_a_repainted_part_speaks_against_a_copy() -> None:
    originals = [scene(seed) for seed in range(6)]
    repainted = originals[0].copy()
    repainted[50:110, 70:130, 2] //= 3
    files = [encoded(pixels) for pixels in (*originals, repainted)]

    assert found(files).get((0, 6)) in (None, "group")


def test_mirror_images_are_sought_only_where_they_are_copies() -> None:
    files = [encoded(scene(seed)) for seed in range(6)] + [encoded(scene(0)[:, ::-1].copy())]
    unmirrored = SearchParams(10, 3, False, False, 0.85, 0.72)

    assert (0, 6) in levels(files)
    assert (0, 6) not in levels(files, unmirrored)


def test_without_a_detail_image_the_thumbnail_alone_decides() -> None:
    small = [np.asarray(cv2.resize(scene(seed), (32, 32)), np.uint8) for seed in range(6)]
    files = [encoded(pixels) for pixels in small] + [encoded(small[0], 70)]

    assert (0, 6) in found(files)


def test_the_order_of_the_files_does_not_matter() -> None:
    originals = [scene(seed) for seed in range(5)]
    files = [encoded(pixels) for pixels in (*originals, in_other_light(originals[3], 9))]
    turned = files[::-1]

    forward, backward = levels(files), levels(turned)
    last = len(files) - 1
    assert backward == {
        (last - right, last - left): level for (left, right), level in forward.items()
    }
