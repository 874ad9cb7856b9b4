"""Ranges of scenario fields with a distribution on each: what global measures sample from.

A range is a monotone map from a share u in (0, 1) to a value, so that u is uniform whatever the
distribution. Values are in the unit that the range's key carries; scenarios are SI.
"""

from __future__ import annotations

import dataclasses
import math
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxedge.scenario.field_checks import check_domain
from jaxedge.scenario.keys import field_at
from jaxedge.scenario.scenario import SECTIONS, Field, Scenario
from jaxedge.scenario.units import Unit
from jaxedge.words.choices import choice

DISTRIBUTIONS = ("uniform", "log-uniform", "normal")
"""On [low, high]; the normal one is cut off there and needs ``mean`` and ``std``."""
_OPTIONS = ("low", "high", "distribution", "mean", "std", "relative")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Range:
    """One field and where its value may lie."""

    key: str
    """Dotted path as given, which may carry a unit: "server.max_power_dbm"."""
    item: Field
    unit: Unit | None
    """That of the key; None is the field's SI unit."""
    low: float
    """In the key's unit, as high, mean and std are."""
    high: float
    distribution: str = "uniform"
    mean: float | None = None
    std: float | None = None
    relative: bool = False
    """True where values are factors on what the scenario holds, device by device."""

    @property
    def symbol(self) -> str:
        """The unit as printed: "dBm", "J", "1"; "x" for factors."""
        if self.relative:
            return "x"
        return self.item.unit if self.unit is None else self.unit.symbol

    def values(self, shares: np.ndarray) -> np.ndarray:
        """Values at shares u in [0, 1], any shape: the quantile function."""
        if self.distribution == "uniform":
            return self.low + shares * (self.high - self.low)
        if self.distribution == "log-uniform":
            return np.exp(math.log(self.low) + shares * math.log(self.high / self.low))
        return np.asarray(self._normal().ppf(shares))

    def slopes(self, values: np.ndarray) -> np.ndarray:
        """Derivative d value/d share = 1/density at values, any shape."""
        if self.distribution == "uniform":
            return np.full(np.shape(values), self.high - self.low)
        if self.distribution == "log-uniform":
            return values * math.log(self.high / self.low)
        return 1.0 / np.asarray(self._normal().pdf(values))

    def to_si(self, values: np.ndarray) -> np.ndarray:
        """Values in SI units, any shape; factors stay factors."""
        return values if self.unit is None else self.unit.to_si(values)

    def si_slopes(self, values: np.ndarray) -> np.ndarray:
        """Derivative d SI value/d value, any shape."""
        if self.unit is None:
            return np.ones(np.shape(values))
        if self.unit.decibel:
            return self.unit.to_si(values) * (math.log(10.0) / 10.0)
        return np.full(np.shape(values), self.unit.factor)

    def _normal(self) -> Any:
        from scipy.stats import truncnorm

        ends = [(end - (self.mean or 0.0)) / (self.std or 1.0) for end in (self.low, self.high)]
        return truncnorm(*ends, loc=self.mean, scale=self.std)


def ranges_of(given: Mapping[str, Any]) -> list[Range]:
    """Read ranges: key -> (low, high), or a table of low, high and distribution.

    Keys are those of scenario files with their section, "devices.gain_db"; a table per section does
    as well. A table may hold ``distribution``, ``mean`` and ``std`` ("normal"), and ``relative``:
    factors on what the scenario holds. A number for a device field is that of all devices.

    Raises:
        ValueError: naming the key, the value, its unit and what would be accepted.
    """
    if not isinstance(given, Mapping):
        raise ValueError(f"ranges: must be a table of key = [low, high], got {given!r:.60}")
    flat: dict[str, Any] = {}
    for key, value in given.items():
        inner = value if key in SECTIONS and isinstance(value, Mapping) else None
        named = {f"{key}.{k}": v for k, v in inner.items()} if inner is not None else {key: value}
        flat.update(named)
    if not flat:
        raise ValueError("ranges: there is none; give at least one, as energy_budget = [500, 2000]")
    ranges = [_range(key, value) for key, value in flat.items()]
    _check_distinct(ranges)
    return ranges


