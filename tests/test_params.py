"""params.yaml is checked at the door: a wrong key or value is an error that names it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stages import augment, clean, download, scan, split
from stages.lib.errors import InputError
from stages.lib.parallel import ParallelParams
from stages.lib.params import SECTIONS, load_params, read_params_file

ROOT = Path(__file__).parent.parent
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))
LIGHT = {
    "download": download.Params,
    "scan": scan.Params,
    "clean": clean.Params,
    "split": split.Params,
    "augment": augment.Params,
    "parallel": ParallelParams,
}
HEAVY = [name for name in SECTIONS if name not in LIGHT and (ROOT / f"stages/{name}.py").exists()]
CLEAN = {
    key: json.dumps(value)  # which is YAML as well
    for key, value in read_params_file(ROOT / "presets/demo.yaml")["clean"].items()
}


def clean_section(folder: Path, **changes: str | None) -> Path:
    """Write a params.yaml whose clean section has these values; None leaves the key out."""
    values = {**CLEAN, **changes}
    lines = [f"  {key}: {value}" for key, value in values.items() if value is not None]
    path = folder / "params.yaml"
    path.write_text("\n".join(["clean:", *lines, ""]), encoding="utf-8")
    return path


def refusal(path: Path, section: str = "clean", params_class: type[Any] = clean.Params) -> str:
    with pytest.raises(InputError) as caught:
        load_params(params_class, section, path)
    return str(caught.value)


def test_a_right_section_becomes_the_stages_params(tmp_path: Path) -> None:
    changes = {"min_side": "17", "remove_similarity": "1", "label_conflicts": "majority"}
    flags = {**json.loads(CLEAN["flags"]), "dark": 0.25, "blurry": 7}

    params = load_params(
        clean.Params, "clean", clean_section(tmp_path, **changes, flags=json.dumps(flags))
    )

    assert (params.keep_suspect, params.min_side) == (("missing_eoi",), 17)
    assert (params.remove_similarity, params.label_conflicts) == (1.0, "majority")
    assert (params.flags.dark, params.flags.blurry) == (0.25, 7.0)


def test_a_number_written_with_an_exponent_is_a_number(tmp_path: Path) -> None:
    path = clean_section(tmp_path, remove_similarity="1e-3", group_similarity="1e-4")

    params = load_params(clean.Params, "clean", path)

    assert (params.remove_similarity, params.group_similarity) == (0.001, 0.0001)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("scam: {}", ["unknown section 'scam'", "did you mean 'scan'?"]),
        ("zzzzzz: {}", ["unknown section 'zzzzzz'", "known: download, scan, clean"]),
        ("scan: {max_pixels: 1}", ["section 'clean' is missing", "presets/demo.yaml"]),
        ("", ["one section per stage", "NoneType"]),
        ("- clean", ["one section per stage", "list"]),
        ("clean: {min_side: 1", ["is not valid YAML"]),
        ("clean: {min_side: 1, min_side: 2}", ["is not valid YAML", "duplicate key"]),
        ("clean:", ["clean: ", "got None"]),
    ],
)
def test_a_file_that_is_not_one_section_per_stage_is_refused(
    tmp_path: Path, text: str, parts: list[str]
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")

    message = refusal(path)

    assert [part for part in [str(path), *parts] if part not in message] == []


def test_a_missing_file_names_the_remedy(tmp_path: Path) -> None:
    message = refusal(tmp_path / "params.yaml")

    assert "is missing" in message
    assert "make preset NAME=demo" in message


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(b"clean: {label_conflicts: caf\xe9}")

    assert "is not valid YAML" in refusal(path)


def test_an_unknown_key_is_refused_with_the_nearest_known_one(tmp_path: Path) -> None:
    message = refusal(clean_section(tmp_path, min_sides="3"))

    assert "unknown key clean.min_sides, did you mean 'min_side'?" in message


def test_an_unknown_key_like_no_other_is_refused_with_all_known_ones(tmp_path: Path) -> None:
    message = refusal(clean_section(tmp_path, zzzzzz="3"))

    assert f"unknown key clean.zzzzzz; known: {', '.join(CLEAN)}" in message


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"darc": 0.1}, "unknown key clean.flags.darc, did you mean 'dark'?"),
        ({"zzzzzz": 0.1}, "unknown key clean.flags.zzzzzz; known: dark, bright, blurry, "),
        ({"dark": 1.5}, "clean.flags.dark: Input should be less than or equal to 1, got 1.5"),
        ({"dark": None}, "clean.flags.dark: Input should be a valid number, got None"),
    ],
)
def test_a_key_of_a_mapping_inside_a_section_is_named_with_its_way_there(
    tmp_path: Path, change: dict[str, float | None], sentence: str
) -> None:
    flags = {**json.loads(CLEAN["flags"]), **change}

    assert sentence in refusal(clean_section(tmp_path, flags=json.dumps(flags)))


@pytest.mark.parametrize("key", CLEAN)
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    message = refusal(clean_section(tmp_path, **{key: None}))

    assert f"clean.{key} is missing" in message


@pytest.mark.parametrize(
    ("key", "value", "received"),
    [
        ("min_side", "'16'", "'16'"),
        ("min_side", "16.5", "16.5"),
        ("min_side", "true", "True"),
        ("min_side", "[16]", "[16]"),
        ("min_side", "", "None"),
        ("min_side", "2026-01-01", "'2026-01-01'"),
        ("remove_similarity", "high", "'high'"),
        ("label_conflicts", "3", "3"),
        ("keep_suspect", "missing_eoi", "'missing_eoi'"),
    ],
)
def test_an_ill_typed_value_is_named_with_what_was_received(
    tmp_path: Path, key: str, value: str, received: str
) -> None:
    message = refusal(clean_section(tmp_path, **{key: value}))

    assert f"clean.{key}: " in message
    assert message.endswith(f"got {received}")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("min_side", "0"),
        ("hash_radius", "-1"),
        ("hash_radius", "17"),
        ("remove_similarity", "0"),
        ("remove_similarity", "1.01"),
        ("group_similarity", ".nan"),
        ("group_similarity", ".inf"),
        ("label_conflicts", "delete"),
        ("keep_suspect", "[truncated]"),
    ],
)
def test_a_value_outside_its_range_is_named(tmp_path: Path, key: str, value: str) -> None:
    assert f"clean.{key}" in refusal(clean_section(tmp_path, **{key: value}))


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    path = clean_section(tmp_path, min_side="0", hash_radius=None, zzzzzz="1", label_conflicts="x")

    message = refusal(path)

    wrong = ("min_side", "hash_radius", "zzzzzz", "label_conflicts")
    assert [key for key in wrong if f"clean.{key}" not in message] == []
    assert message.count(";") >= 3


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_every_preset_has_exactly_the_known_sections(preset: Path) -> None:
    assert sorted(read_params_file(preset)) == sorted(SECTIONS)


@pytest.mark.parametrize("section", LIGHT)
@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_every_preset_validates(preset: Path, section: str) -> None:
    assert isinstance(load_params(LIGHT[section], section, preset), LIGHT[section])


# Stages that import Keras are checked in a process of their own where a stand-in takes its place:
# their parameters do not depend on it, and starting TensorFlow would cost seconds.
CHECK_WITHOUT_KERAS = """
import importlib, json, sys, types
from pathlib import Path

class Anything(type):
    def __getattr__(cls, name): return cls
    def __call__(cls, *args, **kwargs): return args[0] if args and callable(args[0]) else cls

stand_in = types.ModuleType("stages.lib.keras_runtime")
stand_in.__getattr__ = lambda name: Anything("StandIn", (), {})
sys.modules["stages.lib.keras_runtime"] = stand_in
from stages.lib.params import load_params
presets, sections = json.loads(sys.argv[1])
for section in sections:
    stage = importlib.import_module(f"stages.{section}")
    for preset in presets:
        load_params(stage.Params, section, Path(preset))
        print(f"{section} {Path(preset).stem}")
"""


def test_every_preset_validates_for_the_stages_that_import_keras() -> None:
    arguments = json.dumps([[str(path) for path in PRESETS], HEAVY])

    done = subprocess.run(
        [sys.executable, "-c", CHECK_WITHOUT_KERAS, arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    expected = [f"{section} {path.stem}" for section in HEAVY for path in PRESETS]
    assert done.stdout.split("\n")[:-1] == expected, done.stderr
    assert {"train", "evaluate", "export"} <= set(HEAVY)
