"""Outputs on disk: enough space before, and in place all at once or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.lib.errors import InputError


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a path to write a file or folder to, which takes the place of `target` at the end.

    Where the block fails, `target` stays as it was. Nothing is ever written into an existing file:
    it may be a link into DVC's cache, where a change would spoil every version that shares it.
    """
    unfinished = target.with_name(f"{target.name}.partial")
    _remove(unfinished)
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield unfinished
    except BaseException:
        _remove(unfinished)
        raise
    _remove(target)
    unfinished.rename(target)


def require_space(folder: Path, needed: int) -> None:
    """Raise InputError where `needed` bytes do not fit on the disk that holds `folder`."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"the pictures need {needed / 1e6:,.0f} MB, the disk that holds {folder} has "
            f"{free / 1e6:,.0f} MB free; "
            "free some space (`dvc gc -w` drops old versions) and run again"
        )


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
