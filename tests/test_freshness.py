"""tools.freshness: what DVC says of a pipeline is a doubt, unless it is known to be harmless."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tools.freshness import _status, frozen_doubts, lock_doubts, param_doubts, status_doubts

FROM_GIT: set[str] = set()
STAGE = "stages: {copy: {cmd: cp a b, deps: [a], outs: [b]}}\n"


def status(kind: str, path: str, state: Any) -> dict[str, Any]:
    return {"train": [{kind: {path: state}}]}


@pytest.mark.parametrize("kind", ["changed deps", "changed outs"])
@pytest.mark.parametrize("state", ["deleted", "not in cache"])
def test_what_git_does_not_keep_may_be_absent(kind: str, state: str) -> None:
    assert status_doubts(status(kind, "data/raw", state), {"data/raw"}) == []
    assert len(status_doubts(status(kind, "stages/train.py", state), {"data/raw"})) == 1


@pytest.mark.parametrize("state", ["modified", "new", "update available", "never heard of"])
def test_any_other_state_is_a_doubt_even_of_data(state: str) -> None:
    (found,) = status_doubts(status("changed deps", "data/raw", state), {"data/raw"})

    assert found == f"train is out of date (deps {state}: data/raw); run `dvc repro`"


def test_bare_words_of_dvc_are_doubts() -> None:
    found = status_doubts({"train": ["changed command"], "clean": ["always changed"]}, FROM_GIT)

    assert len(found) == 2
    assert "changed command" in found[0]


def test_files_of_one_kind_make_one_sentence() -> None:
    changed = {"train": [{"changed deps": {"a.py": "modified", "b.py": "modified"}}]}

    (found,) = status_doubts(changed, FROM_GIT)

    assert "a.py, b.py" in found


def test_params_of_another_file_are_a_doubt_too() -> None:
    assert status_doubts(status("changed deps", "other.yaml", {"a": "modified"}), FROM_GIT)


def test_changed_params_are_named_with_both_values() -> None:
    changed = status("changed deps", "params.yaml", {"train": "modified"})
    recorded = {"train": {"params": {"params.yaml": {"train": {"epochs": 20, "seed": 7}}}}}

    (found,) = param_doubts(changed, recorded, {"train": {"epochs": 30, "seed": 7}})

    assert found == "train is out of date (params changed: train.epochs 20 → 30); run `dvc repro`"
    assert status_doubts(changed, FROM_GIT) == []


def test_changed_params_that_the_lock_does_not_know_are_a_doubt_all_the_same() -> None:
    changed = status("changed deps", "params.yaml", {"train": "new"})

    assert len(param_doubts(changed, {}, {})) == 1


def test_a_stage_that_never_ran_is_a_doubt() -> None:
    assert lock_doubts({"a": {}, "each": {}}, {"each@1": {"deps": []}}) == [
        "a is not in dvc.lock; run `dvc repro`"
    ]


@pytest.mark.parametrize("struck", ["deps", "params", "metrics"])
def test_a_stage_from_which_something_was_struck_is_a_doubt(struck: str) -> None:
    declared = {"deps": ["a.py"], "params": ["b"], "metrics": [{"c.json": {"cache": False}}]}
    recorded = {
        "deps": [{"path": "a.py", "md5": "1"}],
        "params": {"params.yaml": {"b": 1}},
        "outs": [{"path": "c.json", "md5": "2"}],
    }

    assert lock_doubts({"s": declared}, {"s": recorded}) == []
    assert lock_doubts({"s": {**declared, struck: []}}, {"s": recorded}) == [
        "s has other deps, params or outputs in dvc.yaml than in dvc.lock"
    ]


def test_a_stage_that_read_what_nobody_wrote_is_a_doubt() -> None:
    recorded = {
        "a": {"outs": [{"path": "data/x", "md5": "1"}]},
        "b": {"deps": [{"path": "data/x", "md5": "2"}, {"path": "stages/b.py", "md5": "3"}]},
    }

    (found,) = lock_doubts({}, recorded)

    assert found.startswith("b read another data/x than")


def test_only_a_frozen_stage_is_named() -> None:
    assert len(frozen_doubts({"a": {"frozen": True}, "b": {"frozen": False}, "c": {}})) == 1


def test_a_pipeline_that_is_running_is_to_be_waited_for(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "dvc.yaml").write_text(STAGE)
    init = [sys.executable, "-m", "dvc", "init", "--quiet", "--no-scm"]
    subprocess.run(init, cwd=tmp_path, check=True)
    assert "copy" in _status(tmp_path)
    running = {"pid": os.getpid(), "cmd": "dvc repro"}
    content = {"read": {}, "write": {str(tmp_path / "b"): running}}
    (tmp_path / ".dvc/tmp/rwlock").write_text(json.dumps(content))

    assert (
        _status(tmp_path) == "another DVC command is at work in this folder; wait until it is done"
    )
