"""Checks of one axis by itself, before anything runs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from jaxedge.scenario.field_checks import check_domain
from jaxedge.sweeps.axes import CHANNELS, LAWS, Axis, Channel, Setting
from jaxedge.words.choices import unknown

MOST, MOST_ON_GRID = 10**12, 10**7
"""Longer axes are taken for a mistake; the values of a grid are held in memory."""


def check_axis(axis: Axis) -> None:
    """Check an axis by itself: lengths, numbers, and values against their fields' domains.

    Raises:
        ValueError: naming the axis, the field, the value, its unit and what would be accepted.
    """
    if not axis.settings and axis.channel is None:
        raise ValueError(f"axis {axis.name!r} sets no field: give it one")
    for setting in axis.settings:
        _check_setting(axis, setting)
    if axis.random:
        _check_count(f"axis {axis.name!r}: draws", axis.draws)
    else:
        _check_lengths(axis)
    if axis.channel is not None:
        _check_channel(axis.name, axis.channel)
    if axis.reduce and not axis.random:
        raise ValueError(f"axis {axis.name!r}: only an axis of random draws can be reduced")


def _check_lengths(axis: Axis) -> None:
    lengths = {setting.key: len(setting.grid) for setting in axis.settings}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        raise ValueError(
            f"axis {axis.name!r} cannot be zipped: {listed} values; give equally many, "
            "or separate axes for their product"
        )


def _check_channel(name: str, channel: Channel) -> None:
    if channel.kind not in CHANNELS:
        raise ValueError(f"axis {name!r}: {unknown('channel', channel.kind, CHANNELS)}")
    if not (_finite(channel.shadowing_db) and channel.shadowing_db >= 0):
        raise ValueError(
            f"axis {name!r}: shadowing_db = {channel.shadowing_db!r} dB: must be finite and >= 0"
        )
    if not (_finite(channel.radius_km) and channel.radius_km > 0):
        raise ValueError(
            f"axis {name!r}: radius_km = {channel.radius_km!r} km: must be finite and > 0"
        )


def _check_setting(axis: Axis, setting: Setting) -> None:
    if setting.random != axis.random:
        remedy = "give its axis draws = N" if setting.random else "give the grid an axis of its own"
        raise ValueError(f"axis {axis.name!r}: {setting.key} is {setting.law}: {remedy}")
    if setting.random:
        _check_law(setting)
        return
    if setting.law != "values":
        _check_count(f"{setting.key}: {setting.law} length", setting.numbers[-1], MOST_ON_GRID)
        _check_ends(setting)
    if not len(setting.grid):
        raise ValueError(
            f"axis {axis.name!r} has length zero: give {setting.key} at least one value"
        )
    item = setting.target[0]
    if setting.grid.ndim > (2 if item.per_device else 1):
        raise ValueError(
            f"{setting.key}: each value must be one number"
            f"{' or a list of K' if item.per_device else ''}"
        )
    numbers = setting.to_si(setting.grid)
    check_domain(item, numbers if numbers.ndim == 2 or not item.per_device else numbers[:, None])


def _check_ends(setting: Setting) -> None:
    for end in setting.numbers[:2]:
        if not _finite(end) or (setting.law == "logspace" and end <= 0):
            need = "finite and > 0; use a linspace in decibels" if _finite(end) else "finite"
            raise ValueError(
                f"{setting.key}: {setting.law} from {end!r} {setting.unit} must be {need}"
            )


def _check_law(setting: Setting) -> None:
    item, unit = setting.target
    first, second = setting.numbers
    names = LAWS[setting.law]
    if not (_finite(first) and _finite(second)):
        raise ValueError(f"{setting.key}: {setting.law} needs finite {names[0]} and {names[1]}")
    if setting.law == "normal" and (unit is None or not unit.decibel):
        raise ValueError(
            f"{setting.key}: normal draws in {setting.unit} would leave the domain "
            f"({item.domain}): give the key in decibels, or log_normal"
        )
    if setting.law.startswith("log") and not first > 0:
        raise ValueError(f"{setting.key}: {setting.law} {names[0]} = {first} must be > 0")
    if setting.law in ("normal", "log_normal") and second < 0:
        raise ValueError(f"{setting.key}: {setting.law} {names[1]} = {second} must be >= 0")
    if setting.law in ("uniform", "log_uniform") and second < first:
        raise ValueError(f"{setting.key}: {setting.law} high = {second} is below low = {first}")
    ends = [first, second] if setting.law in ("uniform", "log_uniform") else [first]
    for end in ends:
        check_domain(item, setting.to_si(np.full((1,) * item.per_device, float(end))))


def _check_count(name: str, count: Any, most: int = MOST) -> None:
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or not 1 <= count <= most:
        raise ValueError(f"{name} = {count!r:.40}: must be a whole number from 1 to {most:.0e}")


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
