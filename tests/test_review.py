"""The review page: the most doubtful first, and lines that overrides.csv understands."""

import html
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages import clean
from stages.lib.errors import InputError
from stages.lib.overrides import Overrides, read_overrides
from stages.lib.similarity import name_pair
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
from tools import review
from tools.doubt import doubt
from tools.pages import decision_content
from tools.review import count_words
from tools.review_clusters import STRIP, WHOLE, choose_clusters, choose_members, refused_pairs

HOSTILE = "</script><img src=x onerror=alert(1)> \"&'"
Pages = Callable[..., str]


def picture_row(uri: str, image_id: str, label: str = "cat") -> dict[str, Any]:
    usual = {"official_split": "", "clip": "", "bytes": 9, "format": "png", "mode": "RGB"}
    usual |= {"colour": "colour", "orientation": 1, "verdict": "ok", "reason": ""}
    usual |= {"brightness": 0.5, "brightness_low": 0.2, "brightness_high": 0.9}
    usual |= {"sharpness": 900.0, "entropy": 7.0, "phash": 0, "phash_mirrored": 0}
    named = {"uri": uri, "image_id": image_id * 64, "label": label, "width": 64, "height": 48}
    group = "a" if image_id in "abcde" else image_id
    return {**usual, **named, "thumbnail": b"", "detail": b"", "flags": "", "group_id": group * 16}


def pair(
    left: str,
    right: str,
    similarity: float,
    level: str = "remove",
    detail: float = 0.999,
    background: float = 0.0,
) -> dict[str, Any]:
    ids = {"left_id": left[-1] * 64, "right_id": right[-1] * 64}
    found = {"left_uri": left, "right_uri": right, "similarity": similarity, "level": level}
    found |= {"detail": detail, "background": background}
    return {**found, **ids, "mirrored": False, "rotation": 0, "distance": 4}


@pytest.fixture
def make_page(
    project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, picture_file: Any
) -> Pages:
    """Return a function that writes clean's tables about the images a to f, and the page.

    a to e are one group, which d alone is in under the label dog; e and f are look-alikes.
    """
    project()

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
            pair("data/raw/e", "data/raw/f", 0.80, "look_alike", 0.6543, 0.9),
        ]
        cluster = ("a" * 16, 5, 4, "cat|dog", "data/raw/a", "data/raw/c", 0.91)
        clusters = pd.DataFrame([cluster], columns=list(CLUSTERS.columns))
        write_table(Path("data/scan.parquet"), scan, SCAN)
        write_table(Path("data/clean.parquet"), kept, CLEAN)
        write_table(Path("data/removed.csv"), removed, REMOVED)
        write_table(Path("data/duplicates.csv"), pd.DataFrame(pairs), DUPLICATES)
        write_table(Path("data/clusters.csv"), clusters, CLUSTERS)
        monkeypatch.setattr(sys, "argv", ["review", *arguments])
        review.main()
        return Path("report/review.html").read_text(encoding="utf-8")

    return run


def shown_pairs(page: str) -> list[str]:
    found = re.findall(r'class="item pair".*aria-label="data/raw/(.) and data/raw/(.)"', page)
    return ["".join(both) for both in found]


def text_of(page: str) -> str:
    body = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", body)).split())


def test_conflicts_come_first_and_of_each_level_the_most_doubtful(make_page: Pages) -> None:
    assert shown_pairs(make_page()) == ["ad", "ab", "ce", "ac", "ef"]


