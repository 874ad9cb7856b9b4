"""Units at the boundary: decibels, megahertz and kilojoules in, SI and linear numbers inside."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
from jax.typing import ArrayLike

LN2 = math.log(2.0)
"""ln 2, nats per bit."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unit:
    """A unit people think in: ``si = factor * x``, or ``si = factor * 10^(x/10)`` for decibels."""

    symbol: str
    """As printed, e.g. "dBm"."""
    si: str
    """The SI unit of the fields that accept it, e.g. "W"."""
    factor: float
    """SI units in one of it (for decibels: in 0 dB)."""
    decibel: bool = False

    def to_si(self, value: ArrayLike) -> np.ndarray:
        """Convert ``value`` (any shape, in this unit) to SI, as float64."""
        number = np.asarray(value, dtype=np.float64)
        # Out of range becomes inf or 0, which validation names with its field.
        with np.errstate(over="ignore", under="ignore"):
            linear = np.power(10.0, number / 10.0) if self.decibel else number
            return np.asarray(linear * self.factor)

    def from_si(self, value: ArrayLike) -> np.ndarray:
        """Convert ``value`` (any shape, in SI; positive for decibels) to this unit, as float64."""
        number = np.asarray(value, dtype=np.float64) / self.factor
        return np.asarray(10.0 * np.log10(number) if self.decibel else number)


def _unit(symbol: str, si: str, factor: float) -> Unit:
    return Unit(symbol=symbol, si=si, factor=factor)


def _decibel(symbol: str, si: str, zero: float) -> Unit:
    return Unit(symbol=symbol, si=si, factor=zero, decibel=True)


# Suffixes are lower case, so M and m would clash: mw is the milliwatt, mhz the megahertz and mbit
# the megabit, as radio engineers mean them; mj and mb are left out because they may be either.
SUFFIXES: Mapping[str, Unit] = {
    "w": _unit("W", "W", 1.0),
    "mw": _unit("mW", "W", 1e-3),
    "kw": _unit("kW", "W", 1e3),
    "dbm": _decibel("dBm", "W", 1e-3),
    "dbw": _decibel("dBW", "W", 1.0),
    "hz": _unit("Hz", "Hz", 1.0),
    "khz": _unit("kHz", "Hz", 1e3),
    "mhz": _unit("MHz", "Hz", 1e6),
    "ghz": _unit("GHz", "Hz", 1e9),
    "w_per_hz": _unit("W/Hz", "W/Hz", 1.0),
    "dbm_per_hz": _decibel("dBm/Hz", "W/Hz", 1e-3),
    "dbw_per_hz": _decibel("dBW/Hz", "W/Hz", 1.0),
    "db": _decibel("dB", "W/W", 1.0),
    "j": _unit("J", "J", 1.0),
    "kj": _unit("kJ", "J", 1e3),
    "wh": _unit("Wh", "J", 3.6e3),
    "kwh": _unit("kWh", "J", 3.6e6),
    "s": _unit("s", "s", 1.0),
    "ms": _unit("ms", "s", 1e-3),
    "min": _unit("min", "s", 60.0),
    "minutes": _unit("min", "s", 60.0),
    "h": _unit("h", "s", 3.6e3),
    "hours": _unit("h", "s", 3.6e3),
    "bit": _unit("bit", "bit", 1.0),
    "kbit": _unit("kbit", "bit", 1e3),
    "mbit": _unit("Mbit", "bit", 1e6),
    "gbit": _unit("Gbit", "bit", 1e9),
    "kbyte": _unit("kB", "bit", 8e3),
    "mbyte": _unit("MB", "bit", 8e6),
    "gbyte": _unit("GB", "bit", 8e9),
    "kcycle": _unit("kcycle", "cycle", 1e3),
    "mcycle": _unit("Mcycle", "cycle", 1e6),
    "gcycle": _unit("Gcycle", "cycle", 1e9),
}
"""Key suffix -> unit; ``max_power_dbm`` is the field ``max_power`` in ``SUFFIXES["dbm"]``."""


def suffixes_of(si: str) -> tuple[str, ...]:
    """The key suffixes that a field with SI unit ``si`` accepts."""
    return tuple(suffix for suffix, unit in SUFFIXES.items() if unit.si == si)


def split_suffix(key: str) -> tuple[tuple[str, str], ...]:
    """Every reading of ``key`` as (stem, suffix), longest suffix first."""
    found = [suffix for suffix in SUFFIXES if key.endswith(f"_{suffix}")]
    found.sort(key=len, reverse=True)
    return tuple((key[: -len(suffix) - 1], suffix) for suffix in found)
