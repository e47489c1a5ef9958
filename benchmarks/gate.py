"""Publishes what the gate stops and what it lets pass: planted regressions, and equal reruns.

    python benchmarks/gate.py --folder ~/gate

Clones the last commit of this project into the folder, runs the pipeline there on a part of the
demo's pictures as the base, then makes one change after another, each from the base: it runs the
pipeline, then the gate. The first rows are planted regressions, which it must stop with a sentence
that names them. The others change only the seed of training, which must raise no alarm. What a row
came to is kept in the folder, so a run that was stopped goes on where it was.

Writes benchmarks/gate.md.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from stages.lib.files import replacing  # noqa: E402
from stages.lib.table import CLEAN, read_table  # noqa: E402
from tools.gate_words import NOTHING_WORSE, REGRESSION  # noqa: E402

RESULT = ROOT / "benchmarks/gate.md"
RESEEDED = 10
# Small enough for minutes, large enough that training has settled: a model that is stopped half-way
# differs from seed to seed by more than its test set can excuse.
SMALL = {
    "augment.height": 32,
    "augment.width": 32,
    "train.options.width": 16,
    "train.epochs": 30,
    "evaluate.grad_cam": 0,
    "gate.health.smallest_class": 10,
    # Without floors, which would stop a bad model whatever the base.
    "gate.metrics": [
        {"metric": "evaluate.accuracy", "direction": "higher", "tolerance": 0.01, "floor": None},
        {"metric": "evaluate.macro_f1", "direction": "higher", "tolerance": 0.02, "floor": None},
    ],
}
DEMO_SHARE = 0.5
WORSE_RATE = 0.0001  # a twentieth of the base's
SEED = 1
ENVIRONMENT = {
    "GIT_AUTHOR_NAME": "benchmark",
    "GIT_AUTHOR_EMAIL": "benchmark@localhost",
    "GIT_COMMITTER_NAME": "benchmark",
    "GIT_COMMITTER_EMAIL": "benchmark@localhost",
    "DVC_NO_ANALYTICS": "1",
}


@dataclass(frozen=True)
class Case:
    """A change to the base: what it is, how it is made, and the exit code that is right."""

    name: str
    make: Callable[["Project"], None]
    expected: int


class Project:
    """The clone in which everything runs, and the folder of pictures that is its source."""

    def __init__(self, folder: Path) -> None:
        self.clone, self.pictures = folder / "clone", folder / "pictures"

    def run(self, *command: str, accept: tuple[int, ...] = (0,)) -> tuple[int, str]:
        """Return exit code and output of a command in the clone; end with it where it fails."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            command,
            cwd=self.clone,
            env={**os.environ, **ENVIRONMENT, "PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode not in accept:
            sys.exit(f"{' '.join(command)} failed:\n{done.stdout}")
        return done.returncode, done.stdout

    def set(self, **changes: Any) -> None:
        """Change params.yaml; `__` in a name stands for the dot of a dotted key."""
        self.change({name.replace("__", "."): value for name, value in changes.items()})

    def change(self, values: dict[str, Any]) -> None:
        """Change params.yaml by dotted keys."""
        yaml, path = YAML(), self.clone / "params.yaml"
        content = yaml.load(path.read_text(encoding="utf-8"))
        for name, value in values.items():
            *outer, key = name.split(".")
            section = content
            for part in outer:
                section = section[part]
            section[key] = value
        with path.open("w", encoding="utf-8") as stream:
            yaml.dump(content, stream)

    def relabel(self, label: str, other: str, share: float) -> None:
        """Have a share of a class count as another one."""
        clean = read_table(self.clone / "data/clean.parquet", CLEAN)
        of_class = sorted(clean.loc[clean["label"] == label, "image_id"].unique())
        some = np.random.default_rng(SEED).choice(
            of_class, round(share * len(of_class)), replace=False
        )
        with (self.clone / "overrides.csv").open("a", encoding="utf-8") as stream:
            stream.writelines(f"{image_id},relabel,{other},\n" for image_id in sorted(some))

    def lose(self, share: float, label: str = "*") -> None:
        """Have another source, without a share of the files of a class, or of all."""
        copy = self.pictures.with_name("fewer")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.pictures, copy)
        files = sorted(path for path in copy.glob(f"{label}/*") if path.is_file())
        for at in np.random.default_rng(SEED).permutation(len(files))[: round(share * len(files))]:
            files[at].unlink()
        self.set(download__source=str(copy), download__watch=str(copy))


