"""What a revision says, read without checking it out: metrics, params, lock file and outputs."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.lib.errors import InputError
from stages.lib.files import replacing
from stages.lib.metrics import METRICS

WORKSPACE = "workspace"
SHOWN_DIGITS = 7  # of a commit, as git shortens it
FETCH = """
import sys
from dvc.api import DVCFileSystem
path, target, commit = sys.argv[1:]
DVCFileSystem(rev=commit or None).get(path, target, recursive=True)
"""


@dataclass(frozen=True)
class Revision:
    """A state of the project: a commit, or the files of the workspace, where `commit` is "".

    name: as a person gave it. experiment: the name is one of a DVC experiment.
    """

    name: str
    commit: str
    experiment: bool = False

    def __str__(self) -> str:
        """Return how to name it to a person."""
        short = self.commit[:SHOWN_DIGITS]
        return self.name if not short or self.name.startswith(short) else f"{self.name} ({short})"


@dataclass(frozen=True)
class Metrics:
    """The metric files of a revision.

    figures: stage to key to value, for every file that is valid JSON; NaN and Infinity, which DVC
    lets pass, are here as such floats. broken: stage to what is wrong with a file that is not one
    JSON object. A stage without a file is in neither.
    """

    figures: dict[str, dict[str, Any]]
    broken: dict[str, str]


def resolve(name: str) -> Revision:
    """Return the revision of this name: a branch, tag, commit, experiment, or "workspace".

    Raises InputError where there is none.
    """
    if name == WORKSPACE:
        return Revision(name, "")
    commit = _commit(name)
    if commit:
        return Revision(name, commit)
    commit = _commit(_experiment(name)) if name else ""
    if not commit:
        raise InputError(
            f"revision {name!r} is unknown: name a branch, tag, commit, experiment (`dvc exp "
            f"show`) or {WORKSPACE!r}; in CI, fetch the whole history (fetch-depth: 0)"
        )
    return Revision(name, commit, experiment=True)


def merge_base(left: Revision, right: Revision) -> str:
    """Return the commit at which two histories part, "" where they have none in common.

    The workspace counts as the commit that is checked out.
    """
    found = _git("merge-base", left.commit or "HEAD", right.commit or "HEAD")
    return found.stdout.decode().strip() if found.returncode == 0 else ""


def read_file(revision: Revision, path: str) -> bytes | None:
    """Return the bytes of a file that git tracks, relative to this folder; None without one.

    Of the workspace any file counts, tracked or not.
    """
    if not revision.commit:
        return Path(path).read_bytes() if Path(path).is_file() else None
    if not _listed(revision, path):
        return None
    return _require(_git("cat-file", "blob", f"{revision.commit}:./{path}"))


def metrics(revision: Revision) -> Metrics:
    """Return what metrics/<stage>.json says, for every stage that has one."""
    figures, broken = {}, {}
    for path in _metric_files(revision):
        try:
            figures[Path(path).stem] = _json_object(read_file(revision, path) or b"")
        except ValueError as error:
            broken[Path(path).stem] = str(error)
    return Metrics(figures, broken)


def params(revision: Revision) -> dict[str, Any]:
    """Return params.yaml, unchecked: an older revision may know other keys; empty without one."""
    return _yaml(revision, "params.yaml")


def lock(revision: Revision) -> dict[str, Any]:
    """Return the stages of dvc.lock, each with its cmd, deps, params and outs; empty without."""
    stages: dict[str, Any] = _yaml(revision, "dvc.lock").get("stages") or {}
    return stages


def pipeline(revision: Revision) -> dict[str, Any]:
    """Return the stages of dvc.yaml as they are written there; empty without one."""
    stages: dict[str, Any] = _yaml(revision, "dvc.yaml").get("stages") or {}
    return stages


def recorded_hashes(stages: dict[str, Any], kind: str) -> dict[str, str]:
    """Return path to md5 of all that a lock file's stages wrote ("outs") or read ("deps")."""
    return {
        entry["path"]: str(entry.get("md5", ""))
        for stage in stages.values()
        for entry in stage.get(kind, [])
    }


def differences(old: Any, new: Any, name: str) -> list[tuple[str, Any, Any]]:
    """Return dotted name, old and new value of all that differs in two trees of params.

    A list whose entries each name a metric is told apart by that name, not by the position.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [
            found
            for key in keys
            for found in differences(old.get(key), new.get(key), f"{name}.{key}")
        ]
    if _by_metric(old) and _by_metric(new):
        before, after = ({rule["metric"]: rule for rule in rules} for rules in (old, new))
        return differences(before, after, name)
    return [] if old == new else [(name, old, new)]


def fetch_output(revision: Revision, path: str, folder: Path) -> Path | None:
    """Return where an output of the pipeline lies as this revision made it; None without it.

    It comes from DVC's cache, else from the default remote, and is put below `folder`, which must
    not hold it yet; what lies there may be a link into the cache: read it, never write it. What the
    workspace holds stays where it is.
    """
    if not revision.commit and Path(path).exists():
        return Path(path)
    made = recorded_hashes(lock(revision), "outs")
    if not any(path == out or path.startswith(f"{out}/") for out in made):
        return None
    # In a process of its own: what cache, remote and network can raise has no class in common.
    try:
        with replacing(folder / path) as unfinished:
            subprocess.run(
                [sys.executable, "-c", FETCH, path, str(unfinished), revision.commit],
                capture_output=True,
                check=True,
            )
    except subprocess.CalledProcessError:
        return None
    return folder / path


def _by_metric(entries: Any) -> bool:
    return isinstance(entries, list) and all(
        isinstance(entry, dict) and "metric" in entry for entry in entries
    )


def _metric_files(revision: Revision) -> list[str]:
    if revision.commit:
        paths = [Path(path) for path in _listed(revision, f"{METRICS}/")]
    else:
        paths = list(METRICS.glob("*.json"))
    return sorted(path.as_posix() for path in paths if path.suffix == ".json")


def _listed(revision: Revision, path: str) -> list[str]:
    """Return what a commit has at this path, or in this folder where it ends in "/"."""
    listed = _require(_git("ls-tree", "-z", "--name-only", revision.commit, "--", path))
    return [found for found in listed.decode().split("\0") if found]


def _commit(name: str) -> str:
    """Return the commit that git knows by this name, "" where there is none."""
    found = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    return found.stdout.decode().strip() if found.returncode == 0 else ""


def _experiment(name: str) -> str:
    """Return what DVC knows by this name, "" where there is nothing."""
    # DVC takes half a second to load, and most of what is here does without it.
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.scm import resolve_rev

    try:
        return str(resolve_rev(Repo().scm, name))
    except DvcException:
        return ""


def _json_object(data: bytes) -> dict[str, Any]:
    content = json.loads(data, object_pairs_hook=_without_repeated_keys)
    if not isinstance(content, dict):
        raise ValueError(f"must be a JSON object, found {type(content).__name__}")
    return content


def _without_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("names a key twice")
    return content


def _yaml(revision: Revision, path: str) -> dict[str, Any]:
    try:
        content = YAML(typ="safe", pure=True).load(read_file(revision, path) or b"{}")
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} of {revision} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise InputError(
            f"{path} of {revision} must be a mapping, found {type(content).__name__}; "
            "bring it back from git"
        )
    return content


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *arguments], capture_output=True, check=False)


def _require(done: subprocess.CompletedProcess[bytes]) -> bytes:
    if done.returncode:
        raise InputError(f"`{' '.join(done.args)}` failed: {done.stderr.decode().strip()}")
    return done.stdout
