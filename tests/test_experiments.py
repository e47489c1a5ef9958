"""crossval and compare on real DVC experiments of a small demo, in a clone of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_end_to_end import Clone

from stages.lib.table import PREDICTIONS, SPLIT, read_table
from tools.crossval import POOLED

pytestmark = pytest.mark.slow


def start(clone: Clone, *arguments: str) -> "subprocess.Popen[str]":
    """Start crossval in the clone, with its children in a group of their own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tools.crossval", "--folds", "2", *arguments],
        cwd=clone.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def kill_when(process: "subprocess.Popen[str]", *lines: str) -> str:
    """Kill the whole group once these lines have come one after another; return what came."""
    wanted, seen = list(lines), []
    assert process.stdout
    for line in process.stdout:
        seen.append(line)
        if wanted and wanted[0] in line:
            wanted.pop(0)
        if not wanted:
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not wanted, "".join(seen)
    return "".join(seen)


def folds_of(clone: Clone) -> dict[str, str]:
    form = "--format=%(refname:lstrip=4) %(objectname)"
    lines = clone.run("git", "for-each-ref", form, "refs/exps").splitlines()
    return dict(line.split() for line in lines if line.startswith("crossval-"))


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which a crossval was killed while its second fold was training."""
    clone = Clone(tmp_path_factory.mktemp("clone"))
    killed = kill_when(start(clone), "fold 2 of 2: running", "Running stage 'train'", "train: ")
    assert "there already" not in killed
    return clone


def test_after_a_kill_only_what_is_missing_is_run_and_all_is_pooled(clone: Clone) -> None:
    before = folds_of(clone)
    status = clone.run("git", "status", "--porcelain")

    again = start(clone)
    out, _ = again.communicate()

    assert again.returncode == 0, out
    first = next(iter(before))
    after = folds_of(clone)
    assert before == {first: after[first]}, "the fold that was done is not run again"
    assert len(after) == 2
    assert f"fold 1 of 2: there already, as {first}" in out
    assert "fold 2 of 2: running" in out
    assert "Running stage 'scan'" not in out, "what the folds share comes from DVC's cache"
    assert clone.run("git", "status", "--porcelain") == status, "the workspace stays as it is"
    check_results(clone)


def check_results(clone: Clone) -> None:
    folder = clone.folder / "report/crossval"
    content = json.loads((folder / "crossval.json").read_text(encoding="utf-8"))
    found = read_table(folder / "predictions.parquet", POOLED)
    matrix = pd.read_csv(folder / "confusion.csv", index_col="label")

    assert content["figures"]["n"] == len(found) == found["uri"].nunique()
    assert found["fold"].value_counts().to_dict() == {
        fold["fold"]: fold["n"] for fold in content["folds"]
    }
    assert content["figures"]["correct"] == (found["label"] == found["predicted"]).sum()
    assert content["figures"]["correct"] == np.diag(matrix).sum()
    assert matrix.to_numpy().tolist() == content["confusion"]
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"(?i)https?:|url\(|@import|<script", page)
    assert page.count("<polyline") == 2 * len(content["folds"])


def test_every_answer_is_that_of_its_fold(clone: Clone) -> None:
    pooled = read_table(clone.folder / "report/crossval/predictions.parquet", POOLED)
    for name in folds_of(clone):
        fold = int(name.split("-")[-1].split("of")[0])
        for path, table in (
            ("data/predictions.parquet", PREDICTIONS),
            ("data/split.parquet", SPLIT),
        ):
            target = clone.folder / f"fold{fold}" / Path(path).name
            target.parent.mkdir(exist_ok=True)
            clone.run("dvc", "get", ".", path, "--rev", name, "-o", str(target), "--quiet")
            rows = read_table(target, table).set_index("uri")
            mine = pooled[pooled["fold"] == fold].set_index("uri")
            if table is PREDICTIONS:
                assert mine["predicted"].to_dict() == rows["predicted"].to_dict()
            else:
                assert set(mine.index) == set(rows.index[rows["split"] == "test"])


def test_a_third_run_runs_nothing_and_writes_the_same_bytes(clone: Clone) -> None:
    folder = clone.folder / "report/crossval"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    started = time.monotonic()

    out = start(clone).communicate()[0]

    assert out.count("there already") == 2
    assert "Running stage" not in out
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert time.monotonic() - started < 60


def test_a_fold_that_fails_says_which_and_what_to_do(clone: Clone) -> None:
    failing = start(clone, "-S", "download.demo_share=-1")
    out, _ = failing.communicate()

    assert failing.returncode == 1
    assert "download.demo_share" in out, "the stage's own sentence"
    assert "crossval: error: fold 1 of 2 ended with status" in out
    assert "run the same command again" in out
    assert "Traceback" not in out


# --- compare ------------------------------------------------------------------------------------


def compare(clone: Clone, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run compare in the clone."""
    return subprocess.run(
        [sys.executable, "-m", "tools.compare", *arguments],
        cwd=clone.folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def experiments(clone: Clone) -> Clone:
    """The clone with the experiments `short`, of one epoch, and `longer`, of small batches."""
    run = ("dvc", "exp", "run", "--quiet", "--temp", "-S", "train.options.width=8")
    clone.run(*run, "-n", "short", "-S", "train.epochs=1", "evaluate")
    clone.run(*run, "-n", "longer", "-S", "train.epochs=6", "-S", "train.batch_size=8", "evaluate")
    return clone


def answers_of(clone: Clone, name: str) -> pd.DataFrame:
    target = clone.folder / f"{name}.parquet"
    clone.run("dvc", "get", ".", "data/predictions.parquet", "--rev", name, "-o", str(target))
    return read_table(target, PREDICTIONS).set_index("uri")


def test_two_experiments_are_compared_picture_by_picture(experiments: Clone) -> None:
    page, text = (experiments.folder / name for name in ("page.html", "table.md"))

    done = compare(experiments, "short", "longer", "--html", str(page), "--markdown", str(text))

    assert done.returncode == 0, done.stderr
    short, longer = (answers_of(experiments, name)["correct"] for name in ("short", "longer"))
    gained, lost = int((longer & ~short).sum()), int((short & ~longer).sum())
    assert f"{gained} newly right, {lost} newly wrong" in done.stdout
    assert f"accuracy {100 * (longer.mean() - short.mean()):+.2f} points" in done.stdout
    assert f"paired on the same {len(short)} test pictures" in done.stdout
    assert re.search(r"train\.batch_size +64 +8\n", done.stdout)
    assert re.search(r"train\.epochs +1 +6\n", done.stdout)
    for written in (page.read_text(), text.read_text()):
        assert f"{gained} newly right, {lost} newly wrong" in written
    assert not re.search(r"(?i)https?:|url\(|@import|<script", page.read_text())


def test_experiments_of_different_test_sets_are_not_compared(experiments: Clone) -> None:
    done = compare(experiments, *folds_of(experiments))

    assert done.returncode == 2
    assert "figures of different test sets cannot be compared" in done.stderr
    assert done.stdout == ""
