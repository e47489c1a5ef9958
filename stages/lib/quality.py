"""Flags pictures whose measures are out of the ordinary: for a person to look at, not a verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Literal, get_args

import numpy as np
import pandas as pd
from pydantic import Field
from pydantic.dataclasses import dataclass

from stages.lib.params import STRICT

Flag = Literal["blurry", "bright", "dark", "low_information", "odd_aspect", "odd_size"]
FLAGS: tuple[Flag, ...] = get_args(Flag)
# A flag is raised below its limit where little of something is odd, else above it.
BELOW = ("blurry", "dark", "low_information")
WIDESPREAD = 0.1  # share of the kept images above which a flag tells of the data, not of an image
NEARLY_ALL = 0.9  # of a flag's images that share a format, and of a format's that bear a flag
MEASURES = {
    "blurry": "sharpness",
    "bright": "brightness_low",
    "dark": "brightness_high",
    "low_information": "entropy",
    "odd_aspect": "longer side / shorter side",
    "odd_size": "factor from the median size",
}


@dataclass(frozen=True, config=STRICT)
class FlagLimits:
    """The mapping clean.flags of params.yaml; sharpness, brightness and entropy are scan's."""

    dark: Annotated[float, Field(ge=0, le=1)]
    bright: Annotated[float, Field(ge=0, le=1)]
    blurry: Annotated[float, Field(ge=0)]
    low_information: Annotated[float, Field(ge=0, le=8)]
    odd_size: Annotated[float, Field(ge=1)]
    odd_aspect: Annotated[float, Field(ge=1)]


def measure_quality(rows: pd.DataFrame) -> pd.DataFrame:
    """Return for each row the value that each flag judges: one column per flag, named after it.

    odd_size: how many times larger or smaller the root of width × height is than the median of all
    rows that could be read. What could not be read has NaN throughout, which raises no flag.
    """
    read = ~rows["verdict"].isin(("corrupt", "unsupported"))
    width = rows["width"].where(read).astype("float64")
    height = rows["height"].where(read).astype("float64")
    size = np.sqrt(width * height)
    factor = size / size.median()
    values = {
        "blurry": rows["sharpness"].where(read),
        "bright": rows["brightness_low"].where(read),
        "dark": rows["brightness_high"].where(read),
        "low_information": rows["entropy"].where(read),
        "odd_aspect": np.maximum(width / height, height / width),
        "odd_size": np.maximum(factor, 1 / factor),
    }
    return pd.DataFrame(values, columns=list(FLAGS))


def raise_flags(measured: pd.DataFrame, limits: FlagLimits) -> pd.DataFrame:
    """Return which flags each row bears; the limits themselves raise none."""
    return pd.DataFrame(
        {
            flag: measured[flag] < limit if flag in BELOW else measured[flag] > limit
            for flag, limit in sorted(asdict(limits).items())
        }
    )


def flag_text(raised: pd.DataFrame) -> pd.Series:
    """Return each row's flags as text: sorted, with spaces between, "" where there are none."""
    text = pd.Series("", index=raised.index, dtype="str")
    some = raised[raised.any(axis="columns")]
    for flag in sorted(raised.columns):
        text.loc[some.index] += some[flag].map({True: f" {flag}", False: ""}).astype("str")
    return text.str.strip()


def flag_counts(text: pd.Series) -> pd.DataFrame:
    """Return how many pictures bear each flag, given their texts: columns flag, images."""
    counts = text[text != ""].str.split(" ").explode().value_counts()
    images = counts.reindex(list(FLAGS), fill_value=0)
    return images.rename_axis("flag").rename("images").reset_index()


def widespread_flags(counts: Mapping[str, int]) -> list[Flag]:
    """Return the flags that more than a tenth of the kept images bear.

    Parameters
    ----------
    counts : mapping of str to int
        `kept` and, for each flag, `flag_<name>`: a part of metrics/clean.json.
    """
    return [flag for flag in FLAGS if counts[f"flag_{flag}"] > WIDESPREAD * counts["kept"]]


def formats_of_flags(kept: pd.DataFrame, flags: Sequence[str]) -> dict[str, int]:
    """Return how many images of each format are kept and bear each of the flags: `format_<name>`
    and `flag_<flag>_<name>`; nothing without flags.

    Parameters
    ----------
    kept : DataFrame
        Columns format and flags (text).
    flags : sequence of str
        As `widespread_flags` returns them.
    """
    if not flags:
        return {}
    counts = {f"format_{name}": int(n) for name, n in kept["format"].value_counts().items()}
    for flag in flags:
        bears = kept["flags"].str.split(" ").map(lambda names, flag=flag: flag in names)
        of_flag = kept.loc[bears.astype(bool), "format"].value_counts()
        counts |= {f"flag_{flag}_{name}": int(n) for name, n in of_flag.items()}
    return counts


def flag_warnings(counts: Mapping[str, int]) -> list[str]:
    """Return a sentence on each widespread flag: how many images bear it, and what to write.

    Parameters
    ----------
    counts : mapping of str to int
        metrics/clean.json, for `widespread_flags` and with what `formats_of_flags` counts.
    """
    kept, sentences = counts["kept"], []
    for flag in widespread_flags(counts):
        flagged = counts[f"flag_{flag}"]
        cure = f"clean.remove_flagged: [{flag}] leaves them out"
        odd, others = _formats_apart(flag, counts)
        if odd and others:
            cure += (
                f", and so does clean.formats: [{', '.join(others)}], since nearly all of them are "
                f"{' or '.join(odd)}"
            )
        sentences.append(
            f"{flagged:,} of {kept:,} kept images ({flagged / kept:.1%}) are flagged {flag}; "
            f"{cure}; where nothing is wrong with them, move the limit clean.flags.{flag}"
        )
    return sentences


def _formats_apart(flag: str, counts: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """Return the formats whose images nearly all bear a flag, and the others; nothing of the first
    kind where the others bear it as well.
    """
    sizes = {
        name.removeprefix("format_"): size
        for name, size in sorted(counts.items())
        if name.startswith("format_")
    }
    flagged = {name: counts.get(f"flag_{flag}_{name}", 0) for name in sizes}
    odd = [name for name, size in sizes.items() if flagged[name] >= NEARLY_ALL * size]
    others = [name for name in sizes if name not in odd]
    if sum(flagged[name] for name in odd) < NEARLY_ALL * sum(flagged.values()):
        return [], others
    return odd, others


def flag_rule(flag: str, limits: FlagLimits, measured: pd.Series) -> pd.Series:
    """Return in words the flag's limit and what was measured of each row."""
    limit = f"clean.flags.{flag} = {getattr(limits, flag):g}: {MEASURES[flag]} "
    return limit + measured.map("{:.3g}".format).astype("str")