def load_ranges(path: str | os.PathLike[str]) -> list[Range]:
    """Read ranges from a TOML file, as `ranges_of` takes them.

    Raises:
        ValueError: naming the file, the key, the value and the remedy.
    """
    try:
        return ranges_of(tomllib.loads(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise ValueError(f"{os.fspath(path)}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # of TOML and UTF-8 too
        raise ValueError(f"{os.fspath(path)}: {error}") from error


def _range(key: str, value: Any) -> Range:
    item, unit = field_at(key)
    table = dict(value) if isinstance(value, Mapping) else _ends(key, value)
    for option in table:
        choice(f"option of the range {key}", option, _OPTIONS)
    missing = [end for end in ("low", "high") if end not in table]
    if missing:
        raise ValueError(f"{key}: {' and '.join(missing)} missing: a range needs both ends")
    choice(f"distribution of {key}", str(table.get("distribution", "uniform")), DISTRIBUTIONS)
    numbers = {name: _number(key, name, table[name]) for name in table if name in _NUMBERS}
    found = Range(key=key, item=item, unit=unit, **{**table, **numbers})
    _check(found)
    return found


_NUMBERS = ("low", "high", "mean", "std")


def _ends(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise ValueError(f"{key} = {value!r:.60}: a range is [low, high] or a table with both")
    return {"low": value[0], "high": value[1]}


def _number(key: str, name: str, value: Any) -> float:
    real = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not real or not math.isfinite(value):
        raise ValueError(f"{key}: {name} = {value!r:.60} must be a finite number")
    return float(value)


def _check(item: Range) -> None:
    where = f"{item.key}: low = {item.low:.10g} {item.symbol}"
    if item.low >= item.high:
        raise ValueError(f"{where} must be below high = {item.high:.10g} {item.symbol}")
    if item.item.integer:
        raise ValueError(
            f"{item.key} holds whole numbers, which no range of reals samples: sweep it"
        )
    if item.item.name == "device_weight":
        raise ValueError(f"{item.key} must sum to 1, so that no range of its own is possible")
    if not isinstance(item.relative, bool):
        raise ValueError(f"{item.key}: relative = {item.relative!r:.40} must be true or false")
    if item.relative and item.unit is not None:
        raise ValueError(f"{item.key}: factors have no unit; write {item.item.path}")
    if item.distribution == "log-uniform" and item.low <= 0:
        raise ValueError(f"{where} must be > 0 for a log-uniform distribution")
    _check_normal(item)
    for end in (item.low, item.high):
        check_domain(item.item, item.to_si(np.asarray(end)))


def _check_normal(item: Range) -> None:
    given = item.mean is not None and item.std is not None
    if (item.distribution == "normal") != given or (item.mean is None) != (item.std is None):
        raise ValueError(
            f'{item.key}: mean and std go with distribution = "normal", and it with them'
        )
    if item.std is not None and item.std <= 0:
        raise ValueError(f"{item.key}: std = {item.std:.10g} {item.symbol} must be > 0")


def _check_distinct(ranges: Sequence[Range]) -> None:
    seen: dict[str, str] = {}
    for item in ranges:
        if item.item.path in seen:
            first = seen[item.item.path]
            raise ValueError(f"{item.item.path} is given twice, as {first} and as {item.key}")
        seen[item.item.path] = item.key


def scenarios_at(base: Scenario, ranges: Sequence[Range], values: np.ndarray) -> Scenario:
    """Scenarios (B, ...) with the ranges' fields at values (B, d) and the rest as in ``base``.

    Args:
        base: a valid scenario.
        ranges: d of them.
        values: each column in its range's unit.
    """
    changes: dict[str, dict[str, Any]] = {name: {} for name in ("", *SECTIONS)}
    for item, column in zip(ranges, values.T, strict=True):
        numbers = item.to_si(column)
        shaped = numbers[:, None] if item.item.per_device else numbers
        changes[item.item.section][item.item.name] = shaped * factors_of(base, item)
    top = changes.pop("")
    parts = {
        name: dataclasses.replace(getattr(base, name), **change) for name, change in changes.items()
    }
    return dataclasses.replace(base, **parts, **top)


def factors_of(base: Scenario, item: Range) -> np.ndarray:
    """What a value is multiplied by in the scenario, () or (K,): ones unless it is relative.

    Raises:
        ValueError: for factors on an optional field that the scenario leaves out.
    """
    held = getattr(getattr(base, item.item.section, base), item.item.name)
    count = len(np.asarray(base.devices.gain))
    if not item.relative:
        return np.ones(count) if item.item.per_device else np.ones(())
    if held is None:
        raise ValueError(f"{item.key} is relative, and the scenario holds no {item.item.path}")
    return np.asarray(held)
