"""Sources: folders, archives and addresses give the same listing, and nothing leads outside."""

import io
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from stages.lib import sources
from stages.lib.errors import InputError
from stages.lib.files import require_space
from stages.lib.sources import (
    fetch_archive,
    is_url,
    list_source,
    sha256_of_file,
    unpack_archive,
)

Writer = Callable[[Path, Mapping[str, bytes]], None]
TWO_CLASSES = {"cat/1.jpg": b"c1", "cat/sub/2.jpg": b"c2", "dog/1.jpg": b"d1"}
TARS = {"tar": "w", "tar.gz": "w:gz", "tar.bz2": "w:bz2", "tar.xz": "w:xz"}
KINDS = ["zip", *TARS]


def make_zip(path: Path, files: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def make_tar(path: Path, files: Mapping[str, bytes], mode: str) -> None:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def make_archive(path: Path, files: Mapping[str, bytes]) -> Path:
    kind = path.name.split(".", 1)[1]
    make_zip(path, files) if kind == "zip" else make_tar(path, files, TARS[kind])
    return path


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def listed(folder: Path, **options: object) -> list[tuple[str, str, str]]:
    chosen: dict[str, object] = {"class_names": {}, "exclude": (), **options}
    return [
        (file.label, file.place, file.official_split)
        for file in list_source(folder, **chosen)  # type: ignore[arg-type]
    ]


def refusal(folder: Path, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        listed(folder, **options)
    return str(caught.value)


# --- Archives -----------------------------------------------------------------------------------


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "unpacked"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_archive_is_unpacked(tmp_path: Path, target: Path, kind: str) -> None:
    unpack_archive(make_archive(tmp_path / f"a.{kind}", TWO_CLASSES), target)

    assert files_below(target) == TWO_CLASSES


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_archive_is_depends_on_its_bytes_and_not_its_name(
    tmp_path: Path, target: Path, kind: str
) -> None:
    archive = make_archive(tmp_path / f"a.{kind}", TWO_CLASSES).rename(tmp_path / "download")

    unpack_archive(archive, target)

    assert files_below(target) == TWO_CLASSES


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name",
    ["../evil.jpg", "cat/../../evil.jpg", "/tmp/evil.jpg", "..\\evil.jpg", "C:\\evil.jpg", "."],
)
def test_a_member_that_leads_outside_refuses_the_whole_archive(
    tmp_path: Path, target: Path, kind: str, name: str
) -> None:
    archive = make_archive(tmp_path / f"a.{kind}", {"cat/1.jpg": b"c", name: b"evil"})

    with pytest.raises(InputError, match="leads outside the target"):
        unpack_archive(archive, target)

    assert files_below(target) == {}
    assert not (tmp_path / "evil.jpg").exists()


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_links_in_a_tar_are_skipped(tmp_path: Path, target: Path, kind: str) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("cat/link.jpg")
        link.type = tarfile.SYMTYPE if kind == "symbolic" else tarfile.LNKTYPE
        link.linkname = "../../secret"
        archive.addfile(link)
        member = tarfile.TarInfo("cat/1.jpg")
        member.size = 1
        archive.addfile(member, io.BytesIO(b"c"))

    unpack_archive(tmp_path / "a.tar", target)

    assert files_below(target) == {"cat/1.jpg": b"c"}


def test_links_in_a_zip_are_skipped(tmp_path: Path, target: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        link = zipfile.ZipInfo("cat/link.jpg")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "../../secret")
        plain = zipfile.ZipInfo("cat/1.jpg")
        plain.external_attr = (stat.S_IFREG | 0o644) << 16
        archive.writestr(plain, b"c")

    unpack_archive(tmp_path / "a.zip", target)

    assert files_below(target) == {"cat/1.jpg": b"c"}


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"\x89PNG\r\n\x1a\n" + bytes(2000)])
def test_what_is_no_archive_is_refused(tmp_path: Path, target: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)

    with pytest.raises(InputError, match="must be a zip or tar archive"):
        unpack_archive(tmp_path / "a.zip", target)


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_that_stops_early_is_refused(tmp_path: Path, target: Path, kind: str) -> None:
    noise = np.random.default_rng(0)
    files = {f"cat/{n}.jpg": noise.bytes(3000) for n in range(6)}
    archive = make_archive(tmp_path / f"a.{kind}", files)
    data = archive.read_bytes()
    whole = sum(map(len, files.values()))
    cuts = [20, 700, len(data) // 3, len(data) // 2, whole * 9 // 10]

    for cut in cuts:
        archive.write_bytes(data[:cut])
        with pytest.raises(InputError, match="is damaged|must be a zip or tar archive"):
            unpack_archive(archive, target)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "tar"])
