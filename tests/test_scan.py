"""Scan measures every file once; a file that cannot be read is a row, not a crash."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import imagehash
import joblib.externals.loky as loky
import pandas as pd
import pytest
from PIL import Image

from stages import download, scan
from stages.lib.hashing import sha256_hex
from stages.lib.images import THUMBNAIL_BYTES
from stages.lib.metrics import read_metrics
from stages.lib.table import SCAN, read_table
from stages.scan import scan_file, scan_metrics

Maker = Callable[..., bytes]
ROOT = Path(__file__).parent.parent


@pytest.fixture
def fresh_workers() -> None:
    """End the worker processes of earlier tests, which stand in an earlier current folder."""
    loky.get_reusable_executor(max_workers=2).shutdown(wait=True)


def test_a_row_holds_what_can_be_computed_by_hand(tmp_path: Path, picture_file: Maker) -> None:
    data, path = picture_file(0), tmp_path / "a.png"
    path.write_bytes(data)

    row = scan_file(str(path), 10**6)

    image = Image.open(path).convert("L")
    assert row["image_id"] == sha256_hex(data)
    assert (row["bytes"], row["format"], row["mode"]) == (len(data), "png", "RGB")
    assert (row["width"], row["height"]) == (64, 48)
    assert (row["verdict"], row["reason"]) == ("ok", "")
    assert f"{row['phash']:016x}" == str(imagehash.phash(image))
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert f"{row['phash_mirrored']:016x}" == str(imagehash.phash(mirrored))
    assert len(row["thumbnail"]) == THUMBNAIL_BYTES
    assert 0 < row["brightness"] < 1
    assert row["sharpness"] > 0
    assert 0 < row["entropy"] <= 8


@pytest.mark.parametrize("kind", ["missing", "folder", "link to nothing"])
def test_a_file_that_cannot_be_read_is_a_row(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.jpg"
    if kind == "folder":
        path.mkdir()
    elif kind == "link to nothing":
        path.symlink_to("nowhere")

    row = scan_file(str(path), 10**6)

    assert (row["verdict"], row["reason"], row["bytes"]) == ("corrupt", "unreadable", 0)
    assert (row["thumbnail"], row["phash"], row["entropy"]) == (b"", 0, 0.0)


def test_good_and_bad_files_have_the_same_columns(tmp_path: Path, picture_file: Maker) -> None:
    (tmp_path / "good.png").write_bytes(picture_file(0))
    (tmp_path / "bad.png").write_bytes(b"")

    good, bad = (scan_file(str(tmp_path / f"{name}.png"), 10**6) for name in ("good", "bad"))

    assert list(good) == list(bad)


def test_metrics_count_verdicts() -> None:
    rows = pd.DataFrame(
        {
            "verdict": ["ok", "ok", "suspect", "corrupt"],
            "reason": ["", "wrong_extension", "missing_eoi", "empty"],
            "bytes": [10, 20, 30, 0],
        }
    )

    assert scan_metrics(rows) == {
        "ok": 2,
        "suspect": 1,
        "corrupt": 1,
        "unsupported": 0,
        "files": 4,
        "bytes": 60,
        "wrong_extension": 1,
    }


def test_one_and_two_workers_give_the_same_bytes(
    project: Callable[..., Path],
    fresh_workers: None,
    picture_file: Maker,
    write_files: Callable[[Path, Mapping[str, bytes]], None],
) -> None:
    project()
    kinds = ["png", "jpeg", "gif", "webp"] * 18
    files = {f"cat/{n}.{kind}": picture_file(n, kind) for n, kind in enumerate(kinds)}
    write_files(Path("source"), files | {"cat/bad.jpg": b"bad", "dog/empty.jpg": b""})
    tables = []
    for workers in (1, 2):
        project(download={"source": "source"}, parallel={"workers": workers})
        download.main()
        scan.main()
        tables.append(Path("data/scan.parquet").read_bytes())

    table = read_table(Path("data/scan.parquet"), SCAN)
    assert tables[0] == tables[1]
    assert len(table) == read_metrics("scan")["files"] == 74
    assert table["verdict"].value_counts().to_dict() == {"ok": 72, "corrupt": 2}


def test_stages_that_need_no_tensorflow_do_not_import_it() -> None:
    stages = ", ".join(
        f"stages.{name}" for name in ("download", "scan", "clean", "split", "augment")
    )
    code = f"import sys, {stages}; print(sorted({{'tensorflow', 'keras'}} & set(sys.modules)))"

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"
