"""files: an output is replaced whole or not at all, and never written through a link."""

import os
from pathlib import Path

import pytest

from stages.lib.files import replacing


@pytest.mark.parametrize("earlier", ["nothing", "file", "folder"])
def test_what_was_written_takes_the_place_of_what_was_there(tmp_path: Path, earlier: str) -> None:
    target = tmp_path / "below" / "out"
    if earlier == "file":
        target.parent.mkdir()
        target.write_text("old")
    elif earlier == "folder":
        target.mkdir(parents=True)
        (target / "old").touch()

    with replacing(target) as unfinished:
        unfinished.mkdir()
        (unfinished / "new").touch()

    assert [path.name for path in target.iterdir()] == ["new"]
    assert list(target.parent.iterdir()) == [target]


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    target.write_text("old")

    with pytest.raises(KeyboardInterrupt), replacing(target) as unfinished:
        unfinished.write_text("half")
        raise KeyboardInterrupt

    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_killed_run_left_is_no_part_of_the_next(tmp_path: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "left over").touch()

    with replacing(tmp_path / "out") as unfinished:
        unfinished.mkdir()

    assert not list((tmp_path / "out").iterdir())


def test_a_link_into_a_cache_is_replaced_and_the_cache_stays(tmp_path: Path) -> None:
    cached, target = tmp_path / "cached", tmp_path / "out"
    cached.write_text("version 1")
    os.link(cached, target)

    with replacing(target) as unfinished:
        unfinished.write_text("version 2")

    assert (cached.read_text(), target.read_text()) == ("version 1", "version 2")
