"""Proves that a revision's metrics are those of its own code, params and data, without the data."""

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.lib.errors import InputError
from stages.lib.metrics import METRICS
from tools.revisions import (
    Revision,
    differences,
    lock,
    params,
    pipeline,
    read_file,
    recorded_hashes,
)

# What DVC says of a file that is not there. It need not be, where git does not keep it: its hash is
# in dvc.lock.
ABSENT = ("deleted", "not in cache")
PARAMS = "params.yaml"


def doubts(revision: Revision, stages: Iterable[str]) -> list[str]:
    """Return a sentence for everything that speaks against a revision's metrics; none: fresh.

    stages: those whose metric files must be what dvc.lock recorded. `dvc repro --dry` is no help:
    it fails without data, and with --allow-missing it succeeds on a stale pipeline.
    """
    recorded, declared = lock(revision), pipeline(revision)
    with checked_out(revision) as folder:
        status = _status(folder)
        if isinstance(status, str):
            return [status]
        found = status_doubts(status, _need_not_exist(folder, _absent(status)))
    return [
        *param_doubts(status, recorded, params(revision)),
        *found,
        *frozen_doubts(declared),
        *lock_doubts(declared, recorded),
        *metric_doubts(revision, recorded, stages),
    ]


@contextmanager
def checked_out(revision: Revision) -> Iterator[Path]:
    """Yield a folder with the files of a revision: this one, or a working tree of its own."""
    if not revision.commit:
        yield Path()
        return
    with tempfile.TemporaryDirectory() as outer:
        tree = Path(outer) / "tree"
        _git("worktree", "add", "--quiet", "--detach", str(tree), revision.commit)
        try:
            yield tree / _git("rev-parse", "--show-prefix").strip()
        finally:
            _git("worktree", "remove", "--force", str(tree))