def judged(level: str, similarity: float, detail: float, background: float = 0.0) -> pd.DataFrame:
    return pd.DataFrame([pair("data/raw/a", "data/raw/b", similarity, level, detail, background)])


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (judged("remove", 1.0, 0.95), 1.0),  # on the limit of detail
        (judged("remove", 0.85, 1.0), 1.0),  # on that of similarity
        (judged("remove", 0.97, 0.98), 0.4),  # the worse of 0.2 and 0.4
        (judged("remove", 1.0, 0.98, 0.9), 0.8),  # a crowd asks for more: 0.975
        (judged("group", 1.0, 0.68), 1.0),
        (judged("group", 1.0, 0.84, 0.3), 0.5),  # nobody comes near: no crowd
        (judged("group", 0.86, 1.0), 0.5),
        (judged("group", 1.0, 0.95, 0.6), 0.5),  # 0.9 is needed beside a crowd at 0.6
        (judged("look_alike", 1.0, 0.36), 0.5),
        (judged("look_alike", 1.0, 0.8, 0.6), 0.5),
        (judged("look_alike", 0.86, 1.0), 2.0),  # what the table holds would do
    ],
)
def test_doubt_is_how_near_a_pair_is_to_another_verdict(
    pairs: pd.DataFrame, expected: float
) -> None:
    assert doubt(pairs, 0.85, 0.72) == pytest.approx([expected])


def test_equal_bytes_are_beyond_doubt_and_no_pair_is_infinitely_doubtful() -> None:
    equal = judged("remove", 1.0, 1.0).assign(right_id="a" * 64)
    alike = judged("look_alike", 1.0, 1.0, 1.0)

    assert doubt(equal, 1.0, 1.0).tolist() == [0.0]
    assert np.isfinite(doubt(alike, 1.0, 1.0)).all()


@pytest.mark.parametrize(
    ("level", "exact", "mirrored", "labels", "words"),
    [
        ("remove", True, False, "xx", "exact copy"),
        ("remove", False, False, "xx", "copy"),
        ("remove", False, True, "xx", "mirrored copy"),
        ("group", False, False, "xx", "same scene"),
        ("group", False, True, "xx", "same scene, mirrored"),
        ("look_alike", False, False, "xx", "look-alikes, not tied"),
        ("look_alike", False, False, "xy", "look-alikes, not tied"),
        ("remove", True, False, "xy", "exact copies under two labels (conflict)"),
        ("remove", False, False, "xy", "copies under two labels (conflict)"),
        ("group", False, False, "xy", "same scene under two labels"),
        ("group", False, True, "xy", "same scene, mirrored, under two labels"),
    ],
)
def test_a_pair_is_called_what_it_is(
    level: str, exact: bool, mirrored: bool, labels: str, words: str
) -> None:
    assert name_pair(level, exact, mirrored, (labels[0], labels[1]), False) == words


def test_where_copies_only_group_a_pair_of_the_group_may_be_a_copy(make_page: Pages) -> None:
    assert name_pair("group", False, False, ("x", "x"), True) == "copy or same scene"
    make_page()
    params = Path("params.yaml")
    params.write_text(
        params.read_text().replace("near_duplicates: remove", "near_duplicates: group")
    )

    review.main()

    text = text_of(Path("report/review.html").read_text(encoding="utf-8"))
    assert "1 pair shows the same scene or a copy (neither goes" in text
    assert "Copies, or the same scene taken twice" in text


def test_the_page_says_what_each_pair_rests_on(make_page: Pages) -> None:
    text = text_of(make_page())

    assert "3 pairs are copies of one exposure" in text
    assert "1 pair shows the same scene" in text
    assert "1 pair only looks alike" in text
    assert (
        "copies under two labels (conflict) Accept Not a duplicate Detail agrees to 99.9%" in text
    )
    assert "Detail agrees to 65.4% ; one scene needs 97.5%. At thumbnail size 80.0%" in text
    assert "Unrelated images of this set agree with one of the two to 90.0% as well." in text
    assert "The weakest tie of a cluster of 5: see all of it" in text


