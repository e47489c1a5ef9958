"""Checks params.yaml and overrides.csv as a whole before the pipeline starts.

Each stage checks its own section again; but it does so when its turn comes, and DVC has then taken
its earlier outputs out of the way (they come back from the cache on the next good run).
"""

from pathlib import Path

from stages import augment, clean, download, report, scan, split
from stages.lib.errors import InputError, run_stage
from stages.lib.overrides import read_overrides
from stages.lib.parallel import ParallelParams
from stages.lib.params import PARAMS_FILE, close_match, load_params, read_params_file
from tools.gate_rules import GateParams

COMPLETE = Path("presets/demo.yaml")
# The sections of the other stages are held against the demo's keys: loading TensorFlow takes longer
# than all the rest of a run in which nothing has changed.
LIGHT_STAGES = {
    "download": download.Params,
    "scan": scan.Params,
    "clean": clean.Params,
    "split": split.Params,
    "augment": augment.Params,
    "report": report.Params,
}


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


def main() -> None:
    """Check everything that can be checked at once."""
    check_keys()
    load_params(ParallelParams, "parallel")
    load_params(GateParams, "gate")
    for stage, params_class in LIGHT_STAGES.items():
        load_params(params_class, stage)
    download.check_source(load_params(download.Params, "download"))
    read_overrides()


if __name__ == "__main__":
    run_stage("check", main)
