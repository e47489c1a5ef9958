"""dvc.yaml, params.yaml and README tell the truth about the code."""

import importlib
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.lib.parallel import ParallelParams
from stages.lib.params import SECTIONS, CacheParams, load_params, read_params_file
from tools.gate_rules import GateParams

ROOT = Path(__file__).parents[1]
PIPELINE = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
STAGES = list(PIPELINE["stages"])
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))
# Sections that change no result, so that no stage depends on them.
SHARED: dict[str, type] = {"parallel": ParallelParams, "cache": CacheParams, "gate": GateParams}
WITH_TENSORFLOW = {"train", "evaluate", "export"}
# The modules through which each heavy library enters, hardly ever more than one.
DOORS = {
    "cv2": "stages/lib/detail.py stages/lib/images.py",
    "imagehash": "stages/lib/hashing.py",
    "albumentations": "stages/lib/augmentation.py",
    "tensorflow": "stages/lib/keras_runtime.py",
    "keras": "stages/lib/keras_runtime.py",
    "onnxruntime": "stages/lib/exported.py",
    "fsspec": "stages/lib/sources.py",
    "joblib": "stages/lib/parallel.py",
    "pillow_heif": "stages/lib/images.py",
    "sqlite3": "stages/lib/scan_cache.py",
}
IMPORTED = """
import importlib, sys
from pathlib import Path
importlib.import_module("stages." + sys.argv[1])
for name, module in sorted(sys.modules.items()):
    if name.startswith("stages.") and module.__file__:
        print(Path(module.__file__).relative_to(Path.cwd()).as_posix())
print(*[name for name in ("tensorflow", "keras") if name in sys.modules])
"""


