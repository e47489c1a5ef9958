"""Progress is shown beside the work and changes none of it."""

import pytest

from stages.lib import progress
from stages.lib.progress import summarise, track


def test_items_pass_through_in_order() -> None:
    assert list(track(iter("abc"), 3, "scan", "images")) == ["a", "b", "c"]


def test_short_work_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    list(track(range(100), 100, "scan", "images"))

    assert capsys.readouterr().out == ""


def test_long_work_prints_lines_but_none_for_the_last_item(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)

    list(track(range(3), 3, "scan", "images"))

    lines = capsys.readouterr().out.splitlines()
    assert [line.split(", ")[0] for line in lines] == [
        "scan: 1 of 3 images",
        "scan: 2 of 3 images",
    ]
    assert all(line.endswith("/s") for line in lines)


def test_items_are_taken_only_when_asked_for() -> None:
    taken = []
    items = track((taken.append(i) or i for i in range(3)), 3, "scan", "images")

    next(items)

    assert taken == [0]


def test_a_summary_is_one_line_with_the_stages_name(capsys: pytest.CaptureFixture[str]) -> None:
    summarise("scan", "read 3 files")

    assert capsys.readouterr().out == "scan: read 3 files\n"


def test_a_summary_says_where_the_split_leaks(capsys: pytest.CaptureFixture[str]) -> None:
    summarise("train", "done", leaky=True)

    assert capsys.readouterr().out == "train: done (leaky split)\n"
