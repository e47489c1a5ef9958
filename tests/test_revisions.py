"""tools.revisions: what a commit says is read without checking it out, and no doubt is hidden."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
from toy_project import ToyProject, evaluated

from stages.lib.errors import InputError
from tools.revisions import (
    Revision,
    differences,
    fetch_output,
    lock,
    merge_base,
    metrics,
    params,
    pipeline,
    read_file,
    recorded_hashes,
    resolve,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> ToyProject:
    """Two commits: accuracy 0.9, tagged `first`, then 0.75 on main."""
    project = ToyProject(tmp_path_factory.mktemp("toy") / "project")
    project.start()
    project.git("tag", "-a", "-m", "a tag of its own", "first")
    project.params["evaluate"] = evaluated(45, 105)
    project.params["download"]["files"]["data/raw/a.txt"] = "b"
    project.run()
    project.commit("second")
    return project


@pytest.fixture(autouse=True)
def inside(project: ToyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.folder)


def test_a_name_stands_for_its_commit(project: ToyProject) -> None:
    first, second = project.git("rev-list", "--reverse", "HEAD").split()

    assert resolve("main").commit == resolve("HEAD").commit == second
    assert resolve("first").commit == resolve("HEAD~1").commit == resolve(first[:8]).commit == first
    assert resolve("workspace") == Revision("workspace", "")
    assert str(resolve("main")) == f"main ({second[:7]})"
    assert str(resolve(second)) == second


@pytest.mark.parametrize("name", ["nowhere", "--all", "", "HEAD:dvc.yaml", "HEAD^{tree}"])
def test_a_name_of_no_commit_is_an_error_that_names_it(name: str) -> None:
    with pytest.raises(InputError, match="is unknown: name a branch, tag, commit"):
        resolve(name)


def test_each_revision_has_its_own_metrics_and_params() -> None:
    first, second = resolve("first"), resolve("main")

    assert metrics(first).figures["evaluate"]["accuracy"] == 0.9
    assert metrics(second).figures["evaluate"]["accuracy"] == 0.75
    assert params(first)["evaluate"]["metrics"]["correct"] == 180
    assert params(resolve("workspace")) == params(second)
    assert set(pipeline(first)) == {"download", "clean", "split", "evaluate"}


def test_nothing_in_the_workspace_changes(project: ToyProject) -> None:
    before = project.git("status", "--porcelain", "--ignored")

    for name in ("first", "workspace"):
        metrics(resolve(name)), params(resolve(name)), lock(resolve(name))

    assert project.git("status", "--porcelain", "--ignored") == before


def test_a_number_that_is_none_a_broken_file_and_a_missing_one_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("metrics").mkdir()
    for stage, text in {
        "nan": '{"a": NaN, "b": -Infinity}',
        "cut": '{"a": 1',
        "list": "[1]",
        "twice": '{"a": 1, "a": 2}',
        "binary": "\x00\xff",
        "nothing": "",
    }.items():
        Path(f"metrics/{stage}.json").write_text(text, encoding="latin-1")

    found = metrics(resolve("workspace"))

    assert set(found.figures) == {"nan"}
    assert math.isnan(found.figures["nan"]["a"])
    assert found.figures["nan"]["b"] == -math.inf
    assert set(found.broken) == {"cut", "list", "twice", "binary", "nothing"}


def test_the_lock_file_tells_what_was_written_and_read() -> None:
    recorded = lock(resolve("main"))

    assert set(recorded) == {"download", "clean", "split", "evaluate"}
    assert set(recorded_hashes(recorded, "outs")) >= {"data/raw", "metrics/evaluate.json"}
    assert recorded_hashes(recorded, "deps")["data/raw"].endswith(".dir")


def test_a_file_that_is_not_there_is_none(project: ToyProject) -> None:
    assert read_file(resolve("main"), "metrics/nothing.json") is None
    assert read_file(resolve("workspace"), "metrics/nothing.json") is None
    assert read_file(resolve("main"), "toy.py") == (project.folder / "toy.py").read_bytes()


def test_a_file_that_git_does_not_keep_is_not_read_from_a_commit() -> None:
    assert Path("data/raw/a.txt").is_file()
    assert read_file(resolve("main"), "data/raw/a.txt") is None


def test_an_output_comes_from_the_cache_as_its_revision_made_it(tmp_path: Path) -> None:
    for name, text in (("first", "a"), ("main", "b")):
        folder = fetch_output(resolve(name), "data/raw", tmp_path / name)
        assert folder and (folder / "a.txt").read_text() == text
    one = fetch_output(resolve("first"), "data/raw/a.txt", tmp_path / "one")
    assert one and one.read_text() == "a"


def test_an_output_of_the_workspace_stays_where_it_is(tmp_path: Path) -> None:
    assert fetch_output(resolve("workspace"), "data/raw", tmp_path) == Path("data/raw")


def test_an_output_comes_from_a_remote_where_the_cache_lacks_it(
    project: ToyProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dvc = [sys.executable, "-m", "dvc"]
    clone = tmp_path / "clone"
    remote = ["remote", "add", "-q", "--local", "-d", "kept", str(tmp_path / "remote")]
    subprocess.run([*dvc, *remote], check=True, capture_output=True)
    subprocess.run([*dvc, "push", "-q", "-A"], check=True, capture_output=True)
    project.git("clone", "--quiet", ".", str(clone))
    monkeypatch.chdir(clone)

    assert fetch_output(resolve("main"), "data/raw", tmp_path / "without") is None
    subprocess.run([*dvc, *remote], check=True, capture_output=True)
    found = fetch_output(resolve("main"), "data/raw", tmp_path / "with")

    assert found and (found / "a.txt").read_text() == "b"


def test_what_nobody_holds_is_none_and_leaves_nothing_behind(
    project: ToyProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.git("clone", "--quiet", ".", str(tmp_path / "clone"))
    monkeypatch.chdir(tmp_path / "clone")

    assert fetch_output(resolve("main"), "data/raw", tmp_path / "there") is None
    assert fetch_output(resolve("main"), "data/clean.txt", tmp_path / "there") is None
    assert fetch_output(resolve("main"), "never/written", tmp_path / "there") is None
    assert not [path for path in (tmp_path / "there").rglob("*") if path.is_file()]


def test_two_histories_part_at_their_merge_base(project: ToyProject) -> None:
    first = resolve("first")

    assert merge_base(first, resolve("main")) == first.commit
    assert merge_base(resolve("main"), resolve("workspace")) == resolve("main").commit


def test_an_experiment_is_known_by_its_name(project: ToyProject) -> None:
    project.git("update-ref", f"refs/exps/ab/{'c' * 38}/tall-tree", "first")

    found = resolve("tall-tree")

    assert found.experiment
    assert found.commit == resolve("first").commit


@pytest.mark.parametrize("text", ["a: [", "- 1"])
def test_a_lock_file_that_is_no_mapping_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dvc.lock").write_text(text)

    with pytest.raises(InputError, match=r"dvc\.lock of workspace"):
        lock(resolve("workspace"))


def test_differences_name_each_value_that_changed() -> None:
    old = {"a": 1, "b": {"c": 2, "d": 3}, "rules": [{"metric": "x", "z": 1}], "list": [1]}
    new = {"a": 1, "b": {"c": 5}, "rules": [{"metric": "y", "z": 1}], "list": [2], "e": 0}

    assert differences(old, new, "top") == [
        ("top.b.c", 2, 5),
        ("top.b.d", 3, None),
        ("top.rules.x", {"metric": "x", "z": 1}, None),
        ("top.rules.y", None, {"metric": "y", "z": 1}),
        ("top.list", [1], [2]),
        ("top.e", None, 0),
    ]
