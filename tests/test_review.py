"""The review page: the weakest evidence first, and lines that overrides.csv understands."""

import html
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages import clean
from stages.lib.errors import InputError
from stages.lib.overrides import read_overrides
from stages.lib.table import (
    CLEAN,
    CLUSTERS,
    DUPLICATES,
    RAW_TRUTH,
    REMOVED,
    SCAN,
    write_table,
)
from tools import review

HOSTILE = "</script><img src=x onerror=alert(1)> \"&'"
Pages = Callable[..., str]


def picture_row(uri: str, image_id: str, label: str = "cat") -> dict[str, Any]:
    usual = {"official_split": "", "clip": "", "bytes": 9, "format": "png", "mode": "RGB"}
    usual |= {"colour": "colour", "orientation": 1, "verdict": "ok", "reason": ""}
    usual |= {"brightness": 0.5, "brightness_low": 0.2, "brightness_high": 0.9}
    usual |= {"sharpness": 900.0, "entropy": 7.0, "phash": 0, "phash_mirrored": 0}
    named = {"uri": uri, "image_id": image_id * 64, "label": label, "width": 64, "height": 48}
    return {
        **usual,
        **named,
        "thumbnail": b"",
        "detail": b"",
        "flags": "",
        "group_id": image_id * 16,
    }


def pair(left: str, right: str, similarity: float, level: str = "remove") -> dict[str, Any]:
    ids = {"left_id": left[-1] * 64, "right_id": right[-1] * 64}
    found = {"left_uri": left, "right_uri": right, "similarity": similarity, "level": level}
    found |= {"detail": 0.9, "background": 0.0}
    return {**found, **ids, "mirrored": False, "rotation": 0, "distance": 4}