def test_a_damaged_archive_is_refused_or_unpacks_to_what_it_held(
    tmp_path: Path, target: Path, kind: str
) -> None:
    noise = np.random.default_rng(0)
    files = {f"cat/{n}.txt": b"same words " * 40 + noise.bytes(400) for n in range(3)}
    archive = make_archive(tmp_path / f"a.{kind}", files)
    data, refused = archive.read_bytes(), 0

    for at in range(0, len(data), 37):
        archive.write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
        try:
            unpack_archive(archive, target)
        except InputError:
            refused += 1
        else:
            # Only what no checksum covers (dates, names) may differ.
            assert sorted(files_below(target).values()) == sorted(files.values())
        shutil.rmtree(target)
        target.mkdir()

    assert refused > len(data) / 37 / 2


def test_a_damaged_header_in_the_middle_of_a_tar_loses_no_files_in_silence(
    tmp_path: Path, target: Path
) -> None:
    archive = make_archive(tmp_path / "a.tar", {f"cat/{n}.jpg": b"x" * 512 for n in range(5)})
    data = bytearray(archive.read_bytes())
    data[2 * 1024 + 150] ^= 0xFF  # in the checksum of the third member's header
    archive.write_bytes(data)

    with pytest.raises(InputError, match="is damaged: a header in the middle cannot be read"):
        unpack_archive(archive, target)


def test_a_zip_that_asks_for_a_password_is_refused(tmp_path: Path, target: Path) -> None:
    archive = make_archive(tmp_path / "a.zip", {"cat/1.jpg": b"c"})
    data = bytearray(archive.read_bytes())
    data[6] |= 1  # the flag "encrypted", in the local header and in the central directory
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)

    with pytest.raises(InputError, match=r"cannot be unpacked: .*password"):
        unpack_archive(archive, target)


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_an_archive_larger_than_the_disk_is_refused_before_it_is_unpacked(
    tmp_path: Path, target: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = make_archive(tmp_path / f"a.{kind}", {"cat/1.jpg": bytes(3_000_000)})
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2_999_999))

    with pytest.raises(InputError, match=r"need 3 MB, .* has 3 MB free"):
        unpack_archive(archive, target)

    assert files_below(target) == {}


@pytest.mark.parametrize(("needed", "fits"), [(100, True), (101, False)])
def test_a_disk_may_be_filled_to_its_last_byte(
    tmp_path: Path, needed: int, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(sources.shutil, "disk_usage", lambda _: usage)

    if fits:
        require_space(tmp_path, needed)
    else:
        with pytest.raises(InputError, match="free some space"):
            require_space(tmp_path, needed)


# --- Addresses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [("http://x/a.zip", True), ("s3://bucket/a.tar", True), ("a.zip", False), ("C:/a", False)],
)
def test_addresses_are_told_from_paths(source: str, expected: bool) -> None:
    assert is_url(source) is expected


def test_a_file_is_fetched_as_it_is(tmp_path: Path, serve: Callable[[Path], str]) -> None:
    data = np.random.default_rng(0).bytes(3_000_000)  # more than one block
    (tmp_path / "a.zip").write_bytes(data)

    fetch_archive(f"{serve(tmp_path)}/a.zip", tmp_path / "fetched")

    assert (tmp_path / "fetched").read_bytes() == data
    assert sha256_of_file(tmp_path / "fetched") == sha256_of_file(tmp_path / "a.zip")


