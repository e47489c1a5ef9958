"""Flags mean what they say, on synthetic measures and on pictures spoilt on purpose."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from stages.clean import Params
from stages.lib.params import load_params
from stages.lib.quality import (
    FLAGS,
    FlagLimits,
    flag_counts,
    flag_rule,
    flag_text,
    flag_warnings,
    formats_of_flags,
    measure_quality,
    raise_flags,
    widespread_flags,
)

DEMO = Path(__file__).parent.parent / "presets/demo.yaml"
LIMITS = FlagLimits(
    dark=0.35, bright=0.8, blurry=50, low_information=2.0, odd_size=5.0, odd_aspect=3.0
)


def measured(*changes: dict[str, Any]) -> pd.DataFrame:
    """Return scan's measures of ordinary pictures, each with its change, among six without any."""
    usual = {"verdict": "ok", "width": 200, "height": 100, "sharpness": 900.0, "entropy": 7.0}
    usual |= {"brightness_low": 0.2, "brightness_high": 0.9}
    return pd.DataFrame([{**usual, **change} for change in (*changes, *[{}] * 6)])


def flags_of(*changes: dict[str, Any], limits: FlagLimits = LIMITS) -> list[str]:
    text = flag_text(raise_flags(measure_quality(measured(*changes)), limits))
    assert set(text.iloc[len(changes) :]) == {""}, "an ordinary picture is flagged"
    return text.iloc[: len(changes)].tolist()


@pytest.mark.parametrize(
    ("inside", "outside", "flag"),
    [
        ({"brightness_high": 0.35}, {"brightness_high": 0.34}, "dark"),
        ({"brightness_low": 0.8}, {"brightness_low": 0.81}, "bright"),
        ({"sharpness": 50.0}, {"sharpness": 49.9}, "blurry"),
        ({"entropy": 2.0}, {"entropy": 1.9}, "low_information"),
        ({"width": 1000, "height": 500}, {"width": 1002, "height": 501}, "odd_size"),
        ({"width": 40, "height": 20}, {"width": 38, "height": 19}, "odd_size"),
        ({"width": 300}, {"width": 301}, "odd_aspect"),
        ({"height": 600}, {"height": 601}, "odd_aspect"),
    ],
)
def test_a_flag_is_raised_beyond_its_limit_and_not_at_it(
    inside: dict[str, Any], outside: dict[str, Any], flag: str
) -> None:
    assert flags_of(inside, outside) == ["", flag]


def test_several_flags_are_sorted_and_parted_by_spaces() -> None:
    worst = {"brightness_high": 0.1, "sharpness": 1.0, "entropy": 1.0, "width": 400}

    assert flags_of(worst) == ["blurry dark low_information odd_aspect"]


@pytest.mark.parametrize("verdict", ["corrupt", "unsupported"])
def test_what_could_not_be_read_bears_no_flag_and_is_no_part_of_the_median(verdict: str) -> None:
    nothing = {"width": 0, "height": 0, "sharpness": 0.0, "entropy": 0.0, "brightness_high": 0.0}

    assert flags_of(*[{"verdict": verdict, **nothing}] * 20) == [""] * 20


def test_limits_can_be_set_so_that_nothing_is_flagged() -> None:
    off = FlagLimits(dark=0, bright=1, blurry=0, low_information=0, odd_size=1e9, odd_aspect=1e9)
    worst = {"brightness_high": 0.0, "sharpness": 0.0, "entropy": 0.0, "width": 65500, "height": 1}

    assert flags_of(worst, {"brightness_low": 1.0}, limits=off) == ["", ""]


def test_counts_name_every_flag() -> None:
    counts = flag_counts(pd.Series(["", "dark", "blurry dark", ""]))

    assert counts["flag"].tolist() == list(FLAGS)
    assert dict(zip(counts["flag"], counts["images"], strict=True)) == {
        **dict.fromkeys(FLAGS, 0), "dark": 2, "blurry": 1,
    }  # fmt: skip
    assert flag_counts(pd.Series([], dtype="str"))["images"].sum() == 0


def test_the_rule_names_the_limit_and_the_value() -> None:
    rule = flag_rule("odd_size", replace(LIMITS, odd_size=4.5), pd.Series([6.789]))

    assert rule.tolist() == ["clean.flags.odd_size = 4.5: factor from the median size 6.79"]


# --- On pictures, with the limits that params.yaml starts with ------------------------------------


