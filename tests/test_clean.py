"""Clean decides from the scan's table alone: every row stays or goes once, with a reason."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from reading import as_read, details_of

from stages import clean
from stages.clean import Params
from stages.lib.duplicates import PAIR_COLUMNS
from stages.lib.errors import InputError
from stages.lib.images import THUMBNAIL_BYTES
from stages.lib.metrics import read_metrics
from stages.lib.overrides import Overrides, idle_overrides, relabel
from stages.lib.quality import FlagLimits
from stages.lib.table import (
    CLEAN,
    CLUSTERS,
    DUPLICATES,
    RAW_TRUTH,
    REMOVED,
    SCAN,
    read_table,
    write_table,
)
from stages.lib.tally import class_counts, clean_metrics, require_every_class, summary
from stages.lib.truth import planted_metrics

LIMITS = FlagLimits(
    dark=0.35, bright=0.8, blurry=0, low_information=2.0, odd_size=5.0, odd_aspect=3.0
)
PARAMS = Params(
    keep_suspect=("missing_eoi",),
    formats=("jpeg", "png", "webp", "gif", "bmp", "tiff", "avif", "heif"),
    colours=("grey", "pseudo_grey", "colour", "palette", "alpha", "cmyk", "16bit"),
    min_side=16,
    masks="quarantine",
    single_color="quarantine",
    flags=LIMITS,
    remove_flagged=(),
    hash_radius=10,
    neighbours=3,
    mirrored=True,
    rotations=False,
    remove_similarity=0.85,
    group_similarity=0.7,
    near_duplicates="remove",
    largest_group=0.05,
    label_conflicts="quarantine",
)
NOTHING = Overrides(frozenset(), frozenset(), {}, frozenset())
Scanned = Callable[..., pd.DataFrame]
Maker = Callable[..., bytes]


def decide(
    scan: pd.DataFrame, overrides: Overrides, params: Params
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what stays and what goes."""
    decision = searched(scan, overrides, params)
    return decision.kept, decision.removed


def searched(scan: pd.DataFrame, overrides: Overrides, params: Params) -> clean.Decision:
    """Return all that is decided. scan: as the fixture makes it, with thumbnails as bytes."""
    return clean.decide(*as_read(scan), details_of(scan), overrides, params)


def reasons(removed: pd.DataFrame) -> dict[str, str]:
    return dict(zip(removed["uri"], removed["reason"], strict=True))


def id_of(scan: pd.DataFrame, uri: str) -> str:
    return str(scan.set_index("uri").loc[uri, "image_id"])