@pytest.mark.parametrize("page", ["missing.zip", "error-500", "cut-short"])
def test_what_cannot_be_fetched_is_named_and_leaves_nothing(
    tmp_path: Path, serve: Callable[[Path], str], page: str
) -> None:
    url = f"{serve(tmp_path)}/{page}"

    with pytest.raises(InputError, match="could not be fetched") as caught:
        fetch_archive(url, tmp_path / "fetched")

    assert url in str(caught.value)
    assert not (tmp_path / "fetched").exists()


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/a.zip", "nonsense://x/a.zip"])
def test_an_address_where_nobody_answers_is_named(tmp_path: Path, url: str) -> None:
    with pytest.raises(InputError, match="could not be fetched"):
        fetch_archive(url, tmp_path / "fetched")


# --- Listing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapping", ["", "data/", "a/b/c/"])
def test_class_folders_are_found_below_folders_that_only_wrap(
    tmp_path: Path, write_files: Writer, wrapping: str
) -> None:
    write_files(tmp_path, {wrapping + name: data for name, data in TWO_CLASSES.items()})

    assert listed(tmp_path) == [
        ("cat", "1.jpg", ""),
        ("cat", "sub/2.jpg", ""),
        ("dog", "1.jpg", ""),
    ]


def test_junk_is_passed_over_at_every_level(tmp_path: Path, write_files: Writer) -> None:
    junk = ["Thumbs.db", "desktop.ini", ".DS_Store", "._1.jpg", "Icon\r", ".git/config"]
    folders = ["", "cat/", "cat/sub/"]
    write_files(tmp_path, {folder + name: b"" for folder in folders for name in junk})
    write_files(tmp_path, {"__MACOSX/cat/._1.jpg": b"", "README.txt": b"", **TWO_CLASSES})

    assert [file[:2] for file in listed(tmp_path)] == [
        ("cat", "1.jpg"),
        ("cat", "sub/2.jpg"),
        ("dog", "1.jpg"),
    ]


def test_spaces_around_class_names_are_stripped(tmp_path: Path, write_files: Writer) -> None:
    write_files(tmp_path, {" cat/1.jpg": b"", "dog /2.jpg": b"", "sea lion/3.jpg": b""})

    assert {file[0] for file in listed(tmp_path)} == {"cat", "dog", "sea lion"}


def test_folders_are_renamed_and_merged_without_losing_files(
    tmp_path: Path, write_files: Writer
) -> None:
    write_files(
        tmp_path, {"cats/1.jpg": b"", "kitten/1.jpg": b"", "kitten/2.jpg": b"", "d/1.jpg": b""}
    )

    found = listed(tmp_path, class_names={"cats": "cat", "kitten": "cat", "d": "dog"})

    assert found == [
        ("cat", "1.jpg", ""),
        ("cat", "2.jpg", ""),
        ("cat", "kitten/1.jpg", ""),
        ("dog", "1.jpg", ""),
    ]


def test_files_that_cannot_be_set_apart_are_refused(tmp_path: Path, write_files: Writer) -> None:
    write_files(tmp_path, {f"{name}/sub/1.jpg": b"" for name in ("a", "b", "c")} | {"d/1.jpg": b""})

    message = refusal(tmp_path, class_names=dict.fromkeys("abc", "cat"))

    assert "two files would both become cat/sub/sub/1.jpg" in message


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        ((), {"cat", "dog", "old cats", "unsorted"}),
        (("unsorted",), {"cat", "dog", "old cats"}),
        (("old*", "unsorted"), {"cat", "dog"}),
        (("UNSORTED", "dogs"), {"cat", "dog", "old cats", "unsorted"}),
    ],
)
def test_class_folders_are_left_out_by_pattern(
    tmp_path: Path, write_files: Writer, exclude: tuple[str, ...], left: set[str]
) -> None:
    names = ("cat", "dog", "old cats", "unsorted")
    write_files(tmp_path, {f"{name}/1.jpg": b"" for name in names})

    assert {file[0] for file in listed(tmp_path, exclude=exclude)} == left