@pytest.mark.parametrize(
    ("name", "exact", "words"),
    [
        ("copies", [0, 0, 0], "All are shown."),
        ("copies", [0, 0, 0, 0], "3 of 4 pairs shown, the other one is less doubtful"),
        ("copies", [0, 0, 0, 1, 1], "3 of 5 pairs shown, the 2 others are exact copies ("),
        (
            "copies",
            [0] * 4 + [1],
            "the 2 others are exact copies (1) or less doubtful (1), further",
        ),
        ("copies", [0] * 1234, "3 of 1,234 pairs shown, the 1,231 others are less doubtful"),
        ("look_alikes", [0] * 5, "the 2 others are less doubtful: further from a tie"),
    ],
)
def test_a_section_says_how_many_pairs_it_does_not_show(
    name: str, exact: list[int], words: str
) -> None:
    assert words in count_words(name, pd.DataFrame({"exact": exact}), 3)


def test_a_pair_too_weak_to_join_two_groups_says_so(make_page: Pages) -> None:
    words = "too few to join two large groups"
    assert words not in make_page()
    table = read_table(Path("data/duplicates.csv"), DUPLICATES)
    ends = {"left_uri": "data/raw/a", "right_uri": "data/raw/f", "right_id": "f" * 64}
    weak = table[table["level"] == "group"].assign(**ends)
    write_table(Path("data/duplicates.csv"), pd.concat([table, weak]), DUPLICATES)

    review.main()

    assert Path("report/review.html").read_text(encoding="utf-8").count(words) == 1


def test_the_count_of_hidden_pairs_stands_on_the_page(make_page: Pages) -> None:
    text = text_of(make_page("--limit", "1"))

    assert (
        "Copies of one exposure One image of each pair was left out. 1 of 2 pairs shown, " in text
    )


@pytest.mark.parametrize(
    ("arguments", "pairs"),
    [
        (("--level", "group"), ["ac"]),
        (("--level", "remove"), ["ad", "ab", "ce"]),
        (("--level", "look_alike"), ["ef"]),
        (("--limit", "1"), ["ad", "ab", "ac", "ef"]),
    ],
)
def test_level_and_limit_choose_the_pairs(
    make_page: Pages, arguments: tuple[str, ...], pairs: list[str]
) -> None:
    assert shown_pairs(make_page(*arguments)) == pairs


def test_every_image_says_what_became_of_it(make_page: Pages) -> None:
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


def test_flagged_images_are_shown_only_if_asked_for(make_page: Pages) -> None:
    plain, flagged = make_page(), make_page("--flags")

    assert "blurry, dark" not in plain
    assert "blurry, dark" in flagged
    assert re.findall(r'class="item single".*?aria-label="data/raw/(.)"', flagged) == ["f"]


def test_the_page_needs_nothing_from_elsewhere_and_sends_nothing(make_page: Pages) -> None:
    page = make_page("--flags")

    assert not re.search(r"(?i)https?:|url\(|@import|<iframe|fetch\(|XMLHttp", page)
    assert all(
        link.startswith(("data:", "#cluster-"))
        for link in re.findall(r'(?:src|href)="([^"]*)', page)
    )
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

    clusters = pd.DataFrame(columns=list(CLUSTERS.columns))
    write_table(Path("data/clusters.csv"), clusters, CLUSTERS)

    review.main()

    page = Path("report/review.html").read_text(encoding="utf-8")
    assert "exact copies under two labels (conflict)" in page
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
    ids = {letter: letter * 64 for letter in "abcdef"}
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


def test_a_cluster_is_a_strip_with_one_button_to_refuse_and_one_to_accept_it(
    make_page: Pages,
) -> None:
    page = make_page()

    (card,) = re.findall(r'<article class="item cluster".*?</article>', page, re.DOTALL)
    assert re.findall(r'alt="data/raw/(.), labeled (\w+)"', card) == [
        ("a", "cat"), ("c", "cat"), ("b", "cat"), ("d", "dog"), ("e", "cat"),
    ]  # fmt: skip
    assert "cat 4, dog 1" in text_of(card).replace(" ,", ",")
    assert "Weakest tie, outlined: same scene" in text_of(card)
    assert "Refuse all of it (10 lines)" in text_of(card)
    assert re.search(r'data-ids="([^"]*)"', card)[1].split() == [c * 64 for c in "abcde"]  # type: ignore[index]
    assert card.count('data-action="refuse"') == 1 and card.count('class="see"') == 1
    assert card.count('data-action="apart"') == 5