@pytest.fixture
def mixed(picture_file: Maker) -> dict[str, bytes]:
    """Return files of every kind: sound, damaged, small, copied, in conflict."""
    sound = {f"cat/{n}.png": picture_file(n) for n in range(4)}
    sound |= {f"dog/{n}.jpg": picture_file(10 + n, "jpeg") for n in range(4)}
    whole = picture_file(20, "jpeg")
    return sound | {
        "cat/empty.jpg": b"",
        "cat/half.jpg": whole[: len(whole) // 2],
        "cat/page.jpg": b"<html></html>",
        "cat/no_end.jpg": picture_file(21, "jpeg")[:-2],
        "cat/tiny.png": picture_file(22, height=15, width=40),
        "cat/copy.png": picture_file(0),
        "cat/again.jpg": picture_file(1, "jpeg"),
        "dog/cat_in_fact.jpg": picture_file(2, "jpeg"),
    }


# --- What stays and what goes -------------------------------------------------------------------


def test_1_kept_and_removed_are_all_rows_exactly_once(
    scanned: Scanned, mixed: dict[str, bytes]
) -> None:
    kept, removed = decide(scanned(mixed), NOTHING, PARAMS)

    assert sorted([*kept["uri"], *removed["uri"]]) == sorted(mixed)


def test_2_everything_removed_has_its_reason(scanned: Scanned, mixed: dict[str, bytes]) -> None:
    _, removed = decide(scanned(mixed), NOTHING, PARAMS)

    assert reasons(removed) == {
        "cat/empty.jpg": "empty",
        "cat/half.jpg": "truncated",
        "cat/page.jpg": "html_page",
        "cat/tiny.png": "too_small",
        "cat/copy.png": "exact_duplicate",
        "cat/again.jpg": "near_duplicate",
        "cat/2.png": "label_conflict",
        "dog/cat_in_fact.jpg": "label_conflict",
    }
    kept_uris = removed.set_index("uri")["kept_uri"]
    assert kept_uris["cat/copy.png"] == "cat/0.png"
    assert kept_uris["cat/again.jpg"] == "cat/1.png"


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_3_the_order_of_the_rows_has_no_say(
    scanned: Scanned, mixed: dict[str, bytes], seed: int | None
) -> None:
    scan = scanned(mixed)

    there = decide(scan, NOTHING, PARAMS)
    shuffled = scan.iloc[::-1] if seed is None else scan.sample(frac=1, random_state=seed)
    back = decide(shuffled, NOTHING, PARAMS)

    for one, other in zip(there, back, strict=True):
        assert_frame_equal(
            *(table.sort_values("uri").reset_index(drop=True) for table in (one, other))
        )


def test_4_the_scan_is_not_changed(scanned: Scanned, mixed: dict[str, bytes]) -> None:
    scan = scanned(mixed)
    before = scan.copy(deep=True)

    decide(scan, replace(NOTHING, relabel={id_of(scan, "cat/0.png"): "dog"}), PARAMS)

    assert_frame_equal(scan, before)


def test_a_set_without_faults_stays_whole(scanned: Scanned, picture_file: Maker) -> None:
    files = {f"cat/{n}.png": picture_file(n) for n in range(5)}
    files |= {f"dog/{n}.png": picture_file(n) for n in range(5, 10)}

    kept, removed = decide(scanned(files), NOTHING, PARAMS)

    assert (len(kept), len(removed), kept["group_id"].nunique()) == (10, 0, 10)


@pytest.mark.parametrize("keep_suspect", [(), ("missing_eoi",), ("damaged",)])
def test_suspect_files_stay_as_the_policy_says(
    scanned: Scanned, picture_file: Maker, keep_suspect: Any
) -> None:
    scan = scanned(
        {"cat/1.jpg": picture_file(1, "jpeg")[:-2], "cat/2.jpg": picture_file(2, "jpeg")[:-2]}
    )
    scan.loc[1, "reason"] = "damaged"

    _, removed = decide(scan, NOTHING, replace(PARAMS, keep_suspect=keep_suspect))

    suspect = {"cat/1.jpg": "missing_eoi", "cat/2.jpg": "damaged"}
    assert reasons(removed) == {
        uri: reason for uri, reason in suspect.items() if reason not in keep_suspect
    }


@pytest.mark.parametrize(("min_side", "gone"), [(15, 0), (16, 1), (40, 1), (41, 2)])
def test_the_shorter_side_counts_and_the_limit_is_inclusive(
    scanned: Scanned, picture_file: Maker, min_side: int, gone: int
) -> None:
    scan = scanned(
        {
            "cat/1.png": picture_file(1, height=15, width=80),
            "cat/2.png": picture_file(2, height=80, width=40),
        }
    )

    _, removed = decide(scan, NOTHING, replace(PARAMS, min_side=min_side))

    assert len(removed) == gone
    assert set(removed["reason"]) <= {"too_small"}


@pytest.mark.parametrize("policy", ["quarantine", "keep"])
def test_a_label_conflict_is_quarantined_or_kept_in_one_group(
    scanned: Scanned, picture_file: Maker, policy: Any
) -> None:
    scan = scanned({"cat/1.png": picture_file(1), "dog/1.jpg": picture_file(1, "jpeg")})

    kept, removed = decide(scan, NOTHING, replace(PARAMS, label_conflicts=policy))

    if policy == "quarantine":
        assert removed["action"].tolist() == ["quarantine", "quarantine"]
        assert removed["kept_uri"].tolist() == ["dog/1.jpg", "cat/1.png"]
    else:
        assert removed.empty
        assert kept["group_id"].nunique() == 1


def test_a_level_of_groups_above_that_of_removal_is_refused(project: Callable[..., Path]) -> None:
    project(clean={"remove_similarity": 0.9, "group_similarity": 0.95})

    with pytest.raises(InputError, match=r"at most clean.remove_similarity \(0\.9\), got 0\.95"):
        clean.main()


def test_a_majority_of_pictures_decides_a_conflict_where_there_is_one(
    scanned: Scanned, picture_file: Maker
) -> None:
    files = {"cat/1.png": picture_file(1), "dog/1.jpg": picture_file(1, "jpeg")}
    files |= {"cat/2.jpg": picture_file(1, "webp")}
    files |= {"cat/3.png": picture_file(2), "dog/3.jpg": picture_file(2, "jpeg")}
    majority = replace(PARAMS, label_conflicts="majority")

    kept, removed = decide(scanned(files), NOTHING, majority)

    assert kept["uri"].tolist() == ["cat/1.png"]
    found = removed.set_index("uri")[["action", "reason", "kept_uri"]]
    assert found.loc["dog/1.jpg"].tolist() == ["remove", "label_conflict", "cat/1.png"]
    assert found.loc["cat/2.jpg"].tolist() == ["remove", "near_duplicate", "cat/1.png"]
    assert found.loc["cat/3.png"].tolist() == ["quarantine", "label_conflict", "dog/3.jpg"]


# --- Flags --------------------------------------------------------------------------------------


@pytest.mark.parametrize("remove", [(), ("odd_aspect",)])
def test_a_flag_marks_and_removes_only_if_asked_to(
    scanned: Scanned, picture_file: Maker, remove: Any
) -> None:
    files = {"cat/1.png": picture_file(1), "cat/long.png": picture_file(2, height=20, width=80)}

    kept, removed = decide(scanned(files), NOTHING, replace(PARAMS, remove_flagged=remove))

    assert reasons(removed) == dict.fromkeys(["cat/long.png"] if remove else [], "odd_aspect")
    assert kept["flags"].tolist() == ([""] if remove else ["", "odd_aspect"])


# --- No content ---------------------------------------------------------------------------------


@pytest.fixture
def hollow(picture_file: Maker, encode: Maker) -> dict[str, bytes]:
    """Return photographs with their masks, some of those all black, and images of one color."""
    files = {f"cat/{n}.jpg": picture_file(n, "jpeg") for n in range(5)}
    files |= {f"dog/{n}.jpg": picture_file(10 + n, "jpeg") for n in range(3)}
    for n in range(5):
        mask = np.zeros((48, 64, 3), np.uint8)
        mask[4 : 4 + 9 * (n // 3), 8:40] = 255
        files[f"cat/{n}.png"] = encode(mask)
    gray = np.full((48, 64, 3), 130, np.uint8)
    noise = np.random.default_rng(1).integers(-2, 3, gray.shape)
    files["dog/gray.png"] = encode(gray)
    files["cat/gray.jpg"] = encode((gray + noise).astype(np.uint8), "jpeg_rough")
    return files


MASKS = {f"cat/{n}.png": "mask" for n in range(5)}
SINGLE = {"dog/gray.png": "single_color", "cat/gray.jpg": "single_color"}


@pytest.mark.parametrize(
    ("treatment", "action"), [("quarantine", "quarantine"), ("drop", "remove")]
)
def test_masks_and_single_colors_go_for_reasons_of_their_own(
    scanned: Scanned, hollow: dict[str, bytes], treatment: Any, action: str
) -> None:
    params = replace(PARAMS, masks=treatment, single_color=treatment)

    kept, removed = decide(scanned(hollow), NOTHING, params)

    assert reasons(removed) == MASKS | SINGLE
    assert set(removed["action"]) == {action}
    rules = removed.set_index("uri")["rule"]
    assert rules["cat/4.png"].endswith(" of 8 bits) beside cat/4.jpg")
    assert rules["dog/gray.png"] == "one color, or all but one (entropy 0.00 of 8 bits)"
    counts = clean_metrics(kept, removed)
    names = ("masks", "single_color", "kept_masks", "kept_single_color", "exact_duplicates")
    assert {name: counts[name] for name in names} == dict(zip(names, (5, 2, 0, 0, 0), strict=True))
    assert "5 masks, 2 of a single color" in summary(counts)


def test_a_mask_that_is_all_black_is_a_single_color_where_masks_stay(
    scanned: Scanned, hollow: dict[str, bytes]
) -> None:
    kept, removed = decide(scanned(hollow), NOTHING, replace(PARAMS, masks="keep"))

    black = dict.fromkeys(["cat/0.png", "cat/1.png", "cat/2.png"], "single_color")
    assert reasons(removed) == SINGLE | black | {"cat/4.png": "exact_duplicate"}
    assert kept.set_index("uri").loc["cat/3.png", "flags"] == "low_information mask"


def test_what_is_kept_without_content_bears_a_flag_and_is_not_comparable(
    scanned: Scanned, hollow: dict[str, bytes]
) -> None:
    params = replace(PARAMS, masks="keep", single_color="keep")

    kept, removed = decide(scanned(hollow), NOTHING, params)

    assert set(removed["reason"]) == {"exact_duplicate"}
    of_gray = kept.set_index("uri")[["flags", "comparable"]].loc[["cat/gray.jpg", "dog/gray.png"]]
    assert of_gray["flags"].str.contains("single_color").all()
    assert not of_gray["comparable"].any()
    assert kept.loc[kept["uri"].isin(["cat/1.jpg", "cat/3.png"]), "comparable"].all()
    counts = clean_metrics(kept, removed)
    assert (counts["masks"], counts["kept_masks"]) == (0, 2)
    assert (counts["single_color"], counts["kept_single_color"]) == (0, 3)
    assert counts["not_comparable"] == 3
    assert summary(counts).endswith("; 3 kept but not comparable: too flat, dark or small")


def test_a_person_can_keep_a_mask_and_a_single_color(
    scanned: Scanned, hollow: dict[str, bytes]
) -> None:
    scan = scanned(hollow)
    wanted = {"cat/3.png", "dog/gray.png"}
    overrides = replace(NOTHING, keep=frozenset(id_of(scan, uri) for uri in wanted))

    kept, _ = decide(scan, overrides, PARAMS)

    assert wanted <= set(kept["uri"])


def test_a_set_with_content_has_none_of_it(scanned: Scanned, mixed: dict[str, bytes]) -> None:
    kept, removed = decide(scanned(mixed), NOTHING, PARAMS)

    counts = clean_metrics(kept, removed)

    assert kept["comparable"].all()
    assert (counts["masks"], counts["single_color"], counts["not_comparable"]) == (0, 0, 0)
    assert "comparable" not in summary(counts)


@pytest.mark.parametrize("treatment", ["quarantine", "keep"])
def test_clean_warns_of_masks_and_of_flags_that_are_widespread(
    project: Callable[..., Path],
    scanned: Scanned,
    hollow: dict[str, bytes],
    capsys: pytest.CaptureFixture[str],
    treatment: str,
) -> None:
    project(clean={"masks": treatment, "single_color": "quarantine", "min_side": 16})
    write_table(Path("data/scan.parquet"), scanned(hollow), SCAN)
    write_table(
        Path("data/raw_truth.csv"), pd.DataFrame(columns=list(RAW_TRUTH.columns)), RAW_TRUTH
    )

    clean.main()

    lines = capsys.readouterr().out.splitlines()
    warnings = [line for line in lines if line.startswith("clean: warning: ")]
    found = read_metrics("clean")
    of_masks = [line for line in warnings if " masks " in line]
    assert len(of_masks) == 1
    assert of_masks[0].endswith("; clean.masks says what becomes of them")
    kept = read_table(Path("data/clean.parquet"), CLEAN)
    assert len(kept) == found["kept"]
    assert found["not_comparable"] == (~kept["comparable"]).sum()
    assert found["masks"] == (5 if treatment == "quarantine" else 0)
    assert len(warnings) == 1 + found["widespread_flags"]


# --- Properties, on random tables ---------------------------------------------------------------

LABELS, SPLIT_NAMES = ["cat", "dog", "owl"], ["", "train", "val", "test"]
Similarities = dict[frozenset[str], float]


@st.composite
def scans(draw: st.DrawFn, splits: list[str] = SPLIT_NAMES) -> tuple[pd.DataFrame, Similarities]:
    """Return a scan's table of few pictures with many ties, and which of them are how similar."""
    ids = list("ABCDEFG")
    width = {name: draw(st.sampled_from([8, 64, 80])) for name in ids}
    verdict = {name: draw(st.sampled_from(["ok"] * 9 + ["corrupt"])) for name in ids}
    chosen = draw(st.lists(st.sampled_from(ids), min_size=1, max_size=12))
    rows = [
        {
            "uri": f"{at:02}",
            "label": draw(st.sampled_from(LABELS)),
            "official_split": draw(st.sampled_from(splits)),
            "clip": draw(st.sampled_from(["", "", "", "x"])),
            "image_id": name,
            "width": width[name],
            "verdict": verdict[name],
            "reason": "truncated" if verdict[name] == "corrupt" else "",
        }
        for at, name in enumerate(chosen)
    ]
    usual = {"bytes": 9, "format": "png", "height": 64, "mode": "RGB", "colour": "colour"}
    usual |= {"orientation": 1, "brightness": 0.5, "brightness_low": 0.2}
    usual |= {"brightness_high": 0.9, "sharpness": 900.0, "entropy": 7.0}
    usual |= {"phash": 0, "phash_mirrored": 0, "thumbnail": 0}
    pairs = st.sampled_from([frozenset(pair) for pair in combinations(ids, 2)])
    levels = st.sampled_from([0.91, 0.96, 0.97, 0.99])
    return pd.DataFrame(rows).assign(**usual), draw(st.dictionaries(pairs, levels, max_size=9))


def decided(
    scan: pd.DataFrame, similar: Similarities, policy: Any, overrides: Overrides = NOTHING
) -> clean.Decision:
    """Return what clean makes of a table of which it is known who resembles whom."""

    def known_pairs(rows: pd.DataFrame, *_: Any) -> pd.DataFrame:
        names = rows["image_id"].tolist()
        pairs = [
            (left, right, similar[frozenset((names[left], names[right]))])
            for left, right in combinations(range(len(names)), 2)
            if frozenset((names[left], names[right])) in similar
        ]
        frame = pd.DataFrame(pairs, columns=["left", "right", "similarity"])
        frame = frame.astype({"left": "int64", "right": "int64", "similarity": "float64"})
        level = np.where(frame["similarity"] >= 0.95, "remove", "group").astype(object)
        frame = frame.assign(mirrored=False, rotation=0, distance=4, level=level)
        return frame.assign(detail=0.9, background=0.0)[list(PAIR_COLUMNS)]

    params = replace(PARAMS, remove_similarity=0.95, group_similarity=0.9, label_conflicts=policy)
    nothing = np.zeros((1, THUMBNAIL_BYTES), np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clean, "find_duplicates", known_pairs)
        return clean.decide(scan, nothing, lambda wanted: {}, overrides, params)


FEW = settings(max_examples=20, deadline=None)  # each one is a run of clean
POLICIES = st.sampled_from(["quarantine", "majority", "keep"])


@FEW
@given(scans(), POLICIES)
def test_every_file_is_kept_or_a_row_of_removed(
    drawn: tuple[pd.DataFrame, Similarities], policy: str
) -> None:
    found = decided(*drawn, policy)

    assert sorted([*found.kept["uri"], *found.removed["uri"]]) == drawn[0]["uri"].tolist()
    assert not (found.removed[["reason", "rule"]] == "").any(axis=None)


@FEW
@given(scans(), POLICIES, st.randoms(use_true_random=False))
def test_no_table_depends_on_the_order_of_the_rows(
    drawn: tuple[pd.DataFrame, Similarities], policy: str, random: Random
) -> None:
    scan, similar = drawn
    order = random.sample(range(len(scan)), len(scan))
    contracts = (CLEAN, REMOVED, DUPLICATES, CLUSTERS)

    there, back = (decided(rows, similar, policy) for rows in (scan, scan.iloc[order]))

    assert there.metrics == back.metrics
    for one, other, contract in zip(there[:4], back[:4], contracts, strict=True):
        key = list(contract.key)
        assert_frame_equal(
            *(table.sort_values(key).reset_index(drop=True) for table in (one, other))
        )


@FEW
@given(scans(), POLICIES)
def test_cleaning_what_was_kept_removes_nothing(
    drawn: tuple[pd.DataFrame, Similarities], policy: str
) -> None:
    scan, similar = drawn
    kept = decided(scan, similar, policy).kept

    again = decided(scan[scan["uri"].isin(kept["uri"])], similar, policy)

    assert again.removed.empty
    assert again.kept["uri"].tolist() == kept["uri"].tolist()


@FEW
@given(scans(splits=["", "train"]), POLICIES)
def test_what_goes_for_another_names_one_that_stays_unless_both_are_in_doubt(
    drawn: tuple[pd.DataFrame, Similarities], policy: str
) -> None:
    found = decided(*drawn, policy)

    ids = drawn[0].set_index("uri")["image_id"]
    for row in found.removed[found.removed["kept_uri"] != ""].itertuples():
        assert row.kept_image_id == ids[row.kept_uri]
        assert row.action == "quarantine" or row.kept_uri in set(found.kept["uri"])
        assert row.reason != "exact_duplicate" or row.image_id == row.kept_image_id


@FEW
@given(scans(splits=[""]))
def test_no_two_that_stay_are_duplicates_of_one_label(
    drawn: tuple[pd.DataFrame, Similarities],
) -> None:
    scan, similar = drawn

    kept = decided(scan, similar, "majority").kept

    for left, right in combinations(kept.itertuples(), 2):
        same = left.image_id == right.image_id
        close = similar.get(frozenset((left.image_id, right.image_id)), 0.0) >= 0.95
        assert not same and not close
        tied = frozenset((left.image_id, right.image_id)) in similar
        clip = left.clip == right.clip != "" and left.label == right.label
        assert left.group_id == right.group_id or not (tied or clip)


# --- On pictures ----------------------------------------------------------


@pytest.fixture
def crowd(
    scanned: Scanned, textured_picture: Callable[..., np.ndarray], encode: Maker
) -> pd.DataFrame:
    """Return the scan of pictures that have more near copies than neighbours, and new neighbours
    once those are gone: mixtures of three pictures, and pairs that resemble each other, thrice.
    """
    files = {}
    corners = [textured_picture(40 + n, 48, 48, 10) for n in range(3)]
    for at, share in enumerate((i, j, 7 - i - j) for i in range(8) for j in range(8 - i)):
        mixed = sum(part / 7 * corner for part, corner in zip(share, corners, strict=True))
        picture = np.asarray(mixed, np.uint8)[:, :: -1 if at % 5 == 0 else 1]
        label = "dog" if share[0] > 5 else "cat"
        files[f"{label}/mixed{at}.png"] = encode(np.ascontiguousarray(picture))
    for pair in range(6):
        one, other = (textured_picture(50 + 2 * pair + n, 48, 48, 10) for n in range(2))
        for name, picture in (("one", one), ("two", (0.6 * one + 0.4 * other).astype(np.uint8))):
            for encoding in ("png", "jpeg", "jpeg_rough"):
                files[f"cat/{pair}{name}.{encoding}"] = encode(picture, encoding)
    return scanned(files)


@pytest.mark.parametrize("policy", ["quarantine", "majority", "keep"])
def test_cleaning_pictures_that_were_kept_removes_nothing(crowd: pd.DataFrame, policy: Any) -> None:
    params = replace(PARAMS, hash_radius=2, neighbours=1, label_conflicts=policy)
    kept, _ = decide(crowd, NOTHING, params)

    again, removed = decide(crowd[crowd["uri"].isin(kept["uri"])], NOTHING, params)

    assert removed.empty
    assert again["uri"].tolist() == kept["uri"].tolist()


@pytest.mark.parametrize("policy", ["quarantine", "majority", "keep"])
def test_no_table_depends_on_the_order_of_the_scanned_rows(
    crowd: pd.DataFrame, policy: Any
) -> None:
    params = replace(PARAMS, hash_radius=2, neighbours=1, rotations=True, label_conflicts=policy)
    contracts = (CLEAN, REMOVED, DUPLICATES, CLUSTERS)

    there, back = (
        searched(rows, NOTHING, params) for rows in (crowd, crowd.sample(frac=1, random_state=0))
    )

    assert there.metrics == back.metrics
    for one, other, contract in zip(there[:4], back[:4], contracts, strict=True):
        key = list(contract.key)
        assert_frame_equal(
            *(table.sort_values(key).reset_index(drop=True) for table in (one, other))
        )


@pytest.mark.parametrize("rotations", [False, True])
def test_a_turned_copy_goes_only_where_rotations_are_looked_for(
    scanned: Scanned, textured_picture: Callable[..., np.ndarray], encode: Maker, rotations: bool
) -> None:
    picture = textured_picture(0, 48, 48)
    turned = np.ascontiguousarray(np.rot90(picture))
    scan = scanned({"cat/1.png": encode(picture), "cat/2.jpg": encode(turned, "jpeg")})

    found = searched(scan, NOTHING, replace(PARAMS, rotations=rotations))

    assert reasons(found.removed) == ({"cat/2.jpg": "near_duplicate"} if rotations else {})
    # Three quarters more and the copy looks like the original.
    columns = ["left_uri", "right_uri", "mirrored", "rotation", "level"]
    expected = [["cat/1.png", "cat/2.jpg", False, 270, "remove"]] if rotations else []
    assert found.duplicates[columns].to_numpy().tolist() == expected


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotations", [False, True])
def test_mirrored_copies_are_looked_for_only_where_asked_for(
    scanned: Scanned,
    textured_picture: Callable[..., np.ndarray],
    encode: Maker,
    rotations: bool,
    mirrored: bool,
) -> None:
    picture = textured_picture(0)
    back = np.ascontiguousarray(picture[:, ::-1])
    scan = scanned({"cat/1.png": encode(picture), "cat/2.jpg": encode(back, "jpeg")})

    found = searched(scan, NOTHING, replace(PARAMS, mirrored=mirrored, rotations=rotations))

    assert reasons(found.removed) == ({"cat/2.jpg": "near_duplicate"} if mirrored else {})
    assert found.duplicates["mirrored"].tolist() == [True] * mirrored
    assert found.kept["group_id"].nunique() == len(found.kept)


# --- Of copies, who may go ----------------------------------------------------------------------


def judged(*pairs: tuple[int, int, bool, str]) -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=["left", "right", "mirrored", "level"])


@pytest.mark.parametrize("near_duplicates", ["remove", "group"])
def test_mirror_images_under_two_labels_only_share_a_group(near_duplicates: Any) -> None:
    labels = pd.Series(["left", "left", "right"])
    pairs = judged(
        (0, 1, False, "remove"),
        (0, 1, True, "remove"),
        (0, 2, False, "remove"),
        (0, 2, True, "remove"),
        (1, 2, True, "group"),
        (1, 2, True, "look_alike"),
    )
    before = pairs.copy(deep=True)

    found = clean.only_group(pairs, labels, near_duplicates)

    usual = "remove" if near_duplicates == "remove" else "group"
    assert found["level"].tolist() == [usual, usual, usual, "group", "group", "look_alike"]
    assert_frame_equal(found.drop(columns="level"), pairs.drop(columns="level"))
    assert_frame_equal(pairs, before)


@pytest.mark.parametrize(("other", "stays"), [("cat", False), ("dog", True)])
@pytest.mark.parametrize("label_conflicts", ["quarantine", "majority", "keep"])
def test_a_mirror_image_goes_under_its_own_label_and_is_no_conflict_under_another(
    scanned: Scanned,
    textured_picture: Callable[..., np.ndarray],
    encode: Maker,
    label_conflicts: Any,
    other: str,
    stays: bool,
) -> None:
    picture = textured_picture(0)
    back = encode(np.ascontiguousarray(picture[:, ::-1]), "jpeg")
    scan = scanned({"cat/1.png": encode(picture), f"{other}/2.jpg": back})

    found = searched(scan, NOTHING, replace(PARAMS, label_conflicts=label_conflicts))

    assert reasons(found.removed) == ({} if stays else {"cat/2.jpg": "near_duplicate"})
    assert found.kept["group_id"].nunique() == 1
    assert found.duplicates["level"].tolist() == ["group" if stays else "remove"]


@pytest.mark.parametrize("other", ["cat", "dog"])
def test_near_duplicates_stay_in_one_group_where_they_are_to_be_grouped(
    scanned: Scanned, picture_file: Maker, other: str
) -> None:
    files = {"cat/1.png": picture_file(1), f"{other}/2.jpg": picture_file(1, "jpeg")}
    files |= {"cat/3.png": picture_file(3), "cat/equal.png": picture_file(3)}

    found = searched(scanned(files), NOTHING, replace(PARAMS, near_duplicates="group"))

    assert reasons(found.removed) == {"cat/equal.png": "exact_duplicate"}
    groups = found.kept.set_index("uri")["group_id"]
    assert groups["cat/1.png"] == groups[f"{other}/2.jpg"] != groups["cat/3.png"]


def test_a_copy_too_rough_to_be_certain_stays_in_the_group_of_its_original(
    scanned: Scanned, picture_file: Maker
) -> None:
    files = {"cat/1.png": picture_file(1), "cat/2.jpg": picture_file(1, "jpeg_rough", 24, 32)}

    found = searched(scanned(files), NOTHING, PARAMS)

    assert found.removed.empty
    assert found.kept["group_id"].nunique() == 1


# --- Groups -------------------------------------------------------------------------------------


def test_similar_pictures_below_the_level_of_removal_share_a_group(
    scanned: Scanned, textured_picture: Callable[..., np.ndarray], encode: Maker
) -> None:
    start, end = textured_picture(0), textured_picture(1)
    # Some way from one picture to another: alike, and no copy.
    between = (start * 0.8 + end * 0.2).astype(np.uint8)
    scan = scanned({"cat/1.png": encode(start), "cat/2.png": encode(between)})

    kept, removed = decide(scan, NOTHING, replace(PARAMS, remove_similarity=0.995, hash_radius=16))

    assert removed.empty
    assert kept["group_id"].nunique() == 1


def test_a_chain_keeps_its_far_end_and_stays_one_group(
    scanned: Scanned, textured_picture: Callable[..., np.ndarray], encode: Maker
) -> None:
    wide = textured_picture(3, 64, 160)
    # Windows that slide over a scene: neighbours are copies of each other, the ends are not.
    windows = [wide[:, at : at + 64] for at in range(0, 45, 4)]
    files = {f"cat/{n:02}.png": encode(window) for n, window in enumerate(windows)}

    found = searched(scanned(files), NOTHING, replace(PARAMS, hash_radius=16))

    ties = set(zip(found.duplicates["left_uri"], found.duplicates["right_uri"], strict=True))
    names = sorted(files)
    assert set(pairwise(names)) <= ties, "this is no chain: neighbours are not tied"
    assert (names[0], names[-1]) not in ties, "this is no chain: its ends are tied"
    assert len(found.kept) >= 2
    assert not found.removed.empty
    assert found.kept["group_id"].nunique() == 1
    assert set(found.removed["kept_uri"]) <= set(found.kept["uri"])
    assert found.clusters[["images", "kept"]].to_numpy().tolist() == [[12, len(found.kept)]]


def test_frames_of_a_clip_share_a_group_within_their_class(
    scanned: Scanned, picture_file: Maker
) -> None:
    files = {f"cat/{n}.png": picture_file(n) for n in range(4)}
    files |= {"dog/4.png": picture_file(4)}
    clip = {"cat/0.png": "a", "cat/2.png": "a", "cat/1.png": "b", "dog/4.png": "a"}

    kept, _ = decide(scanned(files, clip=clip), NOTHING, PARAMS)

    groups = kept.groupby("group_id")["uri"].apply(sorted).tolist()
    assert sorted(groups) == [
        ["cat/0.png", "cat/2.png"],
        ["cat/1.png"],
        ["cat/3.png"],
        ["dog/4.png"],
    ]


def test_groups_are_named_after_their_content_and_not_after_the_files(
    scanned: Scanned, picture_file: Maker
) -> None:
    one = scanned({"cat/1.png": picture_file(1), "cat/2.png": picture_file(2)})
    other = scanned({"cat/b.png": picture_file(1), "cat/a.png": picture_file(2)})

    names = [sorted(decide(scan, NOTHING, PARAMS)[0]["group_id"]) for scan in (one, other)]

    assert names[0] == names[1]


# --- Official sets ------------------------------------------------------------------------------


@pytest.mark.parametrize("other", ["train", "val", ""])
def test_an_official_test_picture_stays_and_its_duplicate_goes(
    scanned: Scanned, picture_file: Maker, other: str
) -> None:
    # Without the official set the other one would stay: it is lossless.
    files = {"cat/1.jpg": picture_file(1, "jpeg"), "cat/2.png": picture_file(1)}
    assert decide(scanned(files), NOTHING, PARAMS)[0]["uri"].tolist() == ["cat/2.png"]

    kept, removed = decide(
        scanned(files, {"cat/1.jpg": "test", "cat/2.png": other}), NOTHING, PARAMS
    )

    assert kept["uri"].tolist() == ["cat/1.jpg"]
    assert reasons(removed) == {"cat/2.png": "near_duplicate"}


@pytest.mark.parametrize("other", ["train", "val", ""])
def test_what_only_resembles_an_official_test_picture_is_left_out_as_well(
    scanned: Scanned, picture_file: Maker, other: str
) -> None:
    files = {"cat/1.png": picture_file(1), "cat/2.png": picture_file(2)}
    clip = dict.fromkeys(files, "a")

    kept, removed = decide(
        scanned(files, {"cat/1.png": "test", "cat/2.png": other}, clip), NOTHING, PARAMS
    )

    assert kept["uri"].tolist() == ["cat/1.png"]
    assert reasons(removed) == {"cat/2.png": "beside_official_set"}


def test_copies_inside_an_official_test_set_both_stay_in_one_group(
    scanned: Scanned, picture_file: Maker
) -> None:
    files = {"cat/1.png": picture_file(1), "cat/2.png": picture_file(1)}

    kept, removed = decide(scanned(files, dict.fromkeys(files, "test")), NOTHING, PARAMS)

    assert removed.empty
    assert kept["group_id"].nunique() == 1


# --- Decisions of a person ----------------------------------------------------------------------


def test_keep_keeps_a_duplicate_a_small_and_a_suspect_picture(
    scanned: Scanned, mixed: dict[str, bytes]
) -> None:
    scan = scanned(mixed)
    wanted = ("cat/again.jpg", "cat/tiny.png", "cat/no_end.jpg", "cat/2.png")
    overrides = replace(NOTHING, keep=frozenset(id_of(scan, uri) for uri in wanted))

    kept, _ = decide(scan, overrides, replace(PARAMS, keep_suspect=()))

    assert set(wanted) <= set(kept["uri"])


def test_keep_cannot_save_what_cannot_be_decoded(scanned: Scanned, mixed: dict[str, bytes]) -> None:
    scan = scanned(mixed)
    overrides = replace(NOTHING, keep=frozenset({id_of(scan, "cat/half.jpg")}))

    _, removed = decide(scan, overrides, PARAMS)

    assert reasons(removed)["cat/half.jpg"] == "truncated"


def test_drop_removes_every_copy(scanned: Scanned, mixed: dict[str, bytes]) -> None:
    scan = scanned(mixed)
    overrides = replace(NOTHING, drop=frozenset({id_of(scan, "cat/0.png")}))

    _, removed = decide(scan, overrides, PARAMS)

    found = reasons(removed)
    assert (found["cat/0.png"], found["cat/copy.png"]) == ("dropped", "dropped")


def test_relabel_settles_a_conflict(scanned: Scanned, mixed: dict[str, bytes]) -> None:
    scan = scanned(mixed)
    overrides = replace(NOTHING, relabel={id_of(scan, "dog/cat_in_fact.jpg"): "cat"})

    kept, removed = decide(scan, overrides, PARAMS)

    assert reasons(removed)["dog/cat_in_fact.jpg"] == "near_duplicate"
    assert "cat/2.png" in set(kept["uri"])


def test_relabel_to_no_class_is_refused(scanned: Scanned, mixed: dict[str, bytes]) -> None:
    scan = scanned(mixed)

    with pytest.raises(InputError, match="'cow', which is no class; the classes are cat, dog"):
        relabel(scan, replace(NOTHING, relabel={id_of(scan, "cat/0.png"): "cow"}))


def test_a_keep_leaves_one_of_equal_bytes_and_never_two_labels(
    scanned: Scanned, picture_file: Maker
) -> None:
    files = {
        f"{label}/{n}.png": picture_file(n + 9 * (label == "dog"))
        for label in ("cat", "dog")
        for n in range(3)
    }
    same = scanned({**files, "cat/copy.png": files["cat/0.png"]})
    other = scanned({**files, "dog/copy.png": files["cat/0.png"]})
    overrides = replace(NOTHING, keep=frozenset({id_of(same, "cat/0.png")}))

    kept, _ = decide(same, overrides, PARAMS)

    assert kept["image_id"].is_unique
    with pytest.raises(InputError, match="the same bytes under two labels.*relabel instead"):
        decide(other, overrides, PARAMS)


def test_decisions_that_change_nothing_are_told_of(
    scanned: Scanned, mixed: dict[str, bytes]
) -> None:
    scan = scanned(mixed)
    broken, whole = id_of(scan, "cat/half.jpg"), id_of(scan, "cat/0.png")
    overrides = replace(
        NOTHING, keep=frozenset({broken, whole}), relabel={"0" * 64: "no class of these"}
    )

    sentences = idle_overrides(scan, overrides)

    assert sentences == [
        f"no picture of this data set has the image_id {'0' * 64}",
        "keep has no effect on cat/half.jpg: it cannot be decoded (truncated)",
    ]
    decide(scan, overrides, PARAMS)


def test_not_duplicate_keeps_both_in_groups_of_their_own(
    scanned: Scanned, mixed: dict[str, bytes]
) -> None:
    scan = scanned(mixed)
    pair = sorted([id_of(scan, "cat/1.png"), id_of(scan, "cat/again.jpg")])
    overrides = replace(NOTHING, not_duplicate=frozenset({(pair[0], pair[1])}))

    kept, _ = decide(scan, overrides, PARAMS)

    two = kept[kept["uri"].isin(["cat/1.png", "cat/again.jpg"])]
    assert two["group_id"].nunique() == len(two) == 2


# --- Classes and metrics ------------------------------------------------------------------------


def test_a_class_that_loses_everything_is_an_error_that_says_why(
    scanned: Scanned, picture_file: Maker
) -> None:
    scan = scanned({"cat/1.png": picture_file(1), "dog/1.jpg": b"", "dog/2.jpg": b"x"})
    kept, removed = decide(scan, NOTHING, PARAMS)

    with pytest.raises(InputError) as caught:
        require_every_class(scan, kept, removed)

    message = str(caught.value)
    assert "class 'dog' keeps no image (" in message
    assert "1 empty" in message
    assert "1 not_an_image" in message


def test_a_set_of_which_nothing_stays_is_that_error_too(scanned: Scanned) -> None:
    scan = scanned({"cat/1.png": b"", "dog/1.jpg": b""})

    kept, removed = decide(scan, NOTHING, PARAMS)

    assert (len(kept), len(removed)) == (0, 2)
    with pytest.raises(InputError, match="class 'cat' keeps no image"):
        require_every_class(scan, kept, removed)


def test_metrics_count_what_the_tables_say(scanned: Scanned, mixed: dict[str, bytes]) -> None:
    mixed["dog/moving.heic"] = b"\x00\x00\x00\x18ftypheic" + bytes(40)
    kept, removed = decide(scanned(mixed), NOTHING, PARAMS)

    found = clean_metrics(kept, removed)

    expected = {
        "kept": 8,
        "removed": 9,
        "corrupt": 3,
        "unsupported": 1,
        "exact_duplicates": 1,
        "near_duplicates": 1,
        "label_conflicts": 2,
        "too_small": 1,
        "groups": 8,
    }
    assert {name: found[name] for name in expected} == expected


def test_class_counts_name_every_class(scanned: Scanned, mixed: dict[str, bytes]) -> None:
    scan = scanned(mixed)
    kept, _ = decide(scan, NOTHING, PARAMS)

    assert class_counts(scan, kept[kept["label"] == "cat"]).to_numpy().tolist() == [
        ["cat", 11, 4],
        ["dog", 5, 0],
    ]


def test_planted_faults_are_held_against_what_was_removed() -> None:
    truth = pd.DataFrame(
        [
            ("r/1", "truncated", ""),
            ("r/2", "zeroed", ""),
            ("r/3", "exact_copy", "r/a"),
            ("r/4", "mirrored", "r/b"),
            ("r/5", "resized", "r/c"),
            ("r/6", "other_label", "r/d"),
            ("r/7", "wrong_extension", ""),
            ("r/8", "reencoded", "r/e"),
            ("r/9", "mirrored", "r/f"),
            ("r/10", "resized", "r/g"),
            ("r/11", "exact_copy", "r/h"),
        ],
        columns=list(RAW_TRUTH.columns),
    )
    removed = pd.DataFrame(
        [
            ("r/1", "truncated", ""),  # found
            ("r/sound", "damaged", ""),  # a false alarm
            ("r/3", "exact_duplicate", "A"),  # found
            ("r/b", "near_duplicate", "B"),  # found: the original went instead of its copy
            ("r/d", "label_conflict", "D"),  # found
            ("r/6", "label_conflict", "D"),
            ("r/lonely", "near_duplicate", "L"),  # a false alarm
            ("r/small", "too_small", ""),  # no verdict on damage or copies
            ("r/f", "beside_official_set", "F"),  # found: its copy is of that group
            ("r/10", "too_small", ""),  # neither of the two has a group
            ("r/g", "too_small", ""),
        ],
        columns=["uri", "reason", "group_id"],
    )
    kept = pd.DataFrame(
        [
            ("r/4", "B"),
            ("r/5", "C"),  # not found: in a group of its own
            ("r/c", "c"),
            ("r/8", "E"),  # found: both stay, in one group
            ("r/e", "E"),
            ("r/9", "F"),
            ("r/11", "H"),  # not found: equal bytes are no matter of groups
            ("r/h", "H"),
        ],
        columns=["uri", "group_id"],
    )

    assert planted_metrics(truth, removed, kept) == {
        "planted_corrupt": 2,
        "planted_corrupt_found": 1,
        "planted_exact_copies": 2,
        "planted_exact_copies_found": 1,
        "planted_near_copies": 5,
        "planted_near_copies_found": 3,
        "planted_label_conflicts": 1,
        "planted_label_conflicts_found": 1,
        "sound_removed_as_corrupt": 1,
        "sound_removed_as_duplicate": 1,
    }


def test_where_nothing_was_planted_nothing_is_claimed() -> None:
    nothing = pd.DataFrame(columns=list(RAW_TRUTH.columns))

    removed = pd.DataFrame({"uri": ["a"], "reason": ["empty"], "group_id": [""]})

    assert planted_metrics(nothing, removed, removed[["uri", "group_id"]]) == {}