@pytest.fixture
def make_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picture_file: Any) -> Pages:
    """Return a function that writes clean's tables about the pictures a to f, and the page."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, label: str = "cat") -> str:
        labels = {"a": label, "b": label, "c": label, "d": "dog", "e": label, "f": label}
        rows = [picture_row(f"data/raw/{name}", name, labels[name]) for name in labels]
        Path("data/raw").mkdir(parents=True, exist_ok=True)
        for seed, name in enumerate(labels):
            Path(f"data/raw/{name}").write_bytes(picture_file(seed))
        scan = pd.DataFrame(rows)
        gone = {"action": "remove", "reason": "near_duplicate", "kept_uri": "data/raw/a"}
        gone |= {"kept_image_id": "a" * 64, "similarity": 0.96, "rule": "a rule"}
        removed = scan[scan["uri"] == "data/raw/b"].assign(**gone)
        kept = scan[scan["uri"] != "data/raw/b"]
        flags = kept["uri"].map({"data/raw/f": "blurry dark"}).fillna("")
        kept = kept.assign(flags=flags, comparable=True)
        pairs = [
            pair("data/raw/a", "data/raw/b", 0.96),
            pair("data/raw/a", "data/raw/c", 0.91, "group"),
            pair("data/raw/a", "data/raw/d", 0.99),
            pair("data/raw/c", "data/raw/e", 0.97),
        ]
        write_table(Path("data/scan.parquet"), scan, SCAN)
        write_table(Path("data/clean.parquet"), kept, CLEAN)
        write_table(Path("data/removed.csv"), removed, REMOVED)
        write_table(Path("data/duplicates.csv"), pd.DataFrame(pairs), DUPLICATES)
        write_table(
            Path("data/clusters.csv"), pd.DataFrame(columns=list(CLUSTERS.columns)), CLUSTERS
        )
        monkeypatch.setattr(sys, "argv", ["review", *arguments])
        review.main()
        return Path("report/review.html").read_text(encoding="utf-8")

    return run


def shown_pairs(page: str) -> list[str]:
    found = re.findall(r'<article class="pair" aria-label="data/raw/(.) and data/raw/(.)"', page)
    return ["".join(both) for both in found]


def test_pairs_under_two_labels_come_first_and_the_weakest_evidence_leads(make_page: Pages) -> None:
    assert shown_pairs(make_page()) == ["ad", "ac", "ab", "ce"]


@pytest.mark.parametrize(
    ("arguments", "pairs"),
    [
        (("--level", "group"), ["ac"]),
        (("--level", "remove"), ["ad", "ab", "ce"]),
        (("--limit", "1"), ["ad", "ac"]),
    ],
)
def test_level_and_limit_choose_the_pairs(
    make_page: Pages, arguments: tuple[str, ...], pairs: list[str]
) -> None:
    assert shown_pairs(make_page(*arguments)) == pairs


def test_every_picture_says_what_became_of_it(make_page: Pages) -> None:
    page = make_page()

    cards = re.findall(r'<div class="card">.*?class="buttons"', page, re.DOTALL)
    text = {
        re.search(r'alt="data/raw/(.)', card)[1]: re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", card))  # type: ignore[index]
        for card in cards
    }
    assert "cat · left out near duplicate: a rule b " in text["b"]
    assert "cat · kept a " in text["a"]
    assert "64 × 48" in text["a"]
    assert f'data-copy="{"a" * 64}"' in page


def test_flagged_pictures_are_shown_only_if_asked_for(make_page: Pages) -> None:
    plain, flagged = make_page(), make_page("--flags")

    assert "blurry, dark" not in plain
    assert "blurry, dark" in flagged
    assert re.findall(r'class="single" aria-label="data/raw/(.)"', flagged) == ["f"]


def test_the_page_needs_nothing_from_elsewhere_and_sends_nothing(make_page: Pages) -> None:
    page = make_page("--flags")

    assert not re.search(r"(?i)https?:|url\(|@import|<iframe|fetch\(|XMLHttp", page)
    assert all(link.startswith("data:") for link in re.findall(r'(?:src|href)="([^"]*)', page))
    assert "default-src 'none'" in page


def test_labels_and_paths_are_escaped_wherever_they_stand(make_page: Pages) -> None:
    page = make_page("--flags", label=HOSTILE)

    assert html.escape("<img src=x onerror") in page
    assert "<img src=x" not in page
    assert page.count("</script>") == 1


def test_equal_bytes_offer_no_decision_that_would_be_refused(make_page: Pages) -> None:
    make_page()
    same = pd.DataFrame([pair("data/raw/a", "data/raw/d", 1.0)]).assign(right_id="a" * 64)
    scan = pd.DataFrame([picture_row("data/raw/a", "a"), picture_row("data/raw/d", "a", "dog")])
    write_table(Path("data/duplicates.csv"), same, DUPLICATES)
    write_table(Path("data/scan.parquet"), scan, SCAN)
    write_table(Path("data/clean.parquet"), scan.assign(comparable=True), CLEAN)

    review.main()

    page = Path("report/review.html").read_text(encoding="utf-8")
    assert set(re.findall('data-action="([a-z_]+)"', page)) == {"drop", "relabel"}


@pytest.mark.parametrize("action", ["keep", "drop", "not_duplicate"])
def test_what_a_button_stands_for_is_a_line_that_overrides_understand(
    make_page: Pages, tmp_path: Path, action: str
) -> None:
    page = make_page(label='a, "b"')

    # The script joins these four fields, quoted where they must be.
    buttons = re.findall(
        r'data-action="(\w+)" data-id="(\w+)" data-value="(\w*)" data-note="([^"]*)"', page
    )
    lines = [
        ",".join([image_id, name, value, '"' + html.unescape(note).replace('"', '""') + '"'])
        for name, image_id, value, note in buttons
        if name == action
    ]
    path = tmp_path / "overrides.csv"
    path.write_text("\n".join(["image_id,action,value,note", *lines, ""]))
    decided = read_overrides(path)
    ids = {letter: letter * 64 for letter in "abcde"}
    if action == "not_duplicate":
        pairs = {(ids[left], ids[right]) for left, right in ("ab", "ac", "ad", "ce")}
        assert decided.not_duplicate == pairs
    else:
        assert getattr(decided, action) == set(ids.values())


def test_equal_input_gives_equal_bytes(make_page: Pages) -> None:
    assert make_page("--flags") == make_page("--flags")


def test_before_clean_has_run_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["review"])

    with pytest.raises(InputError, match=r"data/duplicates\.csv is missing: run `dvc repro`"):
        review.main()


def test_tables_of_different_runs_are_refused(make_page: Pages) -> None:
    make_page()
    scan = pd.DataFrame([picture_row(f"data/raw/{name}", name) for name in "abcdefg"])
    write_table(Path("data/scan.parquet"), scan, SCAN)

    with pytest.raises(InputError, match="data/raw/g is in data/scan.parquet, but clean neither"):
        review.main()


def test_the_page_shows_what_clean_writes(
    project: Callable[..., Path],
    scanned: Callable[..., pd.DataFrame],
    picture_file: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = {f"cat/{n}.png": picture_file(n) for n in range(3)}
    files |= {"dog/0.jpg": picture_file(0, "jpeg"), "dog/9.png": picture_file(9)}
    scan = scanned({**files, "cat/copy.jpg": picture_file(1, "jpeg"), "cat/empty.png": b""})
    project()
    write_table(Path("data/scan.parquet"), scan, SCAN)
    write_table(
        Path("data/raw_truth.csv"), pd.DataFrame(columns=list(RAW_TRUTH.columns)), RAW_TRUTH
    )
    monkeypatch.setattr(sys, "argv", ["review", "--flags"])

    clean.main()
    review.main()

    page = Path("report/review.html").read_text(encoding="utf-8")
    found = re.findall(r'class="pair" aria-label="(\S+) and (\S+)"', page)
    assert found == [("cat/0.png", "dog/0.jpg"), ("cat/1.png", "cat/copy.jpg")]
