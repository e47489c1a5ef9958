"""Scan measures every file once; a file that cannot be read is a row, not a crash."""

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import imagehash
import lethal_measuring
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from lethal import LETHAL
from PIL import Image

from stages import scan
from stages.lib.errors import InputError
from stages.lib.hashing import sha256_hex
from stages.lib.images import THUMBNAIL_BYTES
from stages.lib.metrics import read_metrics
from stages.lib.parallel import FEW
from stages.lib.policy import REMEDIES
from stages.lib.table import FILES, SCAN, read_table, write_table
from stages.lib.value_ranges import read_value_ranges
from stages.scan import count_unread_heif, scan_file, scan_metrics

Maker = Callable[..., bytes]
ROOT = Path(__file__).parent.parent


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
    detail = Image.open(io.BytesIO(row["detail"]))
    assert (detail.format, detail.size) == ("JPEG", (64, 48))
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
    assert row["detail"] == b""


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


def test_the_low_and_high_brightness_are_those_of_the_darkest_and_lightest_parts(
    tmp_path: Path,
) -> None:
    pixels = np.full((100, 100), 100, np.uint8)
    pixels[:6], pixels[-2:] = 10, 250
    Image.fromarray(pixels).save(tmp_path / "a.png")

    row = scan_file(str(tmp_path / "a.png"), 10**6)

    assert row["brightness_low"] == pytest.approx(10 / 255)
    assert row["brightness_high"] == pytest.approx(250 / 255)
    assert row["brightness"] == pytest.approx(pixels.mean() / 255)