def test_refusing_a_cluster_parts_all_its_pairs_and_a_huge_one_its_ties() -> None:
    ties = pd.DataFrame({"left_id": ["2", "1"], "right_id": ["0", "2"]})
    many = [str(number) for number in range(WHOLE + 1)]

    assert refused_pairs(["0", "1", "2"], ties[:1]) == [(0, 1), (0, 2), (1, 2)]
    assert refused_pairs(many, ties) == [(0, 2), (1, 2)]
    assert len(refused_pairs(many[:WHOLE], ties)) == WHOLE * (WHOLE - 1) // 2


def test_clusters_under_several_labels_come_first_then_the_most_doubtful() -> None:
    rows = [("g", 3, "x", "y"), ("h", 3, "y", "z"), ("i", 9, "", ""), ("j", 2, "x", "z")]
    columns = ["group_id", "images", "weakest_left_uri", "weakest_right_uri"]
    pairs = pd.DataFrame({"left_uri": ["x", "y"], "right_uri": ["y", "z"], "doubt": [0.9, 0.1]})
    images = pd.DataFrame({"group_id": list("gghhij"), "label": list("aabaaa")})

    found = choose_clusters(pd.DataFrame(rows, columns=columns), pairs, images)

    assert found["group_id"].tolist() == ["h", "g", "i"]


def test_a_strip_shows_every_label_before_it_repeats_an_image() -> None:
    uris = [f"{number:03}" for number in range(60)]
    ids, labels = ["same"] * 59 + ["other"], ["cat"] * 58 + ["dog", "cat"]
    images = pd.DataFrame({"image_id": ids, "label": labels, "group_id": "g"}, index=uris)
    tie = {"weakest_left_uri": "005", "weakest_right_uri": "040"}

    found = choose_members(pd.DataFrame([{"group_id": "g", **tie}]), images)["g"]

    assert found[:5] == ["005", "040", "000", "058", "059"] and len(found) == STRIP


def test_what_is_kept_in_the_browser_belongs_to_one_page_of_one_data_set() -> None:
    nothing = Overrides(frozenset(), frozenset(), {}, frozenset())
    names = [
        decision_content(page, ids, nothing)["storage"]
        for page, ids in (("review", "ab"), ("audit", "ab"), ("review", "abc"), ("review", "bab"))
    ]

    assert len(set(names)) == 3 and names[0] == names[3]


def test_lines_that_overrides_hold_already_are_not_offered_again(make_page: Pages) -> None:
    make_page()
    a, b, c = (letter * 64 for letter in "abc")
    lines = [f"{c},not_duplicate,{a},", f"{b},keep,,", f"{a},relabel,dog,"]
    Path("overrides.csv").write_text("\n".join(["image_id,action,value,note", *lines, ""]))

    review.main()

    page = Path("report/review.html").read_text(encoding="utf-8")
    assert f'data-decided="keep,{b} relabel,{a} not_duplicate,{a},{c}"' in page


def test_a_pair_judged_otherwise_is_to_be_seen_again(make_page: Pages) -> None:
    before = make_page()
    table = read_table(Path("data/duplicates.csv"), DUPLICATES)
    write_table(Path("data/duplicates.csv"), table.assign(level="group"), DUPLICATES)

    review.main()

    marks = [
        set(re.findall(r'class="item pair".*data-seen="([^"]*)"', page))
        for page in (before, Path("report/review.html").read_text(encoding="utf-8"))
    ]
    assert len(marks[0] & marks[1]) == 1  # that of the pair that was of this level before


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
    found = re.findall(r'class="item pair".*aria-label="(\S+) and (\S+)"', page)
    assert found == [("cat/0.png", "dog/0.jpg"), ("cat/1.png", "cat/copy.jpg")]
