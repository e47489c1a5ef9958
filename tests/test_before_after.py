"""Before and after: telling pictures first, every class once, each file beside its own row."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.lib.before_after import KINDS, TURNED, before_after_rows, choose_samples
from stages.lib.report_pictures import Tile, stored_tile

USUAL = {"format": "png", "width": 40, "height": 30, "colour": "colour", "orientation": 1}


def pictures(*changes: dict[str, Any]) -> pd.DataFrame:
    """Return usual pictures of one class, each with its own changes."""
    rows = [
        {"uri": f"{at}.png", "image_id": f"id{at}", "label": "cat", "row": at, **USUAL, **change}
        for at, change in enumerate(changes)
    ]
    return pd.DataFrame(rows)


def reasons(chosen: pd.DataFrame) -> dict[str, str]:
    return dict(zip(chosen["uri"], chosen["why"], strict=True))


def pixels_of(tile: Tile) -> np.ndarray[Any, Any]:
    data = base64.b64decode(tile.src.removeprefix("data:image/webp;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))


def test_the_largest_the_most_oblong_and_the_turned_come_first() -> None:
    rows = pictures({}, {"width": 400, "height": 300}, {"height": 10}, {"orientation": 6}, {})

    assert reasons(choose_samples(rows)) == {
        "1.png": "the largest", "2.png": "the most oblong", "3.png": TURNED,
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_unusual_kind_of_colour_is_shown(kind: str) -> None:
    rows = pictures({}, {}, {"colour": kind}, {})

    assert reasons(choose_samples(rows)) == {"2.png": KINDS[kind]}


def test_where_all_are_alike_each_class_has_one_drawn_by_a_seed_and_not_by_order() -> None:
    rows = pictures(*({"label": label} for label in "aaabbbccc"))

    chosen = choose_samples(rows)

    assert sorted(chosen["label"]) == ["a", "b", "c"]
    assert set(chosen["why"]) == {"drawn at random"}
    shuffled = choose_samples(rows.sample(frac=1, random_state=3))
    assert reasons(shuffled) == reasons(chosen)


def test_a_trait_is_shown_in_a_class_not_shown_yet_where_there_is_one() -> None:
    rows = pictures(
        {"width": 400, "label": "a"},
        *({"colour": "alpha", "label": label} for label in "aaab"),
    )

    chosen = choose_samples(rows)

    assert list(chosen["label"]) == ["a", "b"]
    assert list(chosen["why"]) == ["the largest", "alpha channel"]


def test_a_picture_that_shows_a_trait_already_stands_for_it() -> None:
    rows = pictures({"width": 400, "colour": "grey", "orientation": 3}, {"colour": "colour"})

    assert reasons(choose_samples(rows)) == {"0.png": "the largest"}


def test_the_limit_keeps_the_telling_ones() -> None:
    rows = pictures({"colour": "cmyk"}, *({"label": f"class {number}"} for number in range(50)))

    chosen = choose_samples(rows, limit=4)

    assert len(chosen) == 4
    assert chosen["why"].iloc[0] == "CMYK"
    assert chosen["label"].nunique() == 4


def save(path: str, image: Image.Image, orientation: int = 1) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    image.save(path, exif=exif)


def test_the_file_as_it_is_keeps_its_turn_and_what_is_transparent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save("turned.png", Image.new("RGB", (40, 20), "red"), orientation=6)
    save("clear.png", Image.new("RGBA", (16, 16), (0, 0, 255, 0)))
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save("cmyk.jpg")
    deep = np.full((16, 16), 40_000, np.uint16)
    Image.fromarray(deep).save("deep.png")

    turned, clear, cmyk, deep_tile = (
        stored_tile(name) for name in ("turned.png", "clear.png", "cmyk.jpg", "deep.png")
    )

    assert turned and clear and cmyk and deep_tile
    assert (turned.width, turned.height) == (40, 20)
    assert pixels_of(clear)[..., 3].max() == 0
    assert pixels_of(cmyk)[8, 8].tolist() == pytest.approx([255, 0, 0, 255], abs=12)
    assert pixels_of(deep_tile)[8, 8, :3].tolist() == pytest.approx([40_000 >> 8] * 3, abs=2)
    assert stored_tile("missing.png") is None


@pytest.mark.parametrize("channels", [1, 3])
def test_the_row_of_the_array_stands_beside_its_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int
) -> None:
    monkeypatch.chdir(tmp_path)
    kept = pictures({"label": "a"}, {"label": "b", "orientation": 8}, {"label": "c"})
    for uri in kept["uri"]:
        save(uri, Image.new("RGB", (30, 40), "red"))
    index = kept.assign(parent_id="", row=[2, 0, 1])
    child = index.iloc[[0]].assign(parent_id="id0", row=3)
    put_back = index.iloc[[0]].assign(uri="twin.png", row=4)
    index = pd.concat([index, child, put_back], ignore_index=True).sort_values("row")
    array = np.zeros((5, 8, 8, channels), np.uint8)
    array += np.arange(5, dtype=np.uint8)[:, None, None, None] * 50

    rows = before_after_rows(kept.drop(columns="row"), array, index)

    assert sorted(row["uri"] for row in rows) == ["0.png", "1.png", "2.png"]
    for row in rows:
        after = pixels_of(row["after"])
        assert after.shape[:2] == (8, 8)
        assert set(after[..., :3].ravel().tolist()) == {50 * row["row"]}
    sizes = {row["uri"]: (row["width"], row["height"]) for row in rows}
    assert sizes == {"0.png": (40, 30), "1.png": (30, 40), "2.png": (40, 30)}
