"""Scenario files: TOML or JSON in and out, with units allowed in the keys."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from jaxedge.machine.output_files import OutputFileError, write_whole
from jaxedge.scenario.keys import read_section
from jaxedge.scenario.scenario import SECTIONS, Scenario, Spectrum
from jaxedge.scenario.text import INTERVALS, json_schema, to_toml, to_tree
from jaxedge.scenario.validation import validate

__all__ = [
    "ScenarioFileError",
    "dump",
    "dumps",
    "from_tree",
    "json_schema",
    "load",
    "load_batch",
    "loads",
    "template",
    "to_tree",
]

Format = Literal["toml", "json"]

MAX_BYTES = 1 << 30
"""A larger file is refused before it is parsed."""

PathLike = str | os.PathLike[str]


class ScenarioFileError(ValueError):
    """A scenario file that cannot be read, in words; ``path`` is the file."""

    def __init__(self, path: PathLike, message: str) -> None:
        super().__init__(f"{os.fspath(path)}: {message}")
        self.path = os.fspath(path)


def load(path: PathLike) -> Scenario:
    """Read one scenario from a TOML or JSON file; the suffix, or else the content, decides.

    Raises:
        ScenarioFileError: naming the file, the field and the remedy.
    """
    text = _read(path)
    try:
        return loads(text, _format_of(path, text))
    except ValueError as error:
        raise ScenarioFileError(path, str(error)) from error


def parsed_file(path: PathLike) -> object:
    """The content of a TOML or JSON file as nested plain types.

    Raises:
        ScenarioFileError: naming the file and the remedy.
    """
    text = _read(path)
    try:
        return _parse(text, _format_of(path, text))
    except ValueError as error:
        raise ScenarioFileError(path, str(error)) from error


def loads(text: str, format: Format = "toml") -> Scenario:
    """Read one scenario from TOML or JSON text.

    Raises:
        ValueError: naming the field, its value, its unit and what would be accepted.
    """
    return from_tree(_parse(text, format))


def load_batch(path: PathLike) -> list[tuple[int, Scenario]]:
    """Read (index, scenario) pairs from a JSON list, or from ``{"cases": [{"scenario": ...}]}``.

    An element is a scenario, or an object whose "scenario" is one; what stands beside it is kept
    out.

    Raises:
        ScenarioFileError: naming the file, the element, the field and the remedy.
    """
    text = _read(path)
    try:
        elements = _elements(_parse(text, "json"))
    except ValueError as error:
        raise ScenarioFileError(path, str(error)) from error
    return [(index, _element(path, index, tree)) for index, tree in enumerate(elements)]


def dumps(scenario: Scenario, format: Format = "toml") -> str:
    """Write a scenario as TOML or JSON text that reads back equal, bit for bit.

    Raises:
        ValueError: if the scenario is not valid.
    """
    valid = validate(scenario)
    if _known(format) == "toml":
        return to_toml(valid)
    return json.dumps(to_tree(valid), indent=1, allow_nan=False) + "\n"


def dump(scenario: Scenario, path: PathLike) -> None:
    """Write a scenario to a file: JSON where the name ends in .json, TOML otherwise.

    Raises:
        ValueError: if the scenario is not valid.
        ScenarioFileError: if the file cannot be written.
    """
    text = dumps(scenario, "json" if Path(path).suffix.lower() == ".json" else "toml")
    try:
        write_whole(path, text.encode())
    except OutputFileError as error:
        raise ScenarioFileError(path, str(error).removeprefix(f"{os.fspath(path)}: ")) from error


def template(preset: str = "default") -> str:
    """A commented TOML file to edit: unit and meaning beside every key, numbers of the preset.

    Raises:
        ValueError: if there is no such preset.
    """
    from jaxedge.scenario import presets

    return to_toml(validate(presets.get(preset)), comments=True)


def from_tree(tree: object) -> Scenario:
    """Build a scenario from nested mappings with the keys of scenario files.

    Raises:
        ValueError: naming the key or field, its value, its unit and what would be accepted.
    """
    if not isinstance(tree, Mapping):
        raise ValueError(f"a scenario must be a table of keys, got {_kind(tree)}")
    top = {key: value for key, value in tree.items() if key not in (*SECTIONS, INTERVALS)}
    whole = read_section("", top)  # first, so that a misspelt section is named as such
    sections = {}
    for name, kind in SECTIONS.items():
        part = dict(_table(name, tree.get(name, {})))
        modes = part.pop("spectrum", None) if name == "learning" else None
        sections[name] = kind(**read_section(name, part), **_spectrum(modes))
    return validate(Scenario(**sections, **whole))


def _spectrum(table: object) -> dict[str, Spectrum]:
    if table is None:
        return {}
    path = "learning.spectrum"
    return {"spectrum": Spectrum(**read_section(path, _table(path, table)))}


def _table(name: str, part: object) -> Mapping[str, object]:
    if not isinstance(part, Mapping):
        raise ValueError(f"{name} must be a table of keys, got {_kind(part)}")
    return part


def _kind(value: object) -> str:
    if isinstance(value, list):
        return "a list: many scenarios go through `jaxedge batch`"
    return f"{value!r:.40} (type {type(value).__name__})"


def _elements(tree: object) -> Sequence[object]:
    if isinstance(tree, Mapping):
        if "cases" not in tree:
            raise ValueError(
                'a batch must be a list of scenarios or {"cases": [{"scenario": ...}]}; '
                "a single scenario goes through `jaxedge plan`"
            )
        tree = tree["cases"]
    if not isinstance(tree, list) or not tree:
        raise ValueError(f"a batch must be a list of at least one scenario, got {tree!r:.40}")
    return tree


def _element(path: PathLike, index: int, tree: object) -> Scenario:
    try:
        if isinstance(tree, Mapping) and "scenario" in tree:
            tree = tree["scenario"]
        return from_tree(tree)
    except ValueError as error:
        raise ScenarioFileError(path, f"element {index}: {error}") from error


def _read(path: PathLike) -> str:
    if isinstance(path, str) and "\0" in path:
        raise ScenarioFileError(path, "is no file name: it holds a NUL character")
    if os.path.isdir(path):
        raise ScenarioFileError(path, "is a directory: give a .toml or .json file")
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ScenarioFileError(
            path, "does not exist: `jaxedge init > scenario.toml` writes one to edit"
        ) from None
    except OSError as error:
        raise ScenarioFileError(path, f"cannot be read: {error.strerror}") from error
    return _decode(path, raw)


def _decode(path: PathLike, raw: bytes) -> str:
    if len(raw) > MAX_BYTES:
        raise ScenarioFileError(path, f"is larger than {MAX_BYTES} bytes: split the batch")
    if b"\0" in raw:
        raise ScenarioFileError(path, "is a binary file: a scenario is TOML or JSON text")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ScenarioFileError(
            path, f"is not UTF-8 text (byte {error.start}): a scenario is TOML or JSON text"
        ) from None
    if not text.strip():
        raise ScenarioFileError(path, "is empty: `jaxedge init > scenario.toml` writes one to edit")
    return text


def _format_of(path: PathLike, text: str) -> Format:
    suffix = Path(path).suffix.lower()
    if suffix in (".toml", ".json"):
        return "json" if suffix == ".json" else "toml"
    # TOML never starts with a brace; a bracket starts a JSON list unless a table name follows.
    return "json" if re.match(r"\s*(\{|\[\s*[{\]])", text) else "toml"


def _known(format: str) -> str:
    if format not in ("toml", "json"):
        raise ValueError(f"format = {format!r}: must be 'toml' or 'json'")
    return format


def _parse(text: str, format: Format) -> object:
    if not text.strip():
        raise ValueError("the text is empty: `jaxedge init` prints a scenario to edit")
    name = _known(format).upper()
    try:
        if format == "toml":
            return tomllib.loads(text)
        parsed: object = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
        return parsed
    except RecursionError:
        raise ValueError(f"not valid {name}: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"not valid {name}: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is given twice: keep one")
    return found


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number: give a finite number")
