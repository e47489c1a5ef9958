"""Puts a preset in place as params.yaml: `make preset NAME=egypt [SOURCE=path or URL]`."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.lib.errors import InputError, run_stage
from stages.lib.params import PARAMS_FILE, read_params_file
from stages.lib.sources import is_url

PRESETS = Path("presets")
# What DVC watches where the source is an address: a file of ours, since it cannot watch the source.
NOTHING_LOCAL = "stages/download.py"
DEMO = "demo"
SOURCE_KEYS = ("source", "watch", "sha256")


def preset_text(name: str, source: str) -> str:
    """Return the preset's text, with another source where one is given.

    Raises InputError for an unknown preset or a source that does not exist.
    """
    path = PRESETS / f"{name}.yaml"
    known = sorted(found.stem for found in PRESETS.glob("*.yaml"))
    if name not in known:
        raise InputError(f"NAME must be one of {', '.join(known)}, got {name!r}")
    read_params_file(path)
    text = path.read_text(encoding="utf-8")
    usual = read_params_file(path)["download"]["source"]
    if not source and not (usual == DEMO or is_url(usual)):
        raise InputError(f"{name} needs SOURCE=, a folder, an archive or a URL of your pictures")
    if not source:
        return text
    local = "" if is_url(source) else str(Path(source).expanduser().resolve())
    if local and not Path(local).exists():
        raise InputError(f"SOURCE {source!r} does not exist; name a folder, an archive or a URL")
    yaml = YAML()
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    content = yaml.load(text)
    # Absolute, so that experiments in temporary folders find it too.
    content["download"].update(
        {"source": local or source, "watch": local or NOTHING_LOCAL, "sha256": ""}
    )
    with (target := PRESETS / ".unfinished").open("w", encoding="utf-8") as stream:
        yaml.dump(content, stream)
    text = target.read_text(encoding="utf-8")
    target.unlink()
    return text


def has_own_edits(path: Path = PARAMS_FILE) -> bool:
    """Tell whether params.yaml holds what neither git nor any preset has: it would be lost."""
    if not path.exists():
        return False
    committed = subprocess.run(
        ["git", "show", f"HEAD:./{path}"], capture_output=True, text=True, check=False
    )
    if committed.returncode == 0 and committed.stdout == path.read_text(encoding="utf-8"):
        return False
    mine = _without_source(read_params_file(path))
    return all(mine != _without_source(read_params_file(known)) for known in PRESETS.glob("*.yaml"))


def _without_source(params: dict[str, Any]) -> dict[str, Any]:
    download = {
        key: value for key, value in params.get("download", {}).items() if key not in SOURCE_KEYS
    }
    return {**params, "download": download}


def main() -> None:
    """Replace params.yaml."""
    name, source, force = (*sys.argv[1:], "", "", "")[:3]
    text = preset_text(name, source)
    if has_own_edits() and not force:
        raise InputError(
            f"{PARAMS_FILE} has edits that are not committed and would be lost; commit them, or "
            "add FORCE=1 to lose them"
        )
    PARAMS_FILE.write_text(text, encoding="utf-8")
    where = read_params_file(PARAMS_FILE)["download"]["source"]
    print(f"preset: {name} is in place, the pictures come from {where}; next: make repro")


if __name__ == "__main__":
    run_stage("preset", main)