def spoilt(pixels: np.ndarray, how: str) -> np.ndarray:
    if how == "dark":
        return (pixels * 0.25).astype(np.uint8)
    if how == "bright":
        return (225 + pixels * 0.1).astype(np.uint8)
    if how == "blurry":
        return np.asarray(cv2.GaussianBlur(pixels, (0, 0), min(pixels.shape[:2]) / 20), np.uint8)
    if how == "low_information":
        return np.full_like(pixels, 128)
    return pixels


@pytest.mark.parametrize("side", [32, 1000])
@pytest.mark.parametrize("how", ["", "dark", "bright", "blurry", "low_information"])
def test_pictures_spoilt_on_purpose_are_flagged_at_any_size(
    scanned: Callable[..., pd.DataFrame],
    encode: Callable[..., bytes],
    side: int,
    how: str,
) -> None:
    rng = np.random.default_rng(side)
    # Fine detail at every scale, as photographs have it.
    pixels = sum(
        cv2.resize(
            rng.integers(0, 256, (cells, cells, 3)).astype(np.float32),
            (side, side),
            interpolation=cv2.INTER_CUBIC,
        )
        for cells in (4, 8, 16, 32)
    )
    picture = np.clip((np.asarray(pixels) / 4 - 128) * 1.8 + 128, 0, 255).astype(np.uint8)
    scan = scanned({"cat/1.png": encode(spoilt(picture, how))})

    raised = raise_flags(measure_quality(scan), load_params(Params, "clean", DEMO).flags)

    found = set(flag_text(raised).iloc[0].split())
    assert how in found or not how
    assert found <= ({"blurry", "low_information", how} if how else set())


# --- Widespread flags ---------------------------------------------------------------------------


def counts_of(kept: int, **flagged: int) -> dict[str, int]:
    return {"kept": kept, **{f"flag_{flag}": flagged.get(flag, 0) for flag in FLAGS}}


@pytest.mark.parametrize(("dark", "widespread"), [(10, []), (11, ["dark"])])
def test_a_flag_is_widespread_above_a_tenth_and_not_at_it(dark: int, widespread: list[str]) -> None:
    counts = counts_of(100, dark=dark, blurry=3)

    assert widespread_flags(counts) == widespread
    assert len(flag_warnings(counts)) == len(widespread)


def test_of_no_images_no_flag_is_widespread() -> None:
    assert flag_warnings(counts_of(0)) == []


def test_a_warning_names_the_flag_the_count_and_the_key() -> None:
    assert flag_warnings(counts_of(4000, low_information=1344)) == [
        "1,344 of 4,000 kept images (33.6%) are flagged low_information; "
        "clean.remove_flagged: [low_information] leaves them out; "
        "where nothing is wrong with them, move the limit clean.flags.low_information"
    ]


def kept_images(*formats_and_flags: tuple[str, str, int]) -> pd.DataFrame:
    rows = [(kind, flags) for kind, flags, count in formats_and_flags for _ in range(count)]
    return pd.DataFrame(rows, columns=["format", "flags"])


APART = [
    # The flagged are of a format of their own, with one exception each way.
    ((("jpeg", "", 60), ("jpeg", "dark", 1), ("png", "dark", 20), ("png", "", 1)), "[jpeg]"),
    ((("jpeg", "", 30), ("webp", "", 30), ("png", "blurry dark", 20)), "[jpeg, webp]"),
    # The other photographs of the format do not bear the flag.
    ((("jpeg", "", 60), ("png", "dark", 20), ("png", "", 20)), ""),
    # The flagged are of two formats.
    ((("jpeg", "", 60), ("jpeg", "dark", 10), ("png", "dark", 20)), ""),
    # There is no other format.
    ((("png", "dark", 20),), ""),
]


@pytest.mark.parametrize(("images", "formats"), APART)
def test_formats_are_named_as_the_cure_where_they_set_the_flagged_apart(
    images: tuple[tuple[str, str, int], ...], formats: str
) -> None:
    kept = kept_images(*images)
    dark = int(kept["flags"].str.contains("dark").sum())
    counts = counts_of(len(kept), dark=dark) | formats_of_flags(kept, ["dark"])

    (sentence,) = flag_warnings(counts)

    assert ("clean.formats" in sentence) == bool(formats)
    if formats:
        assert f"so does clean.formats: {formats}, since nearly all of them are png" in sentence


def test_formats_are_counted_for_widespread_flags_alone() -> None:
    kept = kept_images(("jpeg", "dark", 2), ("png", "blurry dark", 3), ("png", "", 1))

    assert formats_of_flags(kept, []) == {}
    assert formats_of_flags(kept, ["dark"]) == {
        "format_jpeg": 2,
        "format_png": 4,
        "flag_dark_jpeg": 2,
        "flag_dark_png": 3,
    }
