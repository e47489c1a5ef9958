"""Download: any source becomes data/raw and its listing, complete or not at all."""

import io
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages import download
from stages.download import Params, check_source, list_files
from stages.lib.errors import InputError
from stages.lib.metrics import read_metrics
from stages.lib.sources import SourceFile, sha256_of_file
from stages.lib.table import FILES, RAW_TRUTH, read_table

Project = Callable[..., Path]
Writer = Callable[[Path, Mapping[str, bytes]], None]
FILES_OF_TWO = {"cat/1.jpg": b"c1", "cat/sub/2.jpg": b"c2", "dog/1.jpg": b"d1"}


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def make_source(kind: str, folder: Path, write_files: Writer) -> Path:
    """Return a source of FILES_OF_TWO: a folder, one inside another, or an archive."""
    if kind in ("folder", "wrapped"):
        inner = folder / "pictures" / ("inside" if kind == "wrapped" else "")
        write_files(inner, FILES_OF_TWO)
        return folder / "pictures"
    path = folder / f"pictures.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in FILES_OF_TWO.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(path, "w:gz") as archive:
            for name, data in FILES_OF_TWO.items():
                member = tarfile.TarInfo(f"top/{name}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder outside the project."""
    return tmp_path_factory.mktemp("outside")


def params(**changes: Any) -> Params:
    usual: dict[str, Any] = {
        "source": "demo",
        "watch": "",
        "sha256": "",
        "class_names": {},
        "exclude": (),
        "clip_pattern": "",
        "demo_seed": 7,
        "demo_share": 1.0,
    }
    return Params(**{**usual, **changes})


@pytest.mark.parametrize("kind", ["folder", "wrapped", "zip", "tar.gz", "url"])
def test_every_kind_of_source_gives_the_same_files_and_listing(
    project: Project,
    outside: Path,
    write_files: Writer,
    serve: Callable[[Path], str],
    kind: str,
) -> None:
    source = str(make_source("zip" if kind == "url" else kind, outside, write_files))
    project(download={"source": f"{serve(outside)}/pictures.zip" if kind == "url" else source})

    download.main()

    assert tree(Path("data/raw")) == FILES_OF_TWO
    assert read_table(Path("data/files.parquet"), FILES).to_numpy().tolist() == [
        ["data/raw/cat/1.jpg", "cat", "", ""],
        ["data/raw/cat/sub/2.jpg", "cat", "", ""],
        ["data/raw/dog/1.jpg", "dog", "", ""],
    ]
    assert read_table(Path("data/raw_truth.csv"), RAW_TRUTH).empty
    found = read_metrics("download")
    assert [found[name] for name in ("files", "classes", "largest_class", "smallest_class")] == [
        3,
        2,
        2,
        1,
    ]
    assert sorted(path.name for path in Path("data").iterdir()) == [
        "files.parquet",
        "raw",
        "raw_truth.csv",
    ]


@pytest.mark.parametrize("kind", ["folder", "wrapped", "zip", "tar.gz"])
def test_the_source_is_left_as_it_was(
    project: Project, outside: Path, write_files: Writer, kind: str
) -> None:
    source = make_source(kind, outside, write_files)
    before = tree(outside)
    project(download={"source": str(source)})

    download.main()

    assert tree(outside) == before


def test_a_second_run_gives_the_same_and_drops_what_the_source_dropped(
    project: Project, outside: Path, write_files: Writer
) -> None:
    source = make_source("folder", outside, write_files)
    project(download={"source": str(source)})
    download.main()
    first = tree(Path())

    download.main()
    again = tree(Path())
    (source / "cat/1.jpg").unlink()
    download.main()

    assert again == first
    assert sorted(tree(Path("data/raw"))) == ["cat/sub/2.jpg", "dog/1.jpg"]


# --- Checksums ----------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [True, False])
def test_the_checksum_of_an_archive_is_checked_where_given_and_recorded_always(
    project: Project, outside: Path, write_files: Writer, given: bool
) -> None:
    source = make_source("zip", outside, write_files)
    checksum = sha256_of_file(source)
    project(download={"source": str(source), "sha256": checksum if given else ""})

    download.main()

    assert read_metrics("download")["source_fingerprint"] == checksum


def test_a_wrong_checksum_names_both(project: Project, outside: Path, write_files: Writer) -> None:
    source = make_source("zip", outside, write_files)
    project(download={"source": str(source), "sha256": "0" * 64})

    with pytest.raises(InputError) as caught:
        download.main()

    assert f"promises {'0' * 64}" in str(caught.value)
    assert f"has {sha256_of_file(source)}" in str(caught.value)


def test_a_checksum_for_a_folder_is_refused(
    project: Project, outside: Path, write_files: Writer
) -> None:
    source = make_source("folder", outside, write_files)
    project(download={"source": str(source), "sha256": "0" * 64})

    with pytest.raises(InputError, match="checksum of an archive"):
        download.main()


# --- Failures -----------------------------------------------------------------------------------


def break_source(kind: str, outside: Path, write_files: Writer) -> dict[str, Any]:
    """Return the download section of a source that must fail."""
    archive = make_source("zip", outside, write_files)
    broken = outside / "broken.tar.gz"
    broken.write_bytes(make_source("tar.gz", outside, write_files).read_bytes()[:80])
    evil = outside / "evil.zip"
    with zipfile.ZipFile(evil, "w") as content:
        content.writestr("cat/1.jpg", "c")
        content.writestr("../../evil.jpg", "e")
    (outside / "empty").mkdir()
    (outside / "words.txt").write_text("no archive")
    write_files(outside / "single", {"cat/1.jpg": b""})
    write_files(outside / "loose", {"1.jpg": b"", "2.jpg": b""})
    sections: dict[str, dict[str, Any]] = {
        "missing": {"source": str(outside / "nowhere")},
        "empty folder": {"source": str(outside / "empty")},
        "single class": {"source": str(outside / "single")},
        "no class folders": {"source": str(outside / "loose")},
        "not an archive": {"source": str(outside / "words.txt")},
        "broken archive": {"source": str(broken)},
        "leads outside": {"source": str(evil)},
        "wrong checksum": {"source": str(archive), "sha256": "0" * 64},
        "everything excluded": {"source": str(archive), "exclude": ["*"]},
        "unreachable": {"source": "http://127.0.0.1:1/a.zip"},
        "bad pattern": {"source": str(archive), "clip_pattern": "("},
    }
    return sections[kind]


FAILURES = {
    "missing": "does not exist",
    "empty folder": "one folder per class, found none",
    "single class": "at least two classes",
    "no class folders": "one folder per class, found none",
    "not an archive": "must be a zip or tar archive",
    "broken archive": "is damaged",
    "leads outside": "leads outside the target",
    "wrong checksum": "download.sha256 promises",
    "everything excluded": "at least two classes",
    "unreachable": "could not be fetched",
    "bad pattern": "no regular expression",
}


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_is_explained_and_leaves_everything_as_it_was(
    project: Project, outside: Path, write_files: Writer, kind: str, earlier: bool
) -> None:
    if earlier:
        (outside / "good").mkdir()
        project(download={"source": str(make_source("folder", outside / "good", write_files))})
        download.main()
    before = tree(Path("data"))
    project(download=break_source(kind, outside, write_files))

    with pytest.raises(InputError, match=FAILURES[kind]):
        download.main()

    assert tree(Path("data")) == before
    assert not Path("data/raw.partial").exists()
    assert not list(Path().rglob("evil.jpg"))


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_disk_too_small_is_noticed_before_anything_is_copied(
    project: Project,
    outside: Path,
    write_files: Writer,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project(download={"source": str(make_source(kind, outside, write_files))})
    usage = shutil.disk_usage(outside)._replace(free=5)  # the pictures have 6 bytes
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)

    with pytest.raises(InputError, match="free some space"):
        download.main()

    assert tree(Path("data")) == {}


def test_what_is_left_of_an_interrupted_run_does_no_harm(
    project: Project, outside: Path, write_files: Writer
) -> None:
    project(download={"source": str(make_source("zip", outside, write_files))})
    write_files(Path("data/raw.partial/unpacked"), {"cow/1.jpg": b"left over"})

    download.main()

    assert tree(Path("data/raw")) == FILES_OF_TWO
    assert not Path("data/raw.partial").exists()


def test_links_to_no_file_become_rows_that_name_no_file(
    project: Project, outside: Path, write_files: Writer
) -> None:
    source = make_source("folder", outside, write_files)
    (source / "cat/broken.jpg").symlink_to("nowhere")
    (source / "cat/folder").symlink_to(outside, target_is_directory=True)
    (source / "cat/loop.jpg").symlink_to("loop.jpg")
    (source / "cat/good.jpg").symlink_to(source / "dog/1.jpg")
    project(download={"source": str(source)})

    download.main()

    listed = set(read_table(Path("data/files.parquet"), FILES)["uri"])
    names = {f"data/raw/cat/{name}" for name in ("broken.jpg", "folder", "loop.jpg", "good.jpg")}
    assert names <= listed
    assert tree(Path("data/raw")) == FILES_OF_TWO | {"cat/good.jpg": b"d1"}
    assert not Path("data/raw/cat/good.jpg").is_symlink()


def test_names_that_are_no_text_do_not_stop_the_run(
    project: Project, outside: Path, write_files: Writer
) -> None:
    source = make_source("folder", outside, write_files)
    Path(os.fsdecode(os.fsencode(source) + b"/cat/caf\xe9.jpg")).write_bytes(b"latin")
    project(download={"source": str(source)})

    download.main()

    uris = read_table(Path("data/files.parquet"), FILES)["uri"].tolist()
    assert "data/raw/cat/caf\ufffd.jpg" in uris
    assert [uri for uri in uris if not Path(uri).is_file()] == []


# --- Labels, splits and clips -------------------------------------------------------------------


def test_class_names_exclude_and_official_splits_reach_the_listing(
    project: Project, outside: Path, write_files: Writer
) -> None:
    names = ["kitten/1.jpg", "cat/1.jpg", "dog/1.jpg", "old/1.jpg"]
    write_files(outside, {f"{split}/{name}": b"" for split in ("train", "test") for name in names})
    project(download={"source": str(outside), "class_names": {"kitten": "cat"}, "exclude": ["old"]})

    download.main()

    assert read_table(Path("data/files.parquet"), FILES).to_numpy().tolist() == [
        ["data/raw/cat/kitten/test/1.jpg", "cat", "test", ""],
        ["data/raw/cat/kitten/train/1.jpg", "cat", "train", ""],
        ["data/raw/cat/test/1.jpg", "cat", "test", ""],
        ["data/raw/cat/train/1.jpg", "cat", "train", ""],
        ["data/raw/dog/test/1.jpg", "dog", "test", ""],
        ["data/raw/dog/train/1.jpg", "dog", "train", ""],
    ]
    assert len(tree(Path("data/raw"))) == 6


def test_the_plot_counts_files_by_class_and_official_split(
    project: Project, outside: Path, write_files: Writer
) -> None:
    names = ["train/cat/1.jpg", "train/cat/2.jpg", "train/dog/1.jpg", "test/cat/1.jpg"]
    write_files(outside, {name: name.encode() for name in names})
    project(download={"source": str(outside)})

    download.main()

    rows = pd.read_csv("metrics/plots/files.csv", keep_default_na=False)
    assert list(rows.columns) == ["label", "official_split", "images"]
    assert rows.to_numpy().tolist() == [
        ["cat", "test", 1],
        ["cat", "train", 2],
        ["dog", "train", 1],
    ]


@pytest.mark.parametrize(
    ("pattern", "clips"),
    [
        ("", ["", "", ""]),
        (r"(.+)_frame", ["walk", "walk", ""]),
        (r"(walk_)?frame", ["walk_", "walk_", ""]),
        (r"_(\d+)\.jpg", ["1", "2", ""]),
    ],
)
def test_a_pattern_names_the_clip_of_a_frame(pattern: str, clips: list[str]) -> None:
    places = ["walk_frame_1.jpg", "walk_frame_2.jpg", "frame.jpg"]
    files = [SourceFile(Path(place), "cat", place, "") for place in places]

    listing = list_files(files, pattern)

    expected = pd.DataFrame(
        {
            "uri": [f"data/raw/cat/{place}" for place in places],
            "label": "cat",
            "official_split": "",
            "clip": clips,
        }
    )
    assert listing.to_numpy().tolist() == expected.to_numpy().tolist()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"clip_pattern": "(a"}, "clip_pattern is no regular expression"),
        ({"clip_pattern": "a"}, "clip_pattern must have one group"),
        ({"clip_pattern": "(a)(b)"}, "clip_pattern must have one group"),
        ({"class_names": {"a": ""}}, "a label must be a folder name, got '' for 'a'"),
        ({"class_names": {"a": "b/c"}}, "got 'b/c' for 'a'"),
        ({"class_names": {"a": ".."}}, "got '..' for 'a'"),
        ({"source": "no/such/folder"}, "'no/such/folder' does not exist"),
    ],
)
def test_a_wrong_parameter_is_refused_before_any_work(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        check_source(params(**changes))

    assert words in str(caught.value)


@pytest.mark.parametrize(("watched", "warned"), [(True, False), (False, True)])
def test_a_source_that_dvc_does_not_watch_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], watched: bool, warned: bool
) -> None:
    check_source(params(source=str(tmp_path), watch=str(tmp_path) if watched else "else"))

    assert ("warning: download.watch" in capsys.readouterr().out) is warned


def test_the_demo_brings_its_truth(project: Project) -> None:
    project(download={"source": "demo", "demo_share": 0.02})

    download.main()

    truth = read_table(Path("data/raw_truth.csv"), RAW_TRUTH)
    listed = set(read_table(Path("data/files.parquet"), FILES)["uri"])
    assert len(truth) > 0
    assert set(truth["uri"]) <= listed
    assert set(truth["original_uri"]) - {""} <= listed
    assert len(tree(Path("data/raw"))) == len(listed)


def test_the_fingerprint_of_a_folder_is_one_of_its_content(
    project: Project, write_files: Writer
) -> None:
    files = {"cat/1.jpg": b"c1", "cat/2.jpg": b"c2", "dog/1.jpg": b"d1"}
    prints = []
    for content in (files, files, {**files, "dog/1.jpg": b"d2"}, {**files, "dog/3.jpg": b"d3"}):
        project(download={"source": "source", "watch": "source"})
        write_files(Path("source"), content)

        download.main()

        prints.append(read_metrics("download")["source_fingerprint"])
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3
