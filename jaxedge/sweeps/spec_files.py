"""Sweep files: TOML or JSON with the keys of scenario files on the axes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxedge.scenario import presets
from jaxedge.scenario.files import PathLike, ScenarioFileError, from_tree, load, parsed_file
from jaxedge.scenario.keys import field_at
from jaxedge.scenario.scenario import SECTIONS, Scenario
from jaxedge.sweeps.axes import CHANNELS, GRIDS, LAWS, Axis, Channel, Setting
from jaxedge.sweeps.checks import check_sweep
from jaxedge.sweeps.sweep import Sweep
from jaxedge.words.choices import unknown

_OPTIONS = {item.name for item in dataclasses.fields(Sweep)} - {"scenario", "axes"}
_AXIS = ("name", "draws", "reduce", "channel", "shadowing_db", "radius_km")


def load_sweep(path: PathLike) -> Sweep:
    """Read a sweep from a TOML or JSON file, checked whole.

    Raises:
        ScenarioFileError: naming the file, the axis or field, and the remedy.
    """
    tree = parsed_file(path)
    try:
        return from_sweep_tree(tree, Path(path).parent)
    except ScenarioFileError:
        raise
    except ValueError as error:
        raise ScenarioFileError(path, str(error)) from error


def loads_json(text: str) -> Sweep:
    """Read a sweep as its store keeps it."""
    return from_sweep_tree(json.loads(text), Path())


def from_sweep_tree(tree: object, folder: Path) -> Sweep:
    """Build a sweep from nested mappings; files are named relative to ``folder``.

    Raises:
        ValueError: naming the key, the axis or field, its value, its unit and what is accepted.
    """
    if not isinstance(tree, Mapping):
        raise ValueError(f"a sweep must be a table of keys, got {type(tree).__name__}")
    _known("key", tree, (*_OPTIONS, "scenario", "axes"), "at the top level")
    axes = tree.get("axes", [])
    if not isinstance(axes, list) or not all(isinstance(axis, Mapping) for axis in axes):
        raise ValueError("axes must be tables: write each under [[axes]]")
    options: dict[str, Any] = {key: value for key, value in tree.items() if key in _OPTIONS}
    for key in ("outputs", "statistics", "quantiles"):
        if key in options and not isinstance(options[key], list):
            raise ValueError(f"{key} = {options[key]!r:.40}: must be a list")
        if key in options:
            options[key] = tuple(options[key])
    scenario = _scenario(tree.get("scenario", "default"), folder)
    return check_sweep(Sweep(scenario=scenario, axes=[_axis(a) for a in axes], **options))


def _known(kind: str, tree: Mapping[str, Any], known: tuple[str, ...], place: str) -> None:
    for key in tree:
        if key not in known:
            raise ValueError(unknown(kind, key, sorted(known), place=f" {place}"))


def _scenario(given: Any, folder: Path) -> Scenario:
    """A preset, a file, or a table."""
    if isinstance(given, Mapping):
        return from_tree(given)
    if not isinstance(given, str):
        raise ValueError(f"scenario = {given!r:.40}: must be a preset, a file name or a table")
    if given in presets.names():
        return presets.get(given)
    if not (folder / given).exists():
        listed = ", ".join(presets.names())
        raise ValueError(f"scenario = {given!r:.80} is neither a file nor a preset ({listed})")
    return load(folder / given)


def _axis(tree: Mapping[str, Any]) -> Axis:
    """One axis from its table."""
    fields: dict[str, Any] = {}
    for key, value in tree.items():
        if key in SECTIONS and isinstance(value, Mapping):  # devices.gain_db without quotes
            fields |= {f"{key}.{name}": inner for name, inner in value.items()}
        elif key not in _AXIS:
            fields[key] = value
    settings = tuple(_setting(key, value) for key, value in fields.items())
    channel = None
    if "channel" in tree:
        if tree["channel"] not in CHANNELS:
            _known("channel", {tree["channel"]: None}, CHANNELS, "on an axis")
        numbers = {key: tree[key] for key in ("shadowing_db", "radius_km") if key in tree}
        channel = Channel(kind=tree["channel"], **numbers)
    name = tree.get("name", "-".join(setting.target[0].path for setting in settings) or "channel")
    if not isinstance(name, str):
        raise ValueError(f"axis name {name!r:.40}: must be text")
    return Axis(
        name=name,
        settings=settings,
        channel=channel,
        draws=tree.get("draws"),
        reduce=_flag(name, tree.get("reduce", False)),
    )


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"axis {name!r}: reduce = {value!r:.40}: must be true or false")
    return value


def _setting(key: str, value: Any) -> Setting:
    field_at(key)
    if isinstance(value, list):
        return Setting(key=key, law="values", numbers=tuple(value))
    known = (*GRIDS, *LAWS)
    if not isinstance(value, Mapping) or len(value) != 1:
        raise ValueError(
            f"{key} = {value!r:.60}: must be a list of values, or one of {', '.join(known)}, "
            "as in { linspace = [100, 1000, 10] }"
        )
    _known("way", value, known, f"to set {key}")
    ((law, numbers),) = value.items()
    length = len(numbers) if law == "values" else 2 if law in LAWS else 3
    if not isinstance(numbers, list) or len(numbers) != length:
        needs = "low, high or the like" if law in LAWS else "first, last and the number of values"
        raise ValueError(f"{key}: {law} = {numbers!r:.60}: must be a list: {needs}")
    return Setting(key=key, law=law, numbers=tuple(numbers))
