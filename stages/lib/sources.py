"""Where pictures come from: a folder of class folders, an archive, or the URL of one."""

import errno
import hashlib
import lzma
import os
import shutil
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import IO

import fsspec
from aiohttp import ClientError

from stages.lib.errors import InputError
from stages.lib.files import require_space
from stages.lib.progress import track

JUNK_FILES = frozenset({"thumbs.db", "desktop.ini", "icon\r"})
JUNK_FOLDERS = frozenset({"__macosx"})
OFFICIAL_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
BLOCK = 1 << 20
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError)


@dataclass(frozen=True)
class SourceFile:
    """One file of a source: where it lies, its label, its place below the label's folder, its
    official split.
    """

    path: Path
    label: str
    place: str
    official_split: str


def is_url(source: str) -> bool:
    """Tell an address from a path."""
    return "://" in source


def fetch_archive(url: str, target: Path) -> None:
    """Copy what stands at a URL to `target`, through fsspec (http, https and the object stores it
    knows).
    """
    try:
        with fsspec.open(url, "rb") as stream, target.open("wb") as out:
            blocks = iter(lambda: stream.read(BLOCK), b"")
            size = getattr(stream, "size", None) or 0
            for block in track(blocks, max(-(-size // BLOCK), 1), "download", "MB"):
                out.write(block)
    except (OSError, ImportError, ValueError, ClientError) as error:
        target.unlink(missing_ok=True)
        raise InputError(
            f"download.source {url!r} could not be fetched: {error or type(error).__name__}; "
            "check the address and the network, or fetch it by hand and name the local file"
        ) from error


def sha256_of_file(path: Path) -> str:
    """Return a file's sha256 in hex, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def unpack_archive(archive: Path, target: Path) -> None:
    """Unpack a zip or tar archive (plain, gz, bz2, xz) below `target`.

    Only ordinary files are unpacked. Raises InputError where a member's path leads outside the
    target, where the content would not fit on the disk, or where the file is no archive.
    """
    target.mkdir(parents=True, exist_ok=True)
    try:
        if zipfile.is_zipfile(archive):
            _unpack_zip(archive, target)
        elif tarfile.is_tarfile(archive):
            _unpack_tar(archive, target)
        else:
            raise InputError(f"download.source {str(archive)!r} must be a zip or tar archive")
    except RuntimeError as error:  # a password is asked for, or an odd way of compression
        raise InputError(
            f"archive {str(archive)!r} cannot be unpacked: {error}; unpack it by hand and name the "
            "folder"
        ) from error
    except (*DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # the disk's fault, not the archive's
        raise InputError(f"archive {str(archive)!r} is damaged: {error}; fetch it again") from error


def _unpack_zip(archive: Path, target: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        members = [member for member in content.infolist() if _is_ordinary(member)]
        places = [_place(target, member.filename) for member in members]
        require_space(target, sum(member.file_size for member in members))
        pairs = zip(members, places, strict=True)
        for member, place in track(pairs, len(members), "unpack", "files"):
            with content.open(member) as stream:
                _write(place, stream)


def _is_ordinary(member: zipfile.ZipInfo) -> bool:
    """Tell files from folders and links; an archive from a system without modes says 0."""
    return not member.is_dir() and stat.S_IFMT(member.external_attr >> 16) in (0, stat.S_IFREG)


def _unpack_tar(archive: Path, target: Path) -> None:
    with tarfile.open(archive) as content:
        members = [member for member in content if member.isfile()]
        _require_end(content)
        places = [_place(target, member.name) for member in members]
        require_space(target, sum(member.size for member in members))
        pairs = zip(members, places, strict=True)
        for member, place in track(pairs, len(members), "unpack", "files"):
            stream = content.extractfile(member)
            assert stream is not None  # extractfile returns None for directories and links only
            with stream:
                _write(place, stream)


def _require_end(content: tarfile.TarFile) -> None:
    """Raise TarError where a damaged header ended the listing early, as it does without a word.

    Only zeros may follow the last member. Reading on to the end also has gzip check its checksum.
    """
    stream = content.fileobj
    assert stream is not None  # it is open
    stream.seek(content.offset)
    for block in iter(lambda: stream.read(BLOCK), b""):
        if block.strip(b"\0"):
            raise tarfile.ReadError("a header in the middle cannot be read")


def _place(target: Path, name: str) -> Path:
    path = PurePosixPath(name.replace("\\", "/"))
    if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise InputError(
            f"archive member {name!r} leads outside the target; such an archive is not unpacked"
        )
    return target.joinpath(*path.parts)


def _write(place: Path, stream: IO[bytes]) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("wb") as out:
        shutil.copyfileobj(stream, out, BLOCK)


def list_source(
    folder: Path, class_names: dict[str, str], exclude: tuple[str, ...]
) -> list[SourceFile]:
    """Return every file below the class folders, sorted by label and place.

    Wrapping folders are stepped through. Where the top folders are named train, test, val (or
    validation …), they are official splits with class folders inside. class_names: folder name to
    label. exclude: patterns of class folders to leave out. Hidden files and other junk are passed
    over.
    Raises InputError where there are no class folders, only one, or no files in them.
    """
    root = _step_in(folder)
    splits = {path.name: OFFICIAL_SPLITS.get(path.name.lower(), "") for path in _folders(root)}
    if not splits:
        raise InputError(
            f"download.source must hold one folder per class, found none in {str(root)!r}; "
            "put the pictures into folders named after their classes"
        )
    official = len(splits) > 1 and all(splits.values())
    tops = [(root / name, split) for name, split in splits.items()] if official else [(root, "")]
    files = [
        found for top, split in tops for found in _class_files(top, split, class_names, exclude)
    ]
    _tell_of_loose_files([top for top, _ in tops])
    _require_known_names(class_names, [folder for top, _ in tops for folder in _folders(top)])
    labels = {file.label for file in files}
    if "" in labels:
        raise InputError(f"a class folder in {str(root)!r} has a name of spaces alone; rename it")
    if len(labels) < 2:
        raise InputError(
            f"a classifier needs at least two classes with files, found {len(labels)} "
            f"({', '.join(sorted(labels)) or 'none'}) in {str(root)!r}; "
            "add class folders, or see download.exclude and download.class_names"
        )
    return sorted(_without_clashes(files), key=lambda file: (file.label, file.place))


def _tell_of_loose_files(tops: list[Path]) -> None:
    """Say what lies beside the class folders: it has no label, so it is not used."""
    loose = [
        path
        for top in tops
        for path in sorted(top.iterdir())
        if path.is_file() and not _is_junk(path.name)
    ]
    if loose:
        print(
            "download: not used, for want of a label: what lies beside the class folders "
            f"({len(loose)}, the first is {loose[0].name!r})"
        )


def _require_known_names(class_names: dict[str, str], folders: list[Path]) -> None:
    names = {_readable(folder.name).strip() for folder in folders}
    for name in class_names:
        if name not in names:
            raise InputError(
                f"download.class_names: {name!r} is no class folder of the source; "
                f"the folders are {', '.join(sorted(names))}"
            )


def _class_files(
    top: Path, split: str, class_names: dict[str, str], exclude: tuple[str, ...]
) -> Iterator[SourceFile]:
    for folder in _folders(top):
        if any(fnmatch(folder.name.strip(), pattern) for pattern in exclude):
            continue
        name = _readable(folder.name).strip()
        label = class_names.get(name, name)
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder)
            if (path.is_file() or path.is_symlink()) and not any(map(_is_junk, inside.parts)):
                place = PurePosixPath(split, *map(_readable, inside.parts))
                yield SourceFile(path, label, str(place), split)


def _without_clashes(files: list[SourceFile]) -> list[SourceFile]:
    """Set files of two folders that share a label and a name apart by their folder's name."""
    taken: set[tuple[str, str]] = set()
    kept = []
    for file in files:
        place = file.place
        if (file.label, place) in taken:
            place = str(PurePosixPath(file.path.parent.name.strip(), place))
        if (file.label, place) in taken:
            raise InputError(
                f"two files would both become {file.label}/{place}; rename {str(file.path)!r}"
            )
        taken.add((file.label, place))
        kept.append(SourceFile(file.path, file.label, place, file.official_split))
    return kept


def _step_in(folder: Path) -> Path:
    """Return the folder that holds the class folders: below any that only wrap one folder of
    folders.
    """
    while len(inside := _folders(folder)) == 1 and _folders(inside[0]):
        folder = inside[0]
    return folder


def _folders(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not _is_junk(path.name)]


def _readable(name: str) -> str:
    """Return a name that every table can hold: bytes that are no UTF-8 and control characters are
    replaced.
    """
    text = os.fsencode(name).decode("utf-8", "replace")
    return "".join("\ufffd" if unicodedata.category(sign) == "Cc" else sign for sign in text)


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name.lower() in JUNK_FILES | JUNK_FOLDERS
