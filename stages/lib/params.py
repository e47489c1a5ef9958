"""Reads params.yaml and refuses what it does not know: the first door of input checks."""

import difflib
import json
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.lib.errors import InputError

P = TypeVar("P")

PARAMS_FILE = Path("params.yaml")
SECTIONS = (
    "download",
    "scan",
    "clean",
    "split",
    "augment",
    "train",
    "evaluate",
    "export",
    "report",
    "parallel",
    "cache",
    "gate",
)

# Strict: YAML's `"3"` is no number and `1` is no boolean. A misspelt key is an error, never
# ignored.
STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, config=STRICT)
class CacheParams:
    """Where work is remembered between runs: measures of pictures, a training that was interrupted.

    Changes no result, so no stage depends on it.
    """

    folder: Annotated[str, Field(min_length=1)]


def read_params_file(path: Path) -> dict[str, Any]:
    """Return params.yaml as plain dicts, read as DVC reads it (YAML 1.2, so `1e-3` is a number)."""
    if not path.is_file():
        raise InputError(f"{path} is missing: run `make preset NAME=demo` to put one in place")
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold one section per stage, found {type(content).__name__}")
    for name in content:
        if name not in SECTIONS:
            raise InputError(f"{path}: unknown section {name!r}{close_match(str(name), SECTIONS)}")
    return content


def load_params(params_class: type[P], section: str, path: Path = PARAMS_FILE) -> P:
    """Return one section of params.yaml as its stage's frozen dataclass.

    Raises InputError naming the key, the rule and the value received, for every offending key at
    once.
    """
    return check_section(params_class, section, read_params_file(path), str(path))


def check_section(params_class: type[P], section: str, content: dict[str, Any], origin: str) -> P:
    """Return one section of what a params.yaml holds, as `load_params` does.

    origin: what an InputError says that it is from.
    """
    if section not in content:
        raise InputError(
            f"{origin}: section {section!r} is missing; compare with presets/demo.yaml"
        )
    try:
        # Through JSON, because strict validation of Python objects would refuse lists for tuples;
        # what JSON has no form for, as YAML's dates, is judged as text.
        text = json.dumps(content[section], default=str)
        return TypeAdapter(params_class).validate_json(text)
    except ValidationError as error:
        problems = "; ".join(
            _sentence(section, dict(problem), params_class) for problem in error.errors()
        )
        raise InputError(f"{origin}: {problems}") from error


def _sentence(section: str, problem: dict[str, Any], params_class: Any) -> str:
    key = ".".join([section, *(str(part) for part in problem["loc"])])
    kind = problem["type"]
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        *outer, name = map(str, problem["loc"])
        return f"unknown key {key}{close_match(name, _keys_within(params_class, outer))}"
    if kind in ("missing", "missing_argument"):
        return f"{key} is missing; compare with presets/demo.yaml"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{key}: {message}, got {problem['input']!r}"


def _keys_within(params_class: Any, outer: list[str]) -> list[str]:
    """Return the keys of a mapping, which may lie inside others of the section or in a list."""
    for name in outer:
        if name.isdigit():
            params_class = get_args(params_class)[0]
        else:
            params_class = next(field.type for field in fields(params_class) if field.name == name)
        if get_origin(params_class) is Annotated:
            params_class = get_args(params_class)[0]
    return [field.name for field in fields(params_class)]


def close_match(name: str, known: Iterable[str]) -> str:
    """Return how to go on after an unknown name: the nearest known one, or all of them."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f", did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
