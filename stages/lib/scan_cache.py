"""Remembers measures by content, across runs: what has been decoded once is not decoded again.

A key is the content's hash and the recipe, i.e. everything but the bytes that a measure depends on.
"""

import contextlib
import fcntl
import hashlib
import json
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

FILE = "scan.sqlite"
LOCK = "scan.lock"
# The modules whose code makes the measures: a change in one of them is another recipe.
MEASURED_BY = (
    "detail",
    "formats",
    "framing",
    "images",
    "decoding",
    "resampling",
    "hashing",
    "measuring",
    "value_ranges",
)
PACKAGES = (
    "imagehash",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "pillow-heif",
    "scipy",
    "simplejpeg",
)
APPLICATION_ID = 0x6C65616B  # "leak": tells our file from any other SQLite file
SCHEMA = 1
BUSY_SECONDS = 60.0
RECIPES_KEPT = 3  # so that two sets of params can take turns; older ones make room
TABLES = (
    f"pragma application_id = {APPLICATION_ID}",
    f"pragma user_version = {SCHEMA}",
    "create table if not exists recipes (recipe text primary key, used integer not null)",
    "create table if not exists measures (image_id blob not null, recipe text not null, "
    "record blob not null, primary key (image_id, recipe))",
)
USE_RECIPE = "insert or replace into recipes select ?, coalesce(max(used), 0) + 1 from recipes"
FORGET = (
    "delete from recipes where recipe not in "
    f"(select recipe from recipes order by used desc limit {RECIPES_KEPT})",
    "delete from measures where recipe not in (select recipe from recipes)",
)


def recipe(max_pixels: int) -> str:
    """Return the fingerprint of what measures depend on beside the file's bytes."""
    versions = {name: _version(name) for name in PACKAGES}
    code = [Path(__file__).with_name(f"{name}.py").read_text("utf-8") for name in MEASURED_BY]
    text = json.dumps([code, max_pixels, versions], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


class ScanCache:
    """The cache as a run writes it; readers call `find`.

    Whatever is wrong with the file never stops the run. One that is damaged or another program's is
    renamed and begun anew; without a place to write, the run goes on without. Both are said.
    """

    def __init__(self, folder: Path, recipe: str) -> None:
        self.path = folder / FILE
        self.recipe = recipe
        self._connection: sqlite3.Connection | None = None
        self._guarded(self._connect)

    def __enter__(self) -> "ScanCache":
        return self

    def __exit__(self, *_: object) -> None:
        self._guarded(self._forget_old_recipes)
        self._drop_connection()

    def add(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Remember records by image_id: all of them or, after a kill, none."""
        rows = [(key, self.recipe, _sealed(key, self.recipe, record)) for key, record in records]
        if rows:
            self._guarded(lambda: self._insert(rows))

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            try:
                work()
            except sqlite3.OperationalError:  # locked, full, not to be written: no damage
                raise
            except sqlite3.DatabaseError as damage:
                self._begin_anew(damage)
                work()
        except (OSError, sqlite3.Error) as error:
            print(f"scan: no measures are remembered in {self.path}: {error}", flush=True)
            self._drop_connection()

    def _connect(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(self.path.with_name(LOCK)):
            connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS)
            self._connection = connection
            _require_ours(connection)
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = normal")
            with connection:
                for statement in TABLES:
                    connection.execute(statement)
                connection.execute(USE_RECIPE, (self.recipe,))

    def _insert(self, rows: list[tuple[bytes, str, bytes]]) -> None:
        if self._connection:
            with self._connection:
                self._connection.executemany(
                    "insert or replace into measures values (?, ?, ?)", rows
                )

    def _forget_old_recipes(self) -> None:
        if self._connection:
            with self._connection:
                for statement in FORGET:
                    self._connection.execute(statement)

    def _begin_anew(self, damage: sqlite3.DatabaseError) -> None:
        self._drop_connection()
        aside = self.path.with_name(f"{FILE}.damaged")
        with _alone(self.path.with_name(LOCK)):
            self.path.replace(aside)
            for ending in ("-wal", "-shm"):  # they belong to the file that went
                self.path.with_name(FILE + ending).unlink(missing_ok=True)
        print(
            f"scan: {self.path} is damaged ({damage}): set aside as {aside}, begun anew", flush=True
        )
        self._connect()

    def _drop_connection(self) -> None:
        if self._connection:
            self._connection.close()
        self._connection = None


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Keep other runs out while the file is opened or replaced; the kernel unlocks after a kill."""
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _require_ours(connection: sqlite3.Connection) -> None:
    """Raise DatabaseError for an SQLite file that another program or another layout made."""
    (tables,) = connection.execute("select count(*) from sqlite_master").fetchone()
    (application,) = connection.execute("pragma application_id").fetchone()
    (schema,) = connection.execute("pragma user_version").fetchone()
    if tables and (application, schema) != (APPLICATION_ID, SCHEMA):
        raise sqlite3.DatabaseError("another program's file")


def find(folder: str, recipe: str, image_id: bytes) -> bytes | None:
    """Return the record of an image, None where it is not remembered. Never raises for a bad file:
    the writer sees to that.
    """
    try:
        connection = _reader(folder)
        row = connection.execute(
            "select record from measures where image_id = ? and recipe = ?", (image_id, recipe)
        ).fetchone()
    except sqlite3.DatabaseError:
        return None
    return _unsealed(image_id, recipe, row[0]) if row else None


@lru_cache(maxsize=1)
def _reader(folder: str) -> sqlite3.Connection:
    address = f"{(Path(folder) / FILE).absolute().as_uri()}?mode=ro"
    return sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS)


def _sealed(image_id: bytes, recipe: str, record: bytes) -> bytes:
    return record + _seal(image_id, recipe, record)


def _unsealed(image_id: bytes, recipe: str, sealed: object) -> bytes | None:
    """Return the record, None where a bit of it has changed: SQLite does not check that."""
    if not isinstance(sealed, bytes):
        return None
    record = sealed[:-4]
    return record if sealed[-4:] == _seal(image_id, recipe, record) else None


def _seal(image_id: bytes, recipe: str, record: bytes) -> bytes:
    return zlib.crc32(record, zlib.crc32(image_id + recipe.encode())).to_bytes(4, "big")