def status_doubts(status: dict[str, Any], may_be_absent: set[str]) -> list[str]:
    """Return a sentence for each kind of change in the output of `dvc status --json`.

    What is not known to be harmless counts as a change; changed params have sentences of their own.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for stage, entries in status.items():
        for kind, paths in _changes(entries):
            for path, state in paths.items():
                harmless = state in ABSENT and path in may_be_absent
                if not harmless and not (path == PARAMS and isinstance(state, dict)):
                    what = f"{kind.removeprefix('changed ')} {state}"
                    found.setdefault((stage, what), []).append(path)
    return [
        f"{stage} is out of date ({what}: {', '.join(paths)}); run `dvc repro`"
        for (stage, what), paths in found.items()
    ]


def param_doubts(
    status: dict[str, Any], recorded: dict[str, Any], now: dict[str, Any]
) -> list[str]:
    """Return a sentence for each stage whose params differ from those that it ran with."""
    found = []
    for stage, entries in status.items():
        ran_with = recorded.get(stage, {}).get("params", {}).get(PARAMS, {})
        for _, paths in _changes(entries):
            if isinstance(paths.get(PARAMS), dict):
                changed = [
                    f"{name} {old} → {new}"
                    for section in ran_with
                    for name, old, new in differences(ran_with[section], now.get(section), section)
                ]
                what = ", ".join(changed or paths[PARAMS])
                found.append(f"{stage} is out of date (params changed: {what}); run `dvc repro`")
    return found


def frozen_doubts(declared: dict[str, Any]) -> list[str]:
    """Return a sentence for each frozen stage, whose changes DVC does not look for."""
    return [
        f"{stage} is frozen in dvc.yaml, so nothing shows that it is up to date; `dvc unfreeze` it"
        for stage, entry in declared.items()
        if entry.get("frozen")
    ]


def lock_doubts(declared: dict[str, Any], recorded: dict[str, Any]) -> list[str]:
    """Return a sentence for each stage that never ran, that dvc.yaml has struck something from, or
    that read another version of an output than the one that was written.

    DVC sees none of it where the data are elsewhere, and nothing ever of what was struck out.
    """
    ran = {name.partition("@")[0] for name in recorded}
    found = [
        f"{stage} is not in dvc.lock; run `dvc repro`" for stage in declared if stage not in ran
    ]
    written = recorded_hashes(recorded, "outs")
    for stage, entry in declared.items():
        if stage in recorded and _counts_declared(entry) != _counts_recorded(recorded[stage]):
            found.append(f"{stage} has other deps, params or outputs in dvc.yaml than in dvc.lock")
    for stage, entry in recorded.items():
        for read in entry.get("deps", []):
            if read["path"] in written and written[read["path"]] != read.get("md5", ""):
                found.append(
                    f"{stage} read another {read['path']} than dvc.lock says was written; "
                    "run `dvc repro`"
                )
    return found


def metric_doubts(revision: Revision, recorded: dict[str, Any], stages: Iterable[str]) -> list[str]:
    """Return a sentence for each metric file that is not the one that its stage wrote."""
    written = recorded_hashes(recorded, "outs")
    found = []
    for path in sorted(f"{METRICS}/{stage}.json" for stage in set(stages)):
        content = read_file(revision, path)
        if path not in written:
            found.append(f"{path} is no output in dvc.lock, so nothing shows where it is from")
        elif content is not None and hashlib.md5(content).hexdigest() != written[path]:
            found.append(f"{path} is not what its stage wrote (its md5 in dvc.lock differs)")
    return found


def _counts_declared(entry: dict[str, Any]) -> tuple[int, int, int]:
    """Return how many deps, params and outputs a stage has in dvc.yaml, whatever they are called:
    a path may be the value of a param there.
    """
    outputs = sum(len(entry.get(kind) or []) for kind in ("outs", "metrics", "plots"))
    keys = [
        sum(len(names or []) for names in key.values()) if isinstance(key, dict) else 1
        for key in entry.get("params") or []
    ]
    return len(entry.get("deps") or []), sum(keys), outputs


def _counts_recorded(entry: dict[str, Any]) -> tuple[int, int, int]:
    """Return the same of a stage in dvc.lock."""
    keys = sum(len(names) for names in entry.get("params", {}).values())
    return len(entry.get("deps", [])), keys, len(entry.get("outs", []))


def _changes(entries: list[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield kind and {path: state} of what DVC says of a stage, its bare words too."""
    for entry in entries:
        if isinstance(entry, dict):
            yield from entry.items()
        else:
            yield "changed", {str(entry): "since"}


def _status(folder: Path) -> dict[str, Any] | str:
    """Return what `dvc status` says, or a sentence where it says nothing that can be read."""
    dvc = [sys.executable, "-m", "dvc", "status", "--json"]
    done = subprocess.run(dvc, cwd=folder, capture_output=True, text=True, check=False)
    try:
        content = json.loads(done.stdout) if done.returncode == 0 else None
    except json.JSONDecodeError:
        content = None
    if isinstance(content, dict):
        return content
    if "rwlock" in done.stderr or "another DVC process" in done.stderr:
        return "another DVC command is at work in this folder; wait until it is done"
    last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
    return f"`dvc status` does not tell whether the pipeline is up to date: {last}"


def _absent(status: dict[str, Any]) -> set[str]:
    return {
        path
        for entries in status.values()
        for _, paths in _changes(entries)
        for path, state in paths.items()
        if state in ABSENT
    }


def _need_not_exist(folder: Path, paths: set[str]) -> set[str]:
    """Return those paths that git does not keep: outside of the repository, or ignored."""
    top = Path(_git("rev-parse", "--show-toplevel", cwd=folder).strip()).resolve()
    inside = {path for path in paths if (folder / path).resolve().is_relative_to(top)}
    ignored = subprocess.run(
        ["git", "check-ignore", "--stdin", "-z"],
        cwd=folder,
        input="\0".join(sorted(inside)),
        capture_output=True,
        text=True,
        check=False,
    )
    return (paths - inside) | set(ignored.stdout.split("\0")) - {""}


def _git(*arguments: str, cwd: Path | None = None) -> str:
    done = subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"`git {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return done.stdout
