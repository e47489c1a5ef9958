"""The real `dvc repro` on a small demo, in a clone of its own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.lib.table import INDEX, PREDICTIONS, REMOVED, SPLIT, read_table

ROOT = Path(__file__).parents[1]
STAGES = list(YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"])
SMALL = {
    "download": {"demo_share": 0.06},
    "augment": {"height": 32, "width": 32, "target_per_class": 20},
    "train": {"epochs": 2, "options": {"width": 8}},
    "export": {"descriptions": {}},
    # A dozen test pictures after two epochs meet no floor.
    "gate": {
        "metrics": [
            {"metric": "evaluate.accuracy", "direction": "higher", "tolerance": 0.01, "floor": None}
        ],
        "health": {
            "removed_share": 0.5,
            "lost_share": 0.1,
            "lost_class_share": 0.25,
            "smallest_class": 1,
        },
    },
}


class Clone:
    """A clone of the working tree with DVC, and small params."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tracked = self.run("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).split("\n")
        for name in filter(None, tracked):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, folder / name)
        (folder / "dvc.lock").unlink(missing_ok=True)
        shutil.rmtree(folder / "metrics", ignore_errors=True)
        shutil.copyfile(ROOT / "presets" / "demo.yaml", folder / "params.yaml")
        self.change_params(SMALL)
        self.run("git", "init", "--quiet")
        self.commit("start")

    def run(self, *command: str, cwd: Path | None = None) -> str:
        """Return what a command prints; fail with it where the command fails."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        names = {"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t", "DVC_NO_ANALYTICS": "1"}
        names |= {"GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@t"}
        done = subprocess.run(
            command,
            cwd=cwd or self.folder,
            env={**os.environ, **names, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def repro(self, *options: str) -> list[str]:
        """Run the pipeline and return the stages that really ran."""
        lines = self.run("dvc", "repro", *options).splitlines()
        return [line.split("'")[1] for line in lines if line.startswith("Running stage")]

    def change_params(self, changes: dict[str, dict[str, object]]) -> None:
        yaml = YAML()
        content = yaml.load((self.folder / "params.yaml").read_text(encoding="utf-8"))
        for section, values in changes.items():
            content[section].update(values)
        with (self.folder / "params.yaml").open("w", encoding="utf-8") as stream:
            yaml.dump(content, stream)

    def commit(self, message: str) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "--quiet", "-m", message)

    def metrics(self, stage: str) -> dict[str, float]:
        text = (self.folder / "metrics" / f"{stage}.json").read_text(encoding="utf-8")
        content: dict[str, float] = json.loads(text)
        return content

    def lock(self) -> str:
        return (self.folder / "dvc.lock").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """A clone in which the whole pipeline has run once."""
    clone = Clone(tmp_path_factory.mktemp("clone"))
    assert clone.repro() == STAGES
    clone.commit("first run")
    yield clone


def test_a_second_run_skips_everything(clone: Clone) -> None:
    assert clone.repro() == []
    assert clone.run("git", "status", "--porcelain") == ""


def test_the_gate_passes_what_was_run_and_nothing_that_was_not(clone: Clone) -> None:
    gate = [sys.executable, "-m", "tools.gate", "--base", "HEAD"]

    said = clone.run(*gate)
    clone.change_params({"train": {"epochs": 3}})
    done = subprocess.run(gate, cwd=clone.folder, capture_output=True, text=True, check=False)
    clone.run("git", "checkout", "--quiet", "params.yaml")

    assert "gate: passed" in said
    assert "paired on the same" in said
    assert done.returncode == 2
    assert "train is out of date (params changed: train.epochs 2 → 3)" in done.stdout


def test_the_planted_faults_are_found(clone: Clone) -> None:
    clean = clone.metrics("clean")
    for fault in ("corrupt", "exact_copies", "label_conflicts"):
        assert clean[f"planted_{fault}_found"] == clean[f"planted_{fault}"] > 0
    assert clean["planted_near_copies_found"] >= 0.75 * clean["planted_near_copies"] > 0
    assert clean["sound_removed_as_corrupt"] == 0
    assert clean["sound_removed_as_duplicate"] == 0


def test_every_file_is_kept_or_explained_and_nothing_leaks(clone: Clone) -> None:
    split = read_table(clone.folder / "data/split.parquet", SPLIT)
    removed = read_table(clone.folder / "data/removed.csv", REMOVED)
    files = {
        path.relative_to(clone.folder).as_posix()
        for path in (clone.folder / "data/raw").rglob("*")
        if path.is_file()
    }
    index = read_table(clone.folder / "data/dataset/index.parquet", INDEX)
    parents = index.loc[index["parent_id"] != "", "parent_id"]
    train = split.loc[split["split"] == "train", "image_id"]

    assert files == set(split["uri"]) | set(removed["uri"])
    assert len(files) == len(split) + len(removed)
    assert clone.metrics("split")["leaks"] == 0
    assert (split.groupby("group_id")["split"].nunique() == 1).all()
    assert len(parents) > 0
    assert set(parents) <= set(train)


def test_the_figure_is_that_of_the_predictions(clone: Clone) -> None:
    predictions = read_table(clone.folder / "data/predictions.parquet", PREDICTIONS)
    figures = clone.metrics("evaluate")

    assert figures["n"] == len(predictions) == clone.metrics("split")["test"]
    assert figures["correct"] == (predictions["label"] == predictions["predicted"]).sum()
    assert figures["accuracy_low"] < figures["accuracy"] < figures["accuracy_high"]
    assert figures["test_fingerprint"] == clone.metrics("split")["test_fingerprint"]
    assert clone.metrics("export")["max_probability_difference"] <= 1e-4


def test_a_forced_run_gives_an_identical_lock(clone: Clone) -> None:
    before = clone.lock()

    assert clone.repro("--force", "--no-run-cache") == STAGES
    assert clone.lock() == before


def test_a_changed_threshold_reruns_clean_and_what_follows_but_not_scan(clone: Clone) -> None:
    clone.change_params({"clean": {"min_side": 80}})

    ran = clone.repro()

    assert ran == STAGES[STAGES.index("clean") :]
    diff = json.loads(clone.run("dvc", "metrics", "diff", "--json"))
    assert diff["metrics/clean.json"]["kept"]["diff"] < 0
    clone.run("git", "checkout", "--quiet", "params.yaml")
    assert clone.repro() == [], "the first result comes back from the run cache"


@pytest.mark.parametrize(
    ("changes", "stage", "sentence"),
    [
        ({"download": {"source": "no/such/folder"}}, "download", "does not exist"),
        ({"clean": {"hash_radios": 3}}, "clean", "did you mean 'hash_radius'"),
        ({"train": {"model": "resnet"}}, "train", "train.model: unknown model 'resnet'"),
        ({"augment": {"transforms": [{"name": "Flipp"}]}}, "augment", "entry 1"),
    ],
)
def test_bad_input_ends_a_stage_with_one_sentence(
    clone: Clone, changes: dict[str, dict[str, object]], stage: str, sentence: str
) -> None:
    before = clone.run("git", "status", "--porcelain")
    clone.change_params(changes)

    done = subprocess.run(
        [sys.executable, "-m", f"stages.{stage}"],
        cwd=clone.folder,
        capture_output=True,
        text=True,
        check=False,
    )

    clone.run("git", "checkout", "--quiet", "params.yaml")
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().count("\n") == 0
    assert clone.run("git", "status", "--porcelain") == before