def test_files_that_read_as_nothing_but_trouble_are_rows(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")  # reading it would wait for ever

    row = scan_file(str(tmp_path / "pipe.jpg"), 10**6)

    assert (row["verdict"], row["reason"]) == ("corrupt", "unreadable")


def listed(files: Mapping[str, bytes]) -> None:
    """Write files below data/raw and list them as download does."""
    for name, data in files.items():
        path = Path("data/raw") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    uris = [f"data/raw/{name}" for name in files]
    labels = [name.split("/")[0] for name in files]
    frame = pd.DataFrame({"uri": uris, "label": labels, "official_split": "", "clip": ""})
    write_table(Path("data/files.parquet"), frame, FILES)


@pytest.fixture(scope="session")
def many(picture_file: Maker) -> dict[str, bytes]:
    """Return a set of every encoding with some bad files, larger than what one process takes."""
    kinds = ["png", "jpeg", "gif", "webp", "jpeg_cmyk", "tiff"]
    files = {
        f"cat/{number:03}.{kinds[number % 6]}": picture_file(number, kinds[number % 6])
        for number in range(FEW + 30)
    }
    half = files["cat/001.jpeg"][:600]
    return files | {"dog/bad.jpg": b"bad", "dog/empty.jpg": b"", "dog/half.jpg": half}


def scan_bytes() -> tuple[bytes, bytes]:
    """Run the stage; return the bytes of its table and its metrics."""
    scan.main()
    return Path("data/scan.parquet").read_bytes(), Path("metrics/scan.json").read_bytes()


def test_no_number_of_workers_no_backend_and_no_cache_changes_a_byte(
    project: Callable[..., Path], many: dict[str, bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    runs = [("loky", 1), ("loky", 2), ("loky", 3), ("threading", 1), ("threading", 2)]
    results, said = [], []
    for backend, workers in runs:
        for state in ("cold", "warm"):
            project(parallel={"backend": backend, "workers": workers})
            listed(many)
            if state == "cold":
                shutil.rmtree(".cache", ignore_errors=True)
            results.append(scan_bytes())
            said.append(capfd.readouterr().out)

    assert len(set(results)) == 1
    assert all("(97 measured, 0 of known content)" in words for words in said[0::2])
    assert all("(0 measured, 97 of known content)" in words for words in said[1::2])
    table = read_table(Path("data/scan.parquet"), SCAN)
    assert table["verdict"].value_counts().to_dict() == {"ok": 94, "corrupt": 3}
    assert read_metrics("scan")["files"] == 97


def test_a_file_keeps_its_measures_under_another_name_and_place(
    project: Callable[..., Path], many: dict[str, bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    project()
    listed(many)
    scan.main()
    before = read_table(Path("data/scan.parquet"), SCAN)
    shutil.rmtree("data/raw")

    listed({f"{name[:3]}/z{99 - at}-{name[4:]}": many[name] for at, name in enumerate(many)})
    scan.main()

    after = read_table(Path("data/scan.parquet"), SCAN)
    measures = [name for name in SCAN.columns if name != "uri"]
    pd.testing.assert_frame_equal(
        before[measures].sort_values(["image_id", "label"], ignore_index=True),
        after[measures].sort_values(["image_id", "label"], ignore_index=True),
    )
    assert "(0 measured, 97 of known content)" in capfd.readouterr().out


def test_only_new_bytes_are_measured(
    project: Callable[..., Path],
    many: dict[str, bytes],
    picture_file: Maker,
    capfd: pytest.CaptureFixture[str],
) -> None:
    project()
    listed(many)
    scan.main()

    listed(many | {"cat/new.png": picture_file(1000), "cat/copy.png": many["cat/000.png"]})
    scan.main()

    assert "(1 measured, 98 of known content)" in capfd.readouterr().out


def test_a_changed_budget_of_pixels_asks_for_new_measures(
    project: Callable[..., Path], picture_file: Maker, capfd: pytest.CaptureFixture[str]
) -> None:
    verdicts = []
    for max_pixels in (10**6, 100, 10**6):
        project(scan={"max_pixels": max_pixels})
        listed({"cat/a.png": picture_file(0)})
        scan.main()
        verdicts += read_table(Path("data/scan.parquet"), SCAN)["reason"].tolist()

    assert verdicts == ["", "too_many_pixels", ""]


def test_files_that_kill_their_decoder_are_rows_with_the_reason(
    project: Callable[..., Path], many: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "measure_file", lethal_measuring.measure_lethally)
    ways = {
        f"cat/{at}0-{how}.jpg": lethal_measuring.MARKER + how.encode()
        for at, how in enumerate(("crash", "hang", "starve"))
    }
    tables = set()
    for workers in (1, 2):
        limits = {"time_limit": 2, "memory_limit": 300, "max_pixels": 10**6}
        project(parallel={"workers": workers}, scan=limits)
        listed(many | ways)
        shutil.rmtree(".cache", ignore_errors=True)
        tables.add(scan_bytes())

    rows = read_table(Path("data/scan.parquet"), SCAN).set_index("uri")
    for name, data in ways.items():
        row = rows.loc[f"data/raw/{name}"]
        assert (row["verdict"], row["reason"]) == ("corrupt", LETHAL[name.split("-")[1][:-4]])
        assert (row["image_id"], row["bytes"]) == (sha256_hex(data), len(data))
    others = rows.drop([f"data/raw/{name}" for name in ways])
    assert others["verdict"].value_counts().to_dict() == {"ok": 94, "corrupt": 3}
    assert len(tables) == 1


def test_a_run_killed_half_way_is_taken_up_where_it_stopped(
    project: Callable[..., Path], picture_file: Maker, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = project(parallel={"workers": 2})
    picture = picture_file(0, "jpeg")
    listed({f"cat/{number}.jpg": picture + str(number).encode() for number in range(800)})
    code = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\n"
        "import lethal_measuring\nfrom stages import scan\n"
        "scan.measure_file = lethal_measuring.measure_slowly\nscan.main()"
    )
    killed = subprocess.Popen([sys.executable, "-c", code], cwd=folder)
    cache = folder / ".cache/scan.sqlite-wal"
    wait_until(lambda: cache.exists() and cache.stat().st_size > 256 * 1700)
    children = [int(child) for child in children_of(killed.pid)]
    killed.kill()
    killed.wait()
    assert not Path("data/scan.parquet").exists()

    resumed = scan_bytes()

    remembered = int(re.search(r"measured, (\d+) of known content", capfd.readouterr().out)[1])
    assert 256 <= remembered < 800
    assert len(children) == 2
    wait_until(lambda: not any(Path(f"/proc/{child}").exists() for child in children))
    shutil.rmtree(".cache")
    assert scan_bytes() == resumed


def test_two_scans_at_once_share_a_cache_and_agree(
    project: Callable[..., Path], many: dict[str, bytes]
) -> None:
    folder = project(parallel={"workers": 2})
    listed(many)
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from stages import scan; scan.main()"
    places = [folder, folder.with_name(f"{folder.name}-other")]
    shutil.copytree(folder, places[1])
    params = (places[1] / "params.yaml").read_text()
    assert "folder: .cache" in params
    shared = params.replace("folder: .cache", f"folder: {folder / '.cache'}")
    (places[1] / "params.yaml").write_text(shared)

    runs = [subprocess.Popen([sys.executable, "-c", code], cwd=place) for place in places]

    assert [run.wait() for run in runs] == [0, 0]
    left, right = ((place / "data/scan.parquet").read_bytes() for place in places)
    assert left == right
    assert left == scan_bytes()[0]


def test_a_damaged_cache_costs_a_sentence_and_no_result(
    project: Callable[..., Path], many: dict[str, bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    project()
    listed(many)
    expected = scan_bytes()
    for ending in ("", "-wal", "-shm"):
        Path(f".cache/scan.sqlite{ending}").unlink(missing_ok=True)
    Path(".cache/scan.sqlite").write_bytes(b"no database" * 1000)

    found = scan_bytes()

    assert found == expected
    assert "set aside" in capfd.readouterr().out


def test_rows_are_written_in_groups_and_read_back_as_one_table(
    project: Callable[..., Path], many: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    project()
    listed(many)
    scan.main()
    whole = read_table(Path("data/scan.parquet"), SCAN)
    metrics = read_metrics("scan")

    monkeypatch.setattr(scan, "ROWS_AT_ONCE", 10)
    scan.main()

    pd.testing.assert_frame_equal(read_table(Path("data/scan.parquet"), SCAN), whole)
    assert pq.ParquetFile("data/scan.parquet").num_row_groups == 10
    assert read_metrics("scan") == metrics


def test_no_files_at_all_are_an_empty_table(project: Callable[..., Path]) -> None:
    project()
    listed({})

    scan.main()

    assert len(read_table(Path("data/scan.parquet"), SCAN)) == 0
    assert read_metrics("scan")["files"] == 0


def test_two_files_with_equal_md5_are_two_files(tmp_path: Path) -> None:
    # The pair of blocks that Wang, Feng, Lai and Yu published in 2004 (IACR ePrint 2004/199).
    first = bytes.fromhex(
        "d131dd02c5e6eec4693d9a0698aff95c2fcab58712467eab4004583eb8fb7f89"
        "55ad340609f4b30283e488832571415a085125e8f7cdc99fd91dbdf280373c5b"
        "d8823e3156348f5bae6dacd436c919c6dd53e2b487da03fd02396306d248cda0"
        "e99f33420f577ee8ce54b67080a80d1ec69821bcb6a8839396f9652b6ff72a70"
    )
    second = bytearray(first)
    for place in (19, 45, 59, 83, 109, 123):  # the six places where their highest bits differ
        second[place] ^= 0x80
    (tmp_path / "first.jpg").write_bytes(first)
    (tmp_path / "second.jpg").write_bytes(second)

    rows = [scan_file(str(tmp_path / name), 10**6) for name in ("first.jpg", "second.jpg")]

    assert hashlib.md5(first).digest() == hashlib.md5(second).digest()
    assert rows[0]["image_id"] != rows[1]["image_id"]
    assert rows[0]["bytes"] == rows[1]["bytes"] == 128


def test_a_memory_limit_below_the_budget_of_pixels_is_an_error_before_any_work(
    project: Callable[..., Path],
) -> None:
    project(scan={"max_pixels": 10**9})

    with pytest.raises(InputError, match=r"scan.memory_limit must be at least 30518 .*got 4096"):
        scan.main()


@pytest.mark.parametrize("key", ["max_pixels", "time_limit", "memory_limit"])
def test_limits_are_more_than_nothing(project: Callable[..., Path], key: str) -> None:
    project(scan={key: 0})

    with pytest.raises(InputError, match=rf"scan.{key}: .*greater than 0, got 0"):
        scan.main()


def children_of(process: int) -> list[str]:
    return Path(f"/proc/{process}/task/{process}/children").read_text().split() + [
        child
        for task in Path(f"/proc/{process}/task").iterdir()
        if task.name != str(process)
        for child in (task / "children").read_text().split()
    ]


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_stages_that_need_no_tensorflow_do_not_import_it() -> None:
    stages = ", ".join(
        f"stages.{name}" for name in ("download", "scan", "clean", "split", "augment")
    )
    code = f"import sys, {stages}; print(sorted({{'tensorflow', 'keras'}} & set(sys.modules)))"

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"


def test_files_that_an_optional_package_would_read_are_counted() -> None:
    scan = pd.DataFrame(
        {
            "format": ["heif", "heif", "svg", "jpeg"],
            "reason": ["unsupported_format", "", "unsupported_format", ""],
        }
    )

    assert count_unread_heif(scan) == 1


# --- Images of more than 8 bits ------------------------------------------------------------------


def deep_files(picture_file: Maker, factor: int, count: int = 3) -> dict[str, bytes]:
    """Return gray PNG files of 16 bits, whose values are those of 8 bits times a factor."""
    files = {}
    for seed in range(count):
        gray = np.asarray(Image.open(io.BytesIO(picture_file(seed))).convert("L"))
        stream = io.BytesIO()
        Image.fromarray(gray.astype(np.uint16) * np.uint16(factor)).save(stream, "PNG")
        files[f"cat/{factor}-{seed}.png"] = stream.getvalue()
    return files


def gray_files(picture_file: Maker, count: int = 3) -> dict[str, bytes]:
    files = {}
    for seed in range(count):
        stream = io.BytesIO()
        Image.open(io.BytesIO(picture_file(seed))).convert("L").save(stream, "PNG")
        files[f"cat/{seed}.png"] = stream.getvalue()
    return files


def test_deep_images_share_one_range_that_is_said_and_written(
    project: Callable[..., Path], picture_file: Maker, capfd: pytest.CaptureFixture[str]
) -> None:
    project()
    listed(gray_files(picture_file))
    scan.main()
    expected = read_table(Path("data/scan.parquet"), SCAN)
    assert read_value_ranges() == {}

    listed(deep_files(picture_file, 16))
    scan.main()

    rows = read_table(Path("data/scan.parquet"), SCAN)
    assert read_value_ranges() == {"uint16": (0, 4095)}
    metrics = read_metrics("scan")
    assert (metrics["uint16_files"], metrics["uint16_low"], metrics["uint16_high"]) == (3, 0, 4095)
    assert "3 uint16 images: values 0 to 4095 become black to white" in capfd.readouterr().out
    distances = np.bitwise_count(rows["phash"].to_numpy() ^ expected["phash"].to_numpy())
    assert distances.max() <= 2
    for left, right in zip(rows["thumbnail"], expected["thumbnail"], strict=True):
        pair = [np.frombuffer(pixels, np.uint8).astype(int) for pixels in (left, right)]
        assert np.abs(pair[0] - pair[1]).max() <= 2


def test_no_workers_and_no_cache_change_a_byte_of_a_set_with_deep_images(
    project: Callable[..., Path],
    many: dict[str, bytes],
    picture_file: Maker,
    capfd: pytest.CaptureFixture[str],
) -> None:
    mixed = (
        many
        | deep_files(picture_file, 4)
        | {"cat/cut.png": deep_files(picture_file, 9)["cat/9-0.png"][:900]}
    )
    results, said = set(), []
    for workers in (1, 3):
        shutil.rmtree(".cache", ignore_errors=True)
        for _ in range(2):
            project(parallel={"workers": workers})
            listed(mixed)
            results.add((*scan_bytes(), Path("data/value_ranges.json").read_bytes()))
            said.append(capfd.readouterr().out)

    assert len(results) == 1
    assert all("(101 measured, 0 of known content)" in words for words in said[0::2])
    assert all("(0 measured, 101 of known content)" in words for words in said[1::2])
    rows = read_table(Path("data/scan.parquet"), SCAN)
    assert rows["uri"].tolist() == sorted(f"data/raw/{name}" for name in mixed)


def test_a_range_that_changes_asks_for_new_measures_of_deep_images_only(
    project: Callable[..., Path], picture_file: Maker, capfd: pytest.CaptureFixture[str]
) -> None:
    brightness = []
    for files, ranges in (
        (deep_files(picture_file, 4), "auto"),
        (deep_files(picture_file, 4) | deep_files(picture_file, 64), "auto"),
        (deep_files(picture_file, 4), {"uint16": [0, 2047]}),
        (deep_files(picture_file, 4), "auto"),
    ):
        project(scan={"value_ranges": ranges})
        shutil.rmtree("data", ignore_errors=True)
        listed(files | {"cat/plain.jpg": picture_file(9, "jpeg")})
        scan.main()
        rows = read_table(Path("data/scan.parquet"), SCAN)
        brightness.append(float(rows["brightness"].iloc[0]))

    measured = re.findall(r"\((\d+) measured", capfd.readouterr().out)
    assert measured == ["4", "6", "3", "0"]
    assert brightness[0] == brightness[3]
    assert brightness[2] == pytest.approx(brightness[0] / 2, abs=0.01)


def test_deep_images_that_keep_few_levels_are_unsupported_with_the_key_to_set(
    project: Callable[..., Path], picture_file: Maker, capfd: pytest.CaptureFixture[str]
) -> None:
    project(scan={"value_ranges": {"uint16": [0, 65535]}})
    listed(deep_files(picture_file, 16, 2) | deep_files(picture_file, 257, 1))

    scan.main()

    rows = read_table(Path("data/scan.parquet"), SCAN)
    assert rows["verdict"].tolist() == ["unsupported", "unsupported", "ok"]
    assert rows["reason"].tolist() == ["too_few_levels", "too_few_levels", ""]
    assert "2 images are left out" in capfd.readouterr().out
    assert "scan.value_ranges" in REMEDIES["too_few_levels"]


@pytest.mark.parametrize(
    ("ranges", "words"),
    [
        ({"uint16": [5, 5]}, "uint16 must rise"),
        ({"uint12": [0, 4095]}, "uint12"),
        ({"uint16": [0]}, "scan.value_ranges"),
        ("automatic", "auto"),
        ({"float32": [0, float("inf")]}, "finite"),
    ],
)
def test_a_range_that_is_none_is_refused_by_name(
    project: Callable[..., Path], ranges: object, words: str
) -> None:
    project(scan={"value_ranges": ranges})

    with pytest.raises(InputError, match=words) as error:
        scan.main()

    assert "scan.value_ranges" in str(error.value)