@pytest.mark.parametrize(
    "names",
    [
        {"train": "train", "test": "test"},
        {"Train": "train", "TEST": "test"},
        {"train": "train", "val": "val", "test": "test"},
        {"training": "train", "validation": "val", "testing": "test"},
        {"train": "train", "valid": "val"},
    ],
)
def test_official_splits_are_kept(
    tmp_path: Path, write_files: Writer, names: dict[str, str]
) -> None:
    write_files(tmp_path, {f"set/{top}/{name}": b"" for top in names for name in TWO_CLASSES})

    found = listed(tmp_path)

    expected = [
        (name.split("/")[0], f"{split}/{name.split('/', 1)[1]}", split)
        for split in names.values()
        for name in TWO_CLASSES
    ]
    assert sorted(found) == sorted(expected)


def test_a_class_named_train_beside_others_is_a_class(tmp_path: Path, write_files: Writer) -> None:
    write_files(tmp_path, {"train/1.jpg": b"", "bus/1.jpg": b""})

    assert listed(tmp_path) == [("bus", "1.jpg", ""), ("train", "1.jpg", "")]


def test_the_listing_is_sorted_and_each_place_stands_once(
    tmp_path: Path, write_files: Writer
) -> None:
    names = [f"{label}/{n}.jpg" for label in ("b", "a", "c") for n in (10, 9, 1)]
    write_files(tmp_path, dict.fromkeys(names, b""))

    found = listed(tmp_path)

    assert found == sorted(set(found))
    assert len(found) == 9


def test_names_that_no_table_could_hold_are_made_readable(
    tmp_path: Path, write_files: Writer
) -> None:
    write_files(tmp_path, {"cat/a\rb.jpg": b"", "cat/naïve 猫.jpg": b"", "dog/1.jpg": b""})
    (tmp_path / os.fsdecode(b"dog/caf\xe9.jpg")).write_bytes(b"")
    (tmp_path / os.fsdecode(b"\xe9lan")).mkdir()
    (tmp_path / os.fsdecode(b"\xe9lan/1.jpg")).write_bytes(b"")

    assert listed(tmp_path) == [
        ("cat", "a\ufffdb.jpg", ""),
        ("cat", "naïve 猫.jpg", ""),
        ("dog", "1.jpg", ""),
        ("dog", "caf\ufffd.jpg", ""),
        ("\ufffdlan", "1.jpg", ""),
    ]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "one folder per class, found none"),
        ({"1.jpg": b"", "2.jpg": b""}, "one folder per class, found none"),
        ({"cat/1.jpg": b""}, "at least two classes with files, found 1 (cat)"),
        ({"cat/1.jpg": b"", "dog/.hidden": b""}, "at least two classes with files, found 1 (cat)"),
        ({"cat/.hidden": b"", "dog/Thumbs.db": b""}, "with files, found 0 (none)"),
        ({"cat/1.jpg": b"", "  /1.jpg": b""}, "a name of spaces alone"),
    ],
)
def test_a_folder_that_is_no_data_set_is_refused(
    tmp_path: Path, write_files: Writer, files: dict[str, bytes], words: str
) -> None:
    write_files(tmp_path, files)

    assert words in refusal(tmp_path)


def test_a_name_in_the_map_that_no_folder_has_is_refused(
    tmp_path: Path, write_files: Writer
) -> None:
    write_files(tmp_path, TWO_CLASSES)

    sentence = refusal(tmp_path, class_names={"kat": "cat"})

    assert "'kat' is no class folder" in sentence
    assert "cat, dog" in sentence


def test_files_beside_the_class_folders_are_told_of(
    tmp_path: Path, write_files: Writer, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(tmp_path, {**TWO_CLASSES, "lost.jpg": b"x", ".DS_Store": b"x"})

    listing = listed(tmp_path)

    assert len(listing) == len(TWO_CLASSES)
    assert "beside the class folders (1, the first is 'lost.jpg')" in capsys.readouterr().out
