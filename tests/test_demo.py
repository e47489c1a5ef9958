"""What the demo data set promises: reproducible files, and faults that are what the truth says."""

import hashlib
import io
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import simplejpeg
from PIL import Image, ImageOps

from stages.lib.demo import (
    CLASS_COUNTS,
    COPIES,
    DAMAGES,
    ENCODING_SHARES,
    FAULT_COUNTS,
    DemoFile,
    is_byte_copy,
    plan_demo,
    truth_table,
    write_demo_file,
)

SEED, SHARE = 7, 0.1


@pytest.fixture(scope="module")
def items() -> list[DemoFile]:
    return plan_demo(SEED, SHARE)


@pytest.fixture(scope="module")
def folder(items: list[DemoFile], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    for item in items:
        write_demo_file(folder, item)
    return folder


@pytest.fixture(scope="module")
def originals(items: list[DemoFile]) -> dict[str, DemoFile]:
    return {item.uri: item for item in items if not item.fault}


def with_fault(items: list[DemoFile], *faults: str) -> list[DemoFile]:
    """Return the files with one of these faults; a test on none of them would prove nothing."""
    found = [item for item in items if item.fault in faults]
    assert {item.fault for item in found} == set(faults)
    return found


def written(folder: Path, items: list[DemoFile]) -> dict[str, bytes]:
    for item in items:
        write_demo_file(folder, item)
    return {item.uri: (folder / item.uri).read_bytes() for item in items}


def is_jpeg(data: bytes) -> bool:
    return data.startswith(b"\xff\xd8\xff")


def decodes_strictly(data: bytes) -> bool:
    try:
        if is_jpeg(data):
            simplejpeg.decode_jpeg(data, strict=True)
        else:
            with Image.open(io.BytesIO(data)) as image:
                image.verify()
            with Image.open(io.BytesIO(data)) as image:
                image.load()
    except (ValueError, OSError, SyntaxError):
        return False
    return True


def grey_pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("L"), dtype=np.float32)


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


# --- The plan ---


def test_the_full_demo_has_the_promised_counts() -> None:
    items = plan_demo(SEED, 1.0)
    assert Counter(item.drawn for item in items if not item.fault) == CLASS_COUNTS
    assert Counter(item.fault for item in items if item.fault) == FAULT_COUNTS
    assert sum(CLASS_COUNTS.values()) == 1740
    assert {item.encoding for item in items} == set(ENCODING_SHARES)


@pytest.mark.parametrize("share", [0.001, 0.02, 0.1])
def test_a_small_share_keeps_six_pictures_a_class_and_one_file_a_fault(share: float) -> None:
    items = plan_demo(SEED, share)
    pictures = Counter(item.drawn for item in items if not item.fault)
    faults = Counter(item.fault for item in items if item.fault)
    assert pictures == {k: max(round(n * share), 6) for k, n in CLASS_COUNTS.items()}
    assert faults == {k: max(round(n * share), 1) for k, n in FAULT_COUNTS.items()}


@pytest.mark.parametrize("share", [0.0, -1.0])
def test_a_share_of_nothing_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=f"share must be above 0, got {share}"):
        plan_demo(SEED, share)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_names_are_unique_in_a_folder_ignoring_case_and_suffix(seed: int) -> None:
    names = [str(Path(item.uri).with_suffix("")).lower() for item in plan_demo(seed, 1.0)]
    assert len(set(names)) == len(names)


def test_the_plan_is_sorted_by_uri_and_every_folder_is_a_class(items: list[DemoFile]) -> None:
    uris = [item.uri for item in items]
    assert uris == sorted(uris)
    assert {uri.split("/")[0] for uri in uris} == set(CLASS_COUNTS)


def test_no_picture_is_copied_twice_and_every_class_is_copied() -> None:
    copies = [item for item in plan_demo(SEED, 1.0) if item.fault in COPIES]
    assert len({item.original_uri for item in copies}) == len(copies) == sum(COPIES.values())
    assert {item.drawn for item in copies} == set(CLASS_COUNTS)


def test_no_two_different_pictures_share_a_seed(items: list[DemoFile]) -> None:
    seeds = [item.seed for item in items if item.fault not in COPIES]
    assert len(set(seeds)) == len(seeds)


