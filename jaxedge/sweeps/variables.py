"""The variables and coordinates of a sweep's dataset."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from jaxedge.answers.batch import STATUSES
from jaxedge.planning.schemes import SCHEMES
from jaxedge.sweeps.axes import Axis, Setting
from jaxedge.sweeps.generation import numbers_at
from jaxedge.sweeps.outputs import Output, output_named
from jaxedge.sweeps.sweep import Sweep

_MOST_DRAWN = 1_000_000
"""Longer axes of draws do not list what was drawn; it follows from the seed."""

Dimensions = tuple[tuple[str, int], ...]
"""Names and lengths."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variable:
    """One array of a dataset; ``own`` are its dimensions beside the kept axes, with lengths."""

    name: str
    attributes: dict[str, Any]
    own: Dimensions = ()
    dtype: str = "f8"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Coordinate:
    """One coordinate along one dimension."""

    name: str
    dimension: str
    values: np.ndarray
    attributes: dict[str, Any]


def outputs_of(sweep: Sweep) -> tuple[Output, ...]:
    """The outputs of every design; of reduced draws the status only counts."""
    named = [output_named(name) for name in dict.fromkeys(sweep.outputs)]
    return tuple(item for item in named if not (sweep.reduced and item.name == "status"))


def own_dimensions(sweep: Sweep, item: Output) -> Dimensions:
    """Name and length of an output's own dimension, if it has one."""
    lengths = {"device": sweep.num_devices, "scheme": len(SCHEMES)}
    return () if item.dimension is None else ((item.dimension, lengths[item.dimension]),)


def variables(sweep: Sweep) -> list[Variable]:
    """The arrays that the sweep fills."""
    if not sweep.reduced:
        return [_plain(sweep, item) for item in outputs_of(sweep)]
    found = [
        Variable(
            name="outage", attributes={"units": "1", "long_name": "share of infeasible draws"}
        ),
        Variable(name="count", attributes={"units": "1", "long_name": "draws that have a design"}),
    ]
    for item in outputs_of(sweep):
        found += [_statistic(sweep, item, kind) for kind in sweep.statistics]
    return found


def _attributes(item: Output, words: str = "") -> dict[str, Any]:
    return {"units": item.unit, "long_name": f"{words}{item.meaning}"}


def _plain(sweep: Sweep, item: Output) -> Variable:
    attributes = _attributes(item)
    if item.name == "status":
        attributes["flag_values"] = list(range(len(STATUSES)))
        attributes["flag_meanings"] = " ".join(str(status) for status in STATUSES)
    own = own_dimensions(sweep, item)
    return Variable(name=item.name, attributes=attributes, own=own, dtype=item.dtype)


def _statistic(sweep: Sweep, item: Output, kind: str) -> Variable:
    own = own_dimensions(sweep, item)
    if kind == "quantile":
        own = (*own, ("quantile", len(sweep.quantiles)))
    words = {"mean": "mean of ", "std": "standard deviation of ", "quantile": "quantiles of "}
    return Variable(name=f"{item.name}_{kind}", attributes=_attributes(item, words[kind]), own=own)


def coordinates(sweep: Sweep) -> list[Coordinate]:
    """The coordinates of all dimensions."""
    found = [one for axis in sweep.kept for one in _along(sweep, axis)]
    used = {name for item in variables(sweep) for name, _ in item.own}
    special = {
        "device": (np.arange(sweep.num_devices), "device"),
        "scheme": (np.array(SCHEMES), "benchmark design"),
        "quantile": (np.asarray(sweep.quantiles, dtype=np.float64), "share of draws below"),
    }
    for name in sorted(used):
        numbers, meaning = special[name]
        told = {"units": "1", "long_name": meaning}
        found.append(Coordinate(name=name, dimension=name, values=numbers, attributes=told))
    return found


def _along(sweep: Sweep, axis: Axis) -> list[Coordinate]:
    if axis.random:
        told = {"units": "1", "long_name": f"draw of {axis.name}", "random": 1}
        index = _coordinate(axis, axis.name, np.arange(len(axis)), told)
        drawn = [s for s in axis.settings if not s.target[0].per_device]
        listed = drawn if len(axis) <= _MOST_DRAWN else []
        return [index, *(_drawn(sweep, axis, setting) for setting in listed)]
    if len(axis.settings) == 1:
        return [_given(axis, axis.settings[0], axis.name)]
    return [_given(axis, setting, setting.target[0].path) for setting in axis.settings]


def _drawn(sweep: Sweep, axis: Axis, setting: Setting) -> Coordinate:
    numbers = numbers_at(sweep, axis, setting, np.arange(len(axis)))
    return _coordinate(axis, f"drawn_{setting.target[0].path}", numbers, _told(setting))


def _given(axis: Axis, setting: Setting, name: str) -> Coordinate:
    if setting.grid.ndim == 1:
        return _coordinate(axis, name, setting.grid, _told(setting))
    told = {"units": "1", "long_name": f"position in the values of {setting.key}"}
    return _coordinate(axis, name, np.arange(len(axis)), told)


def _told(setting: Setting) -> dict[str, Any]:
    return {"units": setting.unit, "long_name": setting.target[0].meaning}


def _coordinate(axis: Axis, name: str, values: np.ndarray, told: dict[str, Any]) -> Coordinate:
    return Coordinate(name=name, dimension=axis.name, values=values, attributes=told)
