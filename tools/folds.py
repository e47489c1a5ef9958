"""The folds of a cross-validation as DVC experiments: named by what goes into them, run once."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.lib.errors import InputError
from stages.lib.params import PARAMS_FILE, read_params_file
from tools.revisions import WORKSPACE, Revision, pipeline, read_file, resolve

LAST = "evaluate"  # the folds need no export and no report
KEY_DIGITS = 10
OWN_KEYS = ("split.n_folds", "split.fold", "cache.folder")
HISTORY = "metrics/plots/history.csv"


@dataclass(frozen=True)
class Plan:
    """What to run: so many folds, each with these changes of params.yaml, as `train.epochs=3`."""

    n_folds: int
    changes: tuple[str, ...]
    key: str

    def name(self, fold: int) -> str:
        """Return the name of a fold's experiment: equal only for the same code, params and data."""
        return f"crossval-{self.key}-{fold}of{self.n_folds}"


def make_plan(n_folds: int, changes: Sequence[str]) -> Plan:
    """Return the plan for the workspace as it is now.

    Raises InputError for fewer than two folds and for a change of what the folds set themselves.
    """
    if n_folds < 2:
        raise InputError(f"--folds must be at least 2, got {n_folds}")
    for change in changes:
        name = change.lstrip("+~").partition("=")[0]
        if name in OWN_KEYS:
            raise InputError(f"-S {change}: crossval sets {name} itself; leave it out")
    stages = _stages_needed()
    params = _changed(read_params_file(PARAMS_FILE), changes)
    sections = {name: dict(params.get(name, {})) for name in stages}
    for key in ("n_folds", "fold"):
        sections["split"].pop(key, None)
    parts = [stages, sections, sorted(changes), list(_watched(stages, params))]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode())
    return Plan(n_folds, tuple(changes), digest.hexdigest()[:KEY_DIGITS])


def _stages_needed() -> dict[str, Any]:
    """Return the stages of dvc.yaml as they are written there, up to LAST."""
    stages = pipeline(resolve(WORKSPACE))
    names = list(stages)
    return {name: stages[name] for name in names[: names.index(LAST) + 1]}


def _changed(params: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Return params with changes applied; of a form that is not `key=value` DVC is the judge."""
    params = json.loads(json.dumps(params, default=str))
    for change in changes:
        path, sign, text = change.lstrip("+").partition("=")
        *outer, name = path.split(".")
        inner = params
        for part in outer:
            inner = inner.setdefault(part, {}) if isinstance(inner, dict) else {}
        if sign and isinstance(inner, dict):
            try:
                inner[name] = YAML(typ="safe", pure=True).load(text)
            except YAMLError:
                inner[name] = text
    return params


def _watched(stages: dict[str, Any], params: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield path and state of every dependency that no stage makes."""
    made = {path for stage in stages.values() for path in _paths(stage.get("outs", []))}
    for path in sorted({path for stage in stages.values() for path in _paths(stage["deps"])}):
        real = re.sub(r"\$\{(\w+)\.(\w+)\}", lambda m: str(params[m[1]][m[2]]), path)
        if real not in made:
            yield real, _state(Path(real))


def _paths(entries: Sequence[Any]) -> Iterator[str]:
    for entry in entries:
        yield next(iter(entry)) if isinstance(entry, dict) else str(entry)


def _state(path: Path) -> str:
    """Return a hash of a file's content; of a folder's names, sizes and times, as DVC looks for
    changes.
    """
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    files = sorted(found for found in path.rglob("*") if found.is_file())
    listing = [
        (found.relative_to(path).as_posix(), found.stat().st_size, found.stat().st_mtime_ns)
        for found in files
    ]
    return hashlib.sha256(repr(listing).encode()).hexdigest()


def find_fold(name: str) -> Revision | None:
    """Return a fold that has run to its end, None where there is none of this name."""
    listed = subprocess.run(
        ["git", "for-each-ref", "--format=%(objectname)", f"refs/exps/*/*/{name}"],
        capture_output=True,
        text=True,
        check=False,
    )
    commits = listed.stdout.split()
    return Revision(name, commits[-1], experiment=True) if commits else None


def forget_fold(revision: Revision) -> None:
    """Remove a fold whose outputs are gone from DVC's cache, so that it can run again."""
    subprocess.run([sys.executable, "-m", "dvc", "exp", "remove", "-q", revision.name], check=True)


def run_fold(plan: Plan, fold: int, cache: str) -> Revision:
    """Run a fold in a folder of its own, which leaves the workspace as it is, and return it.

    cache: folder where an interrupted training is remembered; the fold shares that of the
    workspace, so that it goes on where it was killed.
    Raises InputError where a stage fails; its own sentence stands on the terminal by then.
    """
    name = plan.name(fold)
    shared = str(Path(cache).absolute()).replace("\\", "\\\\").replace("'", "\\'")
    settings = [f"split.n_folds={plan.n_folds}", f"split.fold={fold}", f"cache.folder='{shared}'"]
    options = [text for setting in (*plan.changes, *settings) for text in ("-S", setting)]
    # Stages are run as `python -m …`: this Python, whatever is active outside.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "exp", "run", "--temp", "-n", name, *options, LAST],
        env=os.environ | {"PATH": path},
        check=False,
    )
    found = find_fold(name)
    if found is None:
        raise InputError(
            f"fold {fold + 1} of {plan.n_folds} ended with status {done.returncode}, see above; "
            "mend it (files that git does not know are not seen: `git add` them) and run the same "
            "command again: the folds that are done are kept"
        )
    return found


def read_history(revision: Revision) -> pd.DataFrame:
    """Return the training curves of a revision, a row for every epoch; empty without."""
    data = read_file(revision, HISTORY)
    return pd.read_csv(BytesIO(data)) if data else pd.DataFrame({"epoch": []})
