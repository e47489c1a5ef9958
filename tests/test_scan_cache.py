"""What has been measured once is remembered, and no state of the cache file changes a result."""

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.lib import scan_cache
from stages.lib.scan_cache import FILE, RECIPES_KEPT, ScanCache, find, recipe

ROOT = Path(__file__).parent.parent
ADD_FOREVER = """
import hashlib, itertools, sys
from pathlib import Path
from stages.lib.scan_cache import ScanCache
with ScanCache(Path(sys.argv[1]), "recipe") as cache:
    for start in itertools.count(0, 100):
        keys = [hashlib.sha256(str(key).encode()).digest() for key in range(start, start + 100)]
        cache.add((key, key * 50) for key in keys)
        print(start, flush=True)
"""


def key(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def record(number: int) -> bytes:
    return key(number) * 50


def fill(folder: Path, numbers: range, made_by: str = "recipe") -> None:
    with ScanCache(folder, made_by) as cache:
        cache.add((key(number), record(number)) for number in numbers)


def found(folder: Path, numbers: range, made_by: str = "recipe") -> list[int]:
    """Return the numbers whose records are remembered, each as it was written."""
    records = {number: find(str(folder), made_by, key(number)) for number in numbers}
    known = {number: value for number, value in records.items() if value is not None}
    assert known == {number: record(number) for number in known}
    return list(known)


@pytest.fixture(autouse=True)
def fresh_reader() -> Iterator[None]:
    """Let each test open its own file, as each child process does."""
    scan_cache._reader.cache_clear()
    yield
    scan_cache._reader.cache_clear()


def test_what_was_added_is_found_and_nothing_else(tmp_path: Path) -> None:
    fill(tmp_path, range(20))

    assert found(tmp_path, range(40)) == list(range(20))


def test_another_recipe_finds_nothing(tmp_path: Path) -> None:
    fill(tmp_path, range(5))

    assert found(tmp_path, range(5), "another") == []


def test_a_reader_sees_what_the_writer_has_just_added(tmp_path: Path) -> None:
    with ScanCache(tmp_path, "recipe") as cache:
        assert found(tmp_path, range(2)) == []
        cache.add([(key(0), record(0))])

        assert found(tmp_path, range(2)) == [0]


def test_the_recipe_depends_on_params_libraries_and_code(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = recipe(10)
    versions = {plain, recipe(11)}
    with monkeypatch.context() as patch:
        patch.setattr(scan_cache, "version", lambda name: "0" if name == "scipy" else "1")
        versions.add(recipe(10))
    with monkeypatch.context() as patch:
        patch.setattr(scan_cache, "MEASURED_BY", ("errors",))
        versions.add(recipe(10))

    assert len(versions) == 4
    assert recipe(10) == plain


def test_recipes_long_out_of_use_make_room(tmp_path: Path) -> None:
    names = [f"recipe {number}" for number in range(RECIPES_KEPT + 2)]
    for name in names:
        fill(tmp_path, range(3), name)
        fill(tmp_path, range(3), names[0])  # in use all the time

    kept = [name for name in names if found(tmp_path, range(3), name)]

    assert kept == [names[0], *names[-RECIPES_KEPT + 1 :]]


@pytest.mark.parametrize(
    "content", [b"", b"no database at all" * 99, b"SQLite format 3\x00" + bytes(5000)]
)
def test_a_file_that_is_no_cache_is_set_aside(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / FILE).write_bytes(content)

    fill(tmp_path, range(5))

    assert found(tmp_path, range(5)) == list(range(5))
    said = capsys.readouterr().out
    if content:
        assert "set aside" in said
        assert (tmp_path / f"{FILE}.damaged").read_bytes() == content
    else:
        assert said == ""


def test_another_programs_database_is_set_aside_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sqlite3.connect(tmp_path / FILE) as foreign:
        foreign.execute("create table measures (mine text)")
        foreign.execute("insert into measures values ('precious')")
    foreign.close()

    fill(tmp_path, range(5))

    assert found(tmp_path, range(5)) == list(range(5))
    assert "another program's file" in capsys.readouterr().out
    aside = sqlite3.connect(tmp_path / f"{FILE}.damaged")
    assert aside.execute("select mine from measures").fetchall() == [("precious",)]
    aside.close()


@pytest.mark.parametrize("page", range(1, 12))
def test_a_damaged_page_never_gives_a_wrong_record(tmp_path: Path, page: int) -> None:
    fill(tmp_path, range(50))
    path = tmp_path / FILE
    data = bytearray(path.read_bytes())
    assert len(data) > 12 * 4096
    data[page * 4096 : (page + 1) * 4096] = os.urandom(4096)
    path.write_bytes(data)

    fill(tmp_path, range(50, 60))  # does not raise

    assert set(found(tmp_path, range(60))) <= set(range(60))


def test_a_changed_bit_in_a_record_is_a_record_forgotten(tmp_path: Path) -> None:
    fill(tmp_path, range(10))
    path = tmp_path / FILE
    data = bytearray(path.read_bytes())
    data[data.index(record(7)) + 100] ^= 1
    path.write_bytes(data)

    assert found(tmp_path, range(10)) == [0, 1, 2, 3, 4, 5, 6, 8, 9]


def test_a_place_that_cannot_be_written_costs_a_sentence_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")

    fill(tmp_path / "file", range(5))

    assert found(tmp_path / "file", range(5)) == []
    assert "no measures are remembered" in capsys.readouterr().out


def test_two_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    with ScanCache(tmp_path, "recipe") as left, ScanCache(tmp_path, "recipe") as right:
        for number in range(0, 40, 2):
            left.add([(key(number), record(number))])
            right.add([(key(number + 1), record(number + 1))])
            right.add([(key(number), record(number))])

    assert found(tmp_path, range(40)) == list(range(40))


def test_a_killed_writer_leaves_whole_batches(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ADD_FOREVER, str(tmp_path)]
    said = []
    for pause in (0.0, 0.05, 0.1):
        writer = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert writer.stdout
        said += [int(writer.stdout.readline()) for _ in range(3)]
        time.sleep(pause)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()

    kept = found(tmp_path, range(max(said) + 2000))

    assert set(range(max(said) + 100)) <= set(kept)
    assert len(kept) % 100 == 0
    fill(tmp_path, range(5))