def imported_by(stage: str) -> tuple[set[str], str]:
    """Return the project files that importing a stage loads, and the names of TensorFlow, Keras."""
    run = subprocess.run(
        [sys.executable, "-c", IMPORTED, stage],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    *files, heavy = run.stdout.split("\n")[:-1]
    has_code = {name for name in files if not is_docstring_only(ROOT / name)}
    return has_code, heavy


def is_docstring_only(path: Path) -> bool:
    return (
        path.name == "__init__.py"
        and path.read_text().count('"""') == 2
        and (path.read_text().rstrip().endswith('"""'))
    )


def stage_class(stage: str) -> type:
    params: type = importlib.import_module(f"stages.{stage}").Params
    return params


def paths(entries: list[object]) -> list[str]:
    return [next(iter(entry)) if isinstance(entry, dict) else str(entry) for entry in entries]


def test_every_stage_has_its_file_params_metrics_and_test() -> None:
    sections = [name for name in SECTIONS if name not in SHARED]
    assert sections == STAGES
    for stage in STAGES:
        entry = PIPELINE["stages"][stage]
        assert entry["cmd"] == f"python -m stages.{stage}"
        # The page shows every stage's section.
        assert entry["params"] == (STAGES if stage == "report" else [stage])
        assert (ROOT / "stages" / f"{stage}.py").is_file()
        assert (ROOT / "tests" / f"test_{stage}.py").is_file()
        if stage != "report":
            more = ["metrics/confusion.json"] if stage == "evaluate" else []
            assert paths(entry["metrics"]) == [f"metrics/{stage}.json", *more]
    files = {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"}
    assert files == set(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_exactly_the_code_that_it_imports(stage: str) -> None:
    imported, heavy = imported_by(stage)
    deps = paths(PIPELINE["stages"][stage]["deps"])
    declared = {path for path in deps if path.endswith(".py")}

    assert declared == imported
    assert bool(heavy) == (stage in WITH_TENSORFLOW)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_the_tables_that_its_docstring_says_it_reads(stage: str) -> None:
    text = importlib.import_module(f"stages.{stage}").__doc__ or ""
    reads = text.partition("Reads:")[2].partition("Writes:")[0]
    named = set(re.findall(r"(?:data|models)/[\w./]+\w|overrides\.csv", reads))
    deps = paths(PIPELINE["stages"][stage]["deps"])

    assert {path for path in deps if path.startswith(("data/", "models/"))} <= named
    assert named <= set(deps)


def test_no_stage_reads_what_a_later_one_writes() -> None:
    written: list[str] = []
    for stage in STAGES:
        entry = PIPELINE["stages"][stage]
        made_here = paths(entry.get("outs", []) + entry.get("metrics", []) + entry.get("plots", []))
        for path in paths(entry["deps"]):
            if path.startswith(("data/", "models/", "metrics/")):
                assert path in written, f"{stage} reads {path}"
        written += made_here


def test_metrics_and_plots_stay_in_git_and_in_the_run_cache() -> None:
    for stage in STAGES:
        entry = PIPELINE["stages"][stage]
        for output in entry.get("metrics", []) + entry.get("plots", []):
            assert next(iter(output.values()))["cache"] is False
        for output in entry.get("outs", []):
            assert isinstance(output, str), "an option on an out switches the run cache off"


@pytest.mark.parametrize("preset", [ROOT / "params.yaml", *PRESETS], ids=lambda path: path.stem)
def test_every_preset_is_valid_and_complete(preset: Path) -> None:
    sections = {**{stage: stage_class(stage) for stage in STAGES}, **SHARED}
    content = read_params_file(preset)

    assert set(content) == set(sections)
    for section, params_class in sections.items():
        load_params(params_class, section, preset)
        assert [field.name for field in fields(params_class)] == list(content[section])


@pytest.mark.parametrize("library", DOORS)
def test_a_heavy_library_enters_by_one_door(library: str) -> None:
    pattern = re.compile(rf"^\s*(import|from) {library}\b", re.MULTILINE)
    users = [
        path.relative_to(ROOT).as_posix()
        for folder in ("stages", "tools")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if pattern.search(path.read_text(encoding="utf-8"))
    ]
    assert users == DOORS[library].split()


def test_the_tree_in_the_readme_is_the_tree() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"## The tree\n.*?```text\n(.*?)```", readme, re.DOTALL)
    assert block
    named, folders = set(), [""]
    for line in block[1].splitlines():
        if not line.strip():
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        entries = re.split(r" {2,}", line.strip())[0].split()
        folders = folders[: depth + 1]
        for entry in entries:
            named.add(folders[depth] + entry.rstrip("/"))
            if entry.endswith("/"):
                folders.append(folders[depth] + entry)
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    real = {path for path in tracked if (ROOT / path).exists()}
    real |= {parent.as_posix() for path in real for parent in Path(path).parents} - {"."}
    made_by_the_pipeline = {"data", "models", "report"}

    assert named - made_by_the_pipeline <= real, "README names what is not there"
    parts = ("stages/", "tools/", "presets/", "benchmarks/")
    expected = {path for path in real if "/" not in path or path.startswith(parts)}
    ignored = {path for path in expected if path.split("/")[0].startswith(".")}
    ignored |= {path for path in expected if path.endswith("__init__.py")}
    assert expected - ignored <= named, "README leaves out what is there"


def pins(file: str) -> set[str]:
    """Return the lines `name==version` of a requirements file, names in their normal form."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    plain = [re.split(r"\s*[#;]", line)[0].strip() for line in lines]
    pairs = [line.partition("==") for line in plain if line and not line.startswith("-")]
    return {f"{re.sub('[-_.]+', '-', name).lower()}=={version}" for name, _, version in pairs}


def test_requirements_are_pinned_and_locked() -> None:
    named = pins("requirements.txt") | pins("requirements-dev.txt")
    locked = pins("requirements.lock")

    assert named <= locked
    assert not [pin for pin in locked if re.search(r"==$|[<>~*]", pin)]
    assert [pin for pin in locked if "opencv" in pin] == [
        pin for pin in named if pin.startswith("opencv-python-headless==")
    ]
