"""A git repository with a DVC pipeline whose stages write the figures that params.yaml tells them.

The gate and the revisions are held against real histories, without minutes of training.
"""

import contextlib
import copy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from ruamel.yaml import YAML

STAGES = ("download", "clean", "split", "evaluate")
# What a stage's section says, it writes: metrics as JSON, files as text, copies of other files.
SCRIPT = """
import json, shutil, sys
from pathlib import Path
from ruamel.yaml import YAML
stage = sys.argv[1]
section = YAML(typ="safe").load(Path("params.yaml").read_text())[stage]
for name, text in section["files"].items():
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)
for name, source in section["copies"].items():
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    (shutil.copytree if Path(source).is_dir() else shutil.copyfile)(source, name)
Path("metrics").mkdir(exist_ok=True)
Path("metrics", stage + ".json").write_text(json.dumps(section["metrics"]))
"""
CLASSES = {"cup": 60, "bowl": 140}
PARAMS: dict[str, Any] = {
    "download": {"metrics": {"files": 1000}, "files": {"data/raw/a.txt": "a"}, "copies": {}},
    "clean": {
        "metrics": {"kept": 950, "removed": 50},
        "files": {"metrics/plots/classes.csv": "label,files,kept\nbowl,700,660\ncup,300,290\n"},
        "copies": {},
        "hash_radius": 10,
        "neighbours": 3,
        "mirrored": True,
        "rotations": False,
        "group_similarity": 0.72,
    },
    "split": {
        "metrics": {"leaks": 0, "smallest_train_class": 200, "test": 200},
        "files": {},
        "copies": {},
        "seed": 7,
    },
    "evaluate": {"metrics": {}, "files": {}, "copies": {}},
    "gate": {
        "metrics": [
            {"metric": "evaluate.accuracy", "direction": "higher", "tolerance": 0.01, "floor": 0.5},
            {"metric": "evaluate.loss", "direction": "lower", "tolerance": 0.3, "floor": None},
        ],
        "z": 2.0,
        "recall_tolerance": 0.1,
        "health": {
            "removed_share": 0.2,
            "lost_share": 0.1,
            "lost_class_share": 0.25,
            "smallest_class": 20,
        },
    },
}


def evaluated(cup: int, bowl: int, fingerprint: str = "a1") -> dict[str, Any]:
    """Return evaluate's section for so many right answers of 60 cups and 140 bowls."""
    n, correct = sum(CLASSES.values()), cup + bowl
    per_class = f"label,n,correct\nbowl,140,{bowl}\ncup,60,{cup}\n"
    return {
        "metrics": {
            "accuracy": correct / n,
            "correct": correct,
            "n": n,
            "loss": 1 - correct / n,
            "test_fingerprint": fingerprint,
        },
        "files": {"metrics/plots/per_class.csv": per_class},
        "copies": {},
    }


class ToyProject:
    """The repository in `folder`."""

    def __init__(self, folder: Path, params: dict[str, Any] = PARAMS) -> None:
        self.folder = folder
        self.params = copy.deepcopy(params)

    def copy_to(self, folder: Path) -> "ToyProject":
        """Return a copy of this project with its history."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return ToyProject(folder, self.params)

    def start(
        self, evaluate: dict[str, Any] | None = None, more_outs: dict[str, list[str]] | None = None
    ) -> None:
        """Make the repository, with one commit in which everything has run.

        evaluate: that section, if not accuracy 0.9. more_outs: stage to outputs that DVC keeps.
        """
        self.folder.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch", "main")
        Repo.init(str(self.folder)).close()
        (self.folder / "toy.py").write_text(SCRIPT)
        (self.folder / ".gitignore").write_text("/data/\n/models/\n")
        self.params["evaluate"] = evaluate or evaluated(54, 126)
        self._declare(more_outs or {})
        self.run()
        self.commit("base")

    def _declare(self, more_outs: dict[str, list[str]]) -> None:
        stages = {}
        plots = {"clean": "classes", "evaluate": "per_class"}
        deps = {"clean": "data/raw", "split": "data/clean.txt"}
        outs = {"download": ["data/raw"], "clean": ["data/clean.txt"]}
        self.params["clean"]["files"]["data/clean.txt"] = "clean"
        for stage in STAGES:
            stages[stage] = {
                "cmd": f"{sys.executable} toy.py {stage}",
                "deps": ["toy.py", *([deps[stage]] if stage in deps else [])],
                "params": [stage],
                "outs": outs.get(stage, []) + more_outs.get(stage, []),
                "metrics": [{f"metrics/{stage}.json": {"cache": False}}],
                "plots": [
                    {f"metrics/plots/{name}.csv": {"cache": False}}
                    for at, name in plots.items()
                    if at == stage
                ],
            }
        self._write("dvc.yaml", {"stages": stages})

    def run(self) -> None:
        """Write params.yaml and run what is out of date."""
        self.write_params()
        with self.inside(), Repo() as repo:
            repo.reproduce()

    def write_params(self) -> None:
        self._write("params.yaml", self.params)

    def commit(self, message: str) -> str:
        """Commit everything and return the commit."""
        self.git("add", "-A")
        self.git("commit", "--quiet", "-m", message)
        return self.git("rev-parse", "HEAD").strip()

    def git(self, *arguments: str) -> str:
        name = ("-c", "user.name=t", "-c", "user.email=t@t")
        return subprocess.run(
            ["git", *name, *arguments], cwd=self.folder, capture_output=True, text=True, check=True
        ).stdout

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Make the repository the current folder."""
        with contextlib.chdir(self.folder):
            yield

    def _write(self, name: str, content: Any) -> None:
        with (self.folder / name).open("w", encoding="utf-8") as stream:
            YAML(typ="safe", pure=True).dump(content, stream)
