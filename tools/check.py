"""Checks params.yaml and overrides.csv as a whole before the pipeline starts.

Each stage checks its own section again; but it does so when its turn comes, and DVC has then taken
its earlier outputs out of the way (they come back from the cache on the next good run).
"""

from pathlib import Path
from typing import Any

from stages import augment, clean, download, report, scan, split
from stages.lib.errors import InputError, run_stage
from stages.lib.overrides import read_overrides
from stages.lib.parallel import ParallelParams
from stages.lib.params import PARAMS_FILE, close_match, load_params, read_params_file
from tools.gate_rules import GateParams
from tools.revisions import WORKSPACE, lock, resolve

COMPLETE = Path("presets/demo.yaml")
LIGHT_STAGES = {
    "download": download.Params,
    "scan": scan.Params,
    "clean": clean.Params,
    "split": split.Params,
    "augment": augment.Params,
    "report": report.Params,
}
# Their modules load TensorFlow, which takes longer than all the rest of a run in which nothing has
# changed; so their values are looked at only where the last run has not seen them.
HEAVY_STAGES = ("train", "evaluate", "export")


def check_keys(path: Path = PARAMS_FILE) -> None:
    """Raise InputError for a section or key that is missing or unknown."""
    params, complete = read_params_file(path), read_params_file(COMPLETE)
    for section, keys in complete.items():
        found = params.get(section)
        if not isinstance(found, dict):
            raise InputError(f"{path}: section {section!r} is missing; compare with {COMPLETE}")
        for key in found:
            if key not in keys:
                raise InputError(f"{path}: unknown key {section}.{key}{close_match(key, keys)}")
        for key in keys:
            if key not in found:
                raise InputError(f"{path}: {section}.{key} is missing; compare with {COMPLETE}")


def recorded_section(stage: dict[str, Any], name: str) -> Any:
    """Return the section of params.yaml that a stage's last good run was with, None without one.

    stage: its entry of dvc.lock.
    """
    return stage.get("params", {}).get(str(PARAMS_FILE), {}).get(name)


def check_heavy_stages() -> None:
    """Raise InputError for a wrong value in the sections of the stages that need TensorFlow."""
    found, recorded = read_params_file(PARAMS_FILE), lock(resolve(WORKSPACE))
    if all(
        recorded_section(recorded.get(stage, {}), stage) == found[stage] for stage in HEAVY_STAGES
    ):
        return
    from stages import evaluate, export, train
    from stages.lib.models import check_options

    load_params(evaluate.Params, "evaluate")
    load_params(export.Params, "export")
    params = load_params(train.Params, "train")
    check_options(params.model, params.options)


def main() -> None:
    """Check everything that can be checked at once."""
    check_keys()
    load_params(ParallelParams, "parallel")
    load_params(GateParams, "gate")
    for stage, params_class in LIGHT_STAGES.items():
        load_params(params_class, stage)
    download.check_source(load_params(download.Params, "download"))
    read_overrides()
    check_heavy_stages()


if __name__ == "__main__":
    run_stage("check", main)
