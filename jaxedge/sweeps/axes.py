"""The axes of a sweep: named values, grids and random draws over fields of a scenario."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from jaxedge.scenario.field_checks import as_numbers
from jaxedge.scenario.keys import field_at
from jaxedge.scenario.scenario import Field
from jaxedge.scenario.units import Unit

GRIDS = ("values", "linspace", "logspace")
LAWS = {
    "uniform": ("low", "high"),
    "log_uniform": ("low", "high"),
    "normal": ("mean", "standard deviation"),
    "log_normal": ("median", "standard deviation of the logarithm"),
}
"""Name of a distribution -> its two numbers."""
CHANNELS = ("rayleigh", "log_normal", "positions")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What one field is set to along an axis: a grid, or draws from a distribution."""

    key: str
    """Key as in scenario files with its section in front, e.g. "devices.max_power_dbm"."""
    law: str
    """One of `GRIDS` or `LAWS`."""
    numbers: tuple[Any, ...]
    """Values (numbers, or lists of K for a device field); or the law's arguments."""

    @cached_property
    def target(self) -> tuple[Field, Unit | None]:
        """The field, and the unit of the numbers if it is not the field's own."""
        return field_at(self.key)

    @property
    def unit(self) -> str:
        """The unit of the numbers."""
        item, unit = self.target
        return item.unit if unit is None else unit.symbol

    @property
    def random(self) -> bool:
        """Whether the field is drawn."""
        return self.law in LAWS

    @cached_property
    def grid(self) -> np.ndarray:
        """The values of a grid in the key's unit: (n,), or (n, K)."""
        if self.law == "values":
            return as_numbers(self.target[0], list(self.numbers))
        first, last, count = self.numbers
        space = np.linspace if self.law == "linspace" else np.geomspace
        return np.asarray(space(first, last, int(count)), dtype=np.float64)

    def to_si(self, numbers: np.ndarray) -> np.ndarray:
        """Numbers in the key's unit as the field's: SI, and whole where that is asked for."""
        item, unit = self.target
        si = numbers if unit is None else unit.to_si(numbers)
        return np.rint(si) if self.random and item.integer else si

    def tree(self) -> Any:
        """As in a sweep file."""
        return list(self.numbers) if self.law == "values" else {self.law: list(self.numbers)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Channel:
    """Monte Carlo over the channels of all devices."""

    kind: str
    """"rayleigh" and "log_normal" multiply the gains; "positions" draws them anew in a cell."""
    shadowing_db: float = 8.0
    radius_km: float = 0.5

    def tree(self) -> dict[str, Any]:
        """As in a sweep file."""
        return {
            "channel": self.kind,
            "shadowing_db": self.shadowing_db,
            "radius_km": self.radius_km,
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axis:
    """One dimension of a sweep: fields that change together."""

    name: str
    settings: tuple[Setting, ...] = ()
    channel: Channel | None = None
    draws: int | None = None
    """Number of draws of a random axis, None for a grid."""
    reduce: bool = False
    """Whether statistics over the draws are kept in place of the draws."""

    @property
    def random(self) -> bool:
        """Whether it is an axis of draws."""
        return self.draws is not None

    def __len__(self) -> int:
        """How many values or draws."""
        return len(self.settings[0].grid) if self.draws is None else self.draws

    def tree(self) -> dict[str, Any]:
        """As in a sweep file."""
        drawn = {"draws": self.draws, "reduce": self.reduce} if self.random else {}
        channel = {} if self.channel is None else self.channel.tree()
        fields = {setting.key: setting.tree() for setting in self.settings}
        return {"name": self.name, **fields, **channel, **drawn}


def values(key: str, numbers: Sequence[Any] | np.ndarray) -> Setting:
    """Given values of a field; for a device field each may be a list of K numbers."""
    return Setting(key=key, law="values", numbers=tuple(np.asarray(numbers).tolist()))


def linspace(key: str, first: float, last: float, count: int) -> Setting:
    """``count`` evenly spaced values from ``first`` to ``last``, both included."""
    return Setting(key=key, law="linspace", numbers=(first, last, count))


def logspace(key: str, first: float, last: float, count: int) -> Setting:
    """``count`` values in geometric progression from ``first`` to ``last``, both included."""
    return Setting(key=key, law="logspace", numbers=(first, last, count))


def uniform(key: str, low: float, high: float) -> Setting:
    """Draws uniform between ``low`` and ``high``; a device field gets one for every device."""
    return Setting(key=key, law="uniform", numbers=(low, high))


def log_uniform(key: str, low: float, high: float) -> Setting:
    """Draws whose logarithm is uniform between those of ``low`` and ``high``."""
    return Setting(key=key, law="log_uniform", numbers=(low, high))


def normal(key: str, mean: float, deviation: float) -> Setting:
    """Normal draws of a key in decibels."""
    return Setting(key=key, law="normal", numbers=(mean, deviation))


def log_normal(key: str, median: float, deviation: float) -> Setting:
    """Draws whose natural logarithm is normal with standard deviation ``deviation``."""
    return Setting(key=key, law="log_normal", numbers=(median, deviation))


def zipped(*settings: Setting, name: str | None = None) -> Axis:
    """One axis along which several fields change together."""
    return Axis(name=name or _named_after(settings), settings=settings)


def draws(count: int, *settings: Setting, name: str | None = None, reduce: bool = False) -> Axis:
    """An axis of ``count`` random draws, or with ``reduce`` their statistics in its place."""
    name = name or _named_after(settings)
    return Axis(name=name, settings=settings, draws=count, reduce=reduce)


def channels(
    count: int,
    kind: str = "rayleigh",
    *,
    shadowing_db: float = 8.0,
    radius_km: float = 0.5,
    name: str = "channel",
    reduce: bool = False,
) -> Axis:
    """An axis of ``count`` random channels: see `Channel`."""
    channel = Channel(kind=kind, shadowing_db=shadowing_db, radius_km=radius_km)
    return Axis(name=name, channel=channel, draws=count, reduce=reduce)


def _named_after(settings: Sequence[Setting]) -> str:
    return "-".join(setting.target[0].path for setting in settings)


def as_axis(axis: Axis | Setting) -> Axis:
    """A grid alone is an axis of its own."""
    return axis if isinstance(axis, Axis) else zipped(axis)