def test_the_truth_lists_the_planted_faults_and_nothing_else(items: list[DemoFile]) -> None:
    truth = truth_table(items)
    expected = pd.DataFrame(
        [(item.uri, item.fault, item.original_uri) for item in items if item.fault],
        columns=["uri", "fault", "original_uri"],
    )
    pd.testing.assert_frame_equal(truth, expected)
    pd.testing.assert_frame_equal(truth_table(items[::-1]), expected)
    assert (truth["original_uri"] != "").tolist() == truth["fault"].isin(COPIES).tolist()


# --- The bytes ---


def test_the_same_seed_gives_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    forwards = written(tmp_path / "a", plan_demo(SEED, 0.001))
    backwards = written(tmp_path / "b", plan_demo(SEED, 0.001)[::-1])
    assert forwards == backwards


def test_another_seed_gives_other_pictures(tmp_path: Path, folder: Path) -> None:
    other = written(tmp_path, plan_demo(SEED + 1, 0.001))
    ours = {path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    fixed = {b"", *(other[item.uri] for item in plan_demo(SEED + 1, 0.001) if item.fault == "html")}
    assert not ours & (set(other.values()) - fixed)


def test_every_planned_file_is_written_and_no_other(folder: Path, items: list[DemoFile]) -> None:
    found = sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*"))
    assert found == [item.uri for item in items]


def test_clean_pictures_decode_strictly_and_match_their_suffix(
    folder: Path, originals: dict[str, DemoFile]
) -> None:
    for uri in originals:
        data = (folder / uri).read_bytes()
        assert decodes_strictly(data), uri
        assert is_jpeg(data) == Path(uri).suffix.lower().startswith(".jp"), uri


def test_clean_pictures_have_the_planned_size_once_upright(
    folder: Path, originals: dict[str, DemoFile]
) -> None:
    for uri, item in originals.items():
        assert grey_pixels(folder / uri).shape == (item.height, item.width), uri
        assert 64 <= min(item.width, item.height) <= max(item.width, item.height) <= 160


@pytest.mark.parametrize(
    ("encoding", "mode"),
    [("grey_jpeg", "L"), ("grey_png", "L"), ("palette_png", "P"), ("alpha_png", "RGBA")],
)
def test_an_encoding_stores_its_colour_mode(tmp_path: Path, encoding: str, mode: str) -> None:
    item = replace(plan_demo(SEED, 0.001)[0], encoding=encoding, fault="")
    write_demo_file(tmp_path, item)
    with Image.open(tmp_path / item.uri) as image:
        assert image.mode == mode


def test_a_rotated_jpeg_shows_the_same_picture_once_upright(tmp_path: Path) -> None:
    item = replace(plan_demo(SEED, 0.001)[0], fault="", quality=95)
    write_demo_file(tmp_path / "plain", replace(item, encoding="jpeg"))
    write_demo_file(tmp_path / "rotated", replace(item, encoding="rotated_jpeg"))
    with Image.open(tmp_path / "rotated" / item.uri) as image:
        assert image.getexif()[0x0112] == 6
        assert image.size == (item.height, item.width)
    plain, rotated = (grey_pixels(tmp_path / name / item.uri) for name in ("plain", "rotated"))
    assert correlation(plain, rotated) > 0.98


# --- The faults ---


@pytest.mark.parametrize("seed", range(3))
def test_truncated_and_zeroed_pictures_never_decode_strictly(tmp_path: Path, seed: int) -> None:
    for item in with_fault(plan_demo(seed, 1.0), "truncated", "zeroed"):
        write_demo_file(tmp_path, item)
        assert not decodes_strictly((tmp_path / item.uri).read_bytes()), item


@pytest.mark.parametrize("fault", ["truncated", "zeroed"])
def test_both_formats_are_damaged(fault: str) -> None:
    damaged = with_fault(plan_demo(SEED, 1.0), fault)
    assert {item.encoding for item in damaged} == {"jpeg", "png"}


def test_every_damaged_file_of_the_plan_is_rejected(folder: Path, items: list[DemoFile]) -> None:
    for item in with_fault(items, *DAMAGES):
        assert not decodes_strictly((folder / item.uri).read_bytes()), item


def test_zeroed_pictures_keep_their_length_and_their_header(
    folder: Path, items: list[DemoFile], tmp_path: Path
) -> None:
    for item in with_fault(items, "zeroed"):
        write_demo_file(tmp_path, replace(item, fault=""))
        whole, zeroed = ((root / item.uri).read_bytes() for root in (tmp_path, folder))
        assert len(zeroed) == len(whole)
        assert zeroed[:100] == whole[:100]
        assert zeroed.count(0) > whole.count(0) + 0.15 * len(whole)


def test_empty_files_are_empty_and_html_files_are_pages(
    folder: Path, items: list[DemoFile]
) -> None:
    for item in with_fault(items, "empty"):
        assert (folder / item.uri).read_bytes() == b""
    for item in with_fault(items, "html"):
        assert (folder / item.uri).read_bytes().startswith(b"<!DOCTYPE html>")
        assert item.uri.endswith(".jpg")


def test_wrong_extensions_are_good_pictures_of_the_other_format(
    folder: Path, items: list[DemoFile]
) -> None:
    for item in with_fault(items, "wrong_extension"):
        data = (folder / item.uri).read_bytes()
        assert decodes_strictly(data), item.uri
        assert is_jpeg(data) != Path(item.uri).suffix.lower().startswith(".jp"), item.uri


def test_both_wrong_extensions_occur() -> None:
    wrong = with_fault(plan_demo(SEED, 1.0), "wrong_extension")
    assert {item.encoding for item in wrong} == {"jpeg", "png"}


def test_exact_copies_have_the_bytes_of_their_original(folder: Path, items: list[DemoFile]) -> None:
    for item in with_fault(items, "exact_copy"):
        copy, original = folder / item.uri, folder / item.original_uri
        digests = {hashlib.sha256(path.read_bytes()).digest() for path in (copy, original)}
        assert len(digests) == 1
        assert copy.parent == original.parent


def test_other_labels_sit_in_another_folder_as_bytes_or_re_encoded(
    tmp_path: Path,
) -> None:
    planned = {item.uri: item for item in plan_demo(SEED, 1.0)}
    kinds = set()
    for item in with_fault(list(planned.values()), "other_label"):
        written(tmp_path, [item, planned[item.original_uri]])
        copy, original = tmp_path / item.uri, tmp_path / item.original_uri
        assert copy.parent != original.parent
        assert (copy.read_bytes() == original.read_bytes()) == is_byte_copy(item)
        assert correlation(grey_pixels(copy), grey_pixels(original)) > 0.9
        kinds.add(is_byte_copy(item))
    assert kinds == {True, False}


def test_changed_copies_have_other_bytes_but_decode_strictly(
    folder: Path, items: list[DemoFile]
) -> None:
    changed = ("reencoded", "resized", "brightened_shifted", "mirrored")
    for item in with_fault(items, *changed):
        data = (folder / item.uri).read_bytes()
        assert decodes_strictly(data), item.uri
        assert data != (folder / item.original_uri).read_bytes()
        assert is_jpeg(data) == Path(item.uri).suffix.lower().startswith(".jp"), item.uri


def test_re_encoded_copies_are_jpegs_that_look_like_their_original(
    folder: Path, items: list[DemoFile]
) -> None:
    for item in with_fault(items, "reencoded"):
        assert is_jpeg((folder / item.uri).read_bytes())
        copy, original = grey_pixels(folder / item.uri), grey_pixels(folder / item.original_uri)
        assert correlation(copy, original) > 0.9


def test_resized_copies_have_another_size_and_the_same_picture(
    folder: Path, items: list[DemoFile]
) -> None:
    for item in with_fault(items, "resized"):
        copy, original = grey_pixels(folder / item.uri), grey_pixels(folder / item.original_uri)
        assert copy.shape != original.shape
        assert 0.48 <= copy.shape[0] / original.shape[0] <= 1.52
        back = Image.fromarray(copy).resize((original.shape[1], original.shape[0]))
        assert correlation(np.asarray(back), original) > 0.8


def test_mirrored_copies_match_only_when_flipped(folder: Path, items: list[DemoFile]) -> None:
    for item in with_fault(items, "mirrored"):
        copy, original = grey_pixels(folder / item.uri), grey_pixels(folder / item.original_uri)
        assert correlation(copy[:, ::-1], original) > 0.95
        assert correlation(copy, original) < 0.95


def test_brightened_copies_match_after_a_small_shift(folder: Path, items: list[DemoFile]) -> None:
    for item in with_fault(items, "brightened_shifted"):
        copy, original = grey_pixels(folder / item.uri), grey_pixels(folder / item.original_uri)
        assert copy.shape == original.shape
        inner = original[5:-5, 5:-5]
        matches = [
            correlation(np.roll(copy, (down, right), (0, 1))[5:-5, 5:-5], inner)
            for down in range(-5, 6)
            for right in range(-5, 6)
        ]
        assert max(matches) > 0.9
