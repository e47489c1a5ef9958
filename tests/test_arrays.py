"""Array files are ordinary .npy files, written in any order and in little memory."""

import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.lib.arrays import Batch, create_array, write_batch
from stages.lib.errors import InputError
from stages.lib.images import Preprocessing, prepare_picture

HOW = Preprocessing(16, 24, "stretch", "auto", "rgb")
POLICY = '[{"name": "Affine", "rotate": [-15, 15], "p": 1.0}]'


@pytest.mark.parametrize("shape", [(3, 8, 9, 3), (1, 16, 16, 1), (0, 8, 8, 3), (12345, 2, 2, 3)])
def test_an_array_file_is_what_numpy_would_have_made(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    start = create_array(tmp_path / "ours.npy", shape)

    np.save(tmp_path / "numpys.npy", np.zeros(shape, np.uint8))
    ours, numpys = ((tmp_path / f"{name}.npy").read_bytes() for name in ("ours", "numpys"))
    assert ours == numpys
    assert len(ours) - start == np.prod(shape)


def test_a_new_array_takes_no_space(tmp_path: Path) -> None:
    create_array(tmp_path / "a.npy", (10_000, 256, 256, 3))

    assert (tmp_path / "a.npy").stat().st_blocks * 512 < 1_000_000


@pytest.fixture
def write(tmp_path: Path, picture_file: Callable[..., bytes]) -> Callable[..., Any]:
    """Return a function that writes rows of one file into an array of twelve; it returns the
    checksums and the array.
    """

    def run(first: int, seeds: tuple[int, ...], how: Preprocessing = HOW, policy: str = POLICY):  # type: ignore[no-untyped-def]
        (tmp_path / "a.png").write_bytes(picture_file(0))
        array = tmp_path / "a.npy"
        start = create_array(array, (12, *how.shape))
        batch = Batch("a.png", seeds, str(array), start + first * int(np.prod(how.shape)))
        return write_batch(batch, how, policy, tmp_path), np.load(array)

    return run


@pytest.mark.parametrize("colour", ["rgb", "grey"])
def test_children_differ_from_one_another_and_from_their_parent(
    write: Callable[..., Any], picture_file: Callable[..., bytes], colour: Any
) -> None:
    how = Preprocessing(16, 24, "stretch", "auto", colour)

    _, rows = write(0, (0, *range(1, 12)), how)

    np.testing.assert_array_equal(rows[0], prepare_picture(picture_file(0), how))
    assert len({row.tobytes() for row in rows}) == 12


@pytest.mark.parametrize("first", [0, 5, 9])
def test_rows_are_written_in_their_place_and_nowhere_else(
    write: Callable[..., Any], first: int
) -> None:
    checksums, rows = write(first, (0, 7, 8))

    written = slice(first, first + 3)
    assert checksums == tuple(zlib.crc32(row) for row in rows[written])
    assert rows[written].any(axis=(1, 2, 3)).all()
    assert not np.delete(rows, range(first, first + 3), axis=0).any()


def test_the_order_of_writing_has_no_say(
    tmp_path: Path, picture_file: Callable[..., bytes]
) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(picture_file(ord(name)))
    size = int(np.prod(HOW.shape))
    found = []

    for order in ("abc", "cab"):
        array = tmp_path / f"{order}.npy"
        start = create_array(array, (6, *HOW.shape))
        for name in order:
            place = start + 2 * "abc".index(name) * size
            write_batch(Batch(name, (0, ord(name)), str(array), place), HOW, POLICY, tmp_path)
        found.append(array.read_bytes())

    assert found[0] == found[1]


def test_many_children_take_no_more_memory_than_few(
    tmp_path: Path, picture_file: Callable[..., bytes]
) -> None:
    (tmp_path / "a.png").write_bytes(picture_file(0))
    how = Preprocessing(128, 128, "stretch", "auto", "rgb")
    start = create_array(tmp_path / "a.npy", (400, *how.shape))
    peaks = []

    for count in (4, 400):
        batch = Batch("a.png", tuple(range(1, count + 1)), str(tmp_path / "a.npy"), start)
        write_batch(batch, how, POLICY, tmp_path)  # what is imported late is not counted
        tracemalloc.start()
        write_batch(batch, how, POLICY, tmp_path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    assert peaks[1] < peaks[0] + 200_000  # 400 rows are 20 MB


def test_a_child_of_another_form_is_refused_before_it_spoils_its_neighbours(
    write: Callable[..., Any],
) -> None:
    with pytest.raises(InputError, match=r"must keep pictures uint8 \(16, 24, 3\), got uint8 \(4,"):
        write(0, (0, 5), HOW, '[{"name": "CenterCrop", "height": 4, "width": 4}]')


def test_pictures_that_scan_let_pass_are_not_refused_by_pillows_own_budget(
    write: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)

    checksums, _ = write(0, (0,))

    assert len(checksums) == 1