CASES = [
    Case(
        "learning rate divided by 20",
        lambda project: project.set(train__learning_rate=WORSE_RATE),
        REGRESSION,
    ),
    Case("a third of the epochs", lambda project: project.set(train__epochs=10), REGRESSION),
    Case(
        "a class mislabelled: cups count as lamps",
        lambda project: project.set(download__class_names={"cup": "lamp"}),
        REGRESSION,
    ),
    Case(
        "half of a class mislabelled",
        lambda project: project.relabel("cup", "lamp", 0.5),
        REGRESSION,
    ),
    Case(
        "a split by file, which leaks",
        lambda project: project.set(split__unit="image"),
        REGRESSION,
    ),
    Case(
        "a split that leaks because nobody looks",
        lambda project: project.set(clean__group_similarity=0.84, clean__neighbours=0),
        REGRESSION,
    ),
    Case("30 % of the data lost", lambda project: project.lose(0.3), REGRESSION),
    Case("30 % of one class lost", lambda project: project.lose(0.3, "cup"), REGRESSION),
    *(
        Case(
            f"another seed of training, {seed}",
            lambda project, seed=seed: project.set(train__seed=seed),
            NOTHING_WORSE,
        )
        for seed in range(101, 101 + RESEEDED)
    ),
]


def prepare(project: Project) -> None:
    """Make the clone and its base, once: pictures as a folder outside, everything run."""
    if project.clone.exists() and project.run("git", "branch", "--list", "base")[1]:
        return
    shutil.rmtree(project.clone, ignore_errors=True)
    project.clone.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(project.clone)], check=True)
    if not project.pictures.exists():
        project.change({"download.demo_share": DEMO_SHARE})
        project.run("dvc", "repro", "download")
        with replacing(project.pictures) as unfinished:
            shutil.copytree(project.clone / "data/raw", unfinished)
    source = str(project.pictures)
    project.change({**SMALL, "download.source": source, "download.watch": source})
    project.run("dvc", "repro")
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message", "base")
    project.run("git", "branch", "base")


def measure(project: Project, case: Case) -> dict[str, Any]:
    """Return what the gate says of a case, with its figures."""
    started = time.monotonic()
    project.run("git", "checkout", "--quiet", "--force", "-B", "case", "base")
    project.run("dvc", "checkout", "--quiet", "--force")
    case.make(project)
    project.run("dvc", "repro")
    code, said = project.run(sys.executable, "-m", "tools.gate", "--base", "base", accept=(0, 1, 2))
    figures = json.loads((project.clone / "metrics/evaluate.json").read_text(encoding="utf-8"))
    named = [line.partition("FAILED: ")[2] for line in said.splitlines() if "FAILED: " in line]
    return {
        "accuracy": figures["accuracy"],
        "n": figures["n"],
        "code": code,
        "sentences": named,
        "seconds": round(time.monotonic() - started),
    }


def table(base: dict[str, Any], found: dict[str, dict[str, Any]]) -> str:
    """Return benchmarks/gate.md."""
    planted = [case for case in CASES if case.expected == REGRESSION and case.name in found]
    equal = [case for case in CASES if case.expected == NOTHING_WORSE and case.name in found]
    seeds = [found[case.name]["accuracy"] for case in equal]
    stopped = sum(found[case.name]["code"] == REGRESSION for case in planted)
    alarms = sum(found[case.name]["code"] != NOTHING_WORSE for case in equal)
    rows = [
        f"| {case.name} | {found[case.name]['accuracy']:.1%} of {found[case.name]['n']} "
        f"| {found[case.name]['code']} | {'<br>'.join(found[case.name]['sentences'])} |"
        for case in [*planted, *equal]
    ]
    return "\n".join(
        [
            "# What the gate stops",
            "",
            f"{stopped} of {len(planted)} planted regressions are stopped, and {alarms} of "
            f"{len(equal)} reruns with another seed of training raise an alarm. The seed alone "
            f"moves the accuracy from {min(seeds):.1%} to {max(seeds):.1%}: what costs no more "
            "than that cannot be told from it on so few pictures, and passes. Each row is a change "
            f"to the same base (test accuracy {base['accuracy']:.1%} of {base['n']} pictures), run "
            "through the whole pipeline and then through the gate, with the rules of "
            "`presets/demo.yaml` (but no floors, and 10 pictures as the least of a class) on "
            f"{DEMO_SHARE:.0%} of the demo's pictures. Exit code 0: passed, 1: regression, 2: not "
            "comparable. The test set changes with the data; the gate then asks the base's model "
            "again, on the new test pictures that it has never seen.",
            "",
            "Made by `python benchmarks/gate.py --folder FOLDER`.",
            "",
            "| change | test accuracy | exit | what the gate says |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> None:
    """Run what has not run yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="where the clone lies")
    folder = parser.parse_args().folder.expanduser().resolve()
    project, kept = Project(folder), folder / "results.json"
    prepare(project)
    base = json.loads(project.run("git", "show", "base:metrics/evaluate.json")[1])
    found = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    for case in CASES:
        if case.name not in found:
            found[case.name] = measure(project, case)
            with replacing(kept) as unfinished:
                unfinished.write_text(json.dumps(found, indent=1), encoding="utf-8")
        row = found[case.name]
        print(
            f"{case.name}: accuracy {row['accuracy']:.4f}, exit {row['code']} (right: "
            f"{case.expected}), {row['seconds']} s",
            *row["sentences"],
            sep="\n    ",
            flush=True,
        )
    with replacing(RESULT) as unfinished:
        unfinished.write_text(table(base, found), encoding="utf-8")


if __name__ == "__main__":
    main()
