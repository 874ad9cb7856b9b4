"""The scenarios of a sweep by their number: a draw is the same whatever is drawn beside it."""

from __future__ import annotations

import dataclasses
import zlib
from typing import Any

import jax
import numpy as np

from jaxedge.scenario.sampling import cell_gains, normal, plausible_gain, uniforms
from jaxedge.scenario.scenario import Scenario
from jaxedge.sweeps.axes import Axis, Channel, Setting
from jaxedge.sweeps.sweep import Sweep

_CELL = 5  # uniform numbers of a device that `cell_gains` takes


def scenarios(sweep: Sweep, rows: np.ndarray) -> Scenario:
    """The scenarios at ``rows`` (n,), stacked; fields that no axis sets keep their shape.

    Row = cell * draws + draw, where cells count the kept axes and draws the reduced ones, the last
    axis fastest. All cells see the same draws.
    """
    cell, draw = np.divmod(rows, sweep.draws)
    position: dict[str, np.ndarray] = {}
    for index, axes in ((cell, sweep.kept), (draw, sweep.reduced)):
        if axes:
            each = np.unravel_index(index, tuple(len(axis) for axis in axes))
            position |= {axis.name: at for axis, at in zip(axes, each, strict=True)}
    changed: dict[str, np.ndarray] = {}
    for axis in sweep.dimensions:
        changed |= settings_at(sweep, axis, position[axis.name])
    for axis in sweep.dimensions:
        if axis.channel is not None:
            changed |= _channels(sweep, axis, axis.channel, position[axis.name], changed)
    return _replaced(sweep.scenario, changed, len(rows))


def settings_at(sweep: Sweep, axis: Axis, at: np.ndarray) -> dict[str, np.ndarray]:
    """Path -> SI values of the fields of an axis at its positions ``at`` (n,)."""
    return {
        setting.target[0].path: setting.to_si(numbers_at(sweep, axis, setting, at))
        for setting in axis.settings
    }


def numbers_at(sweep: Sweep, axis: Axis, setting: Setting, at: np.ndarray) -> np.ndarray:
    """Values of one field in its key's unit, (n,) or for a device field (n, 1) or (n, K)."""
    per_device = setting.target[0].per_device
    if not setting.random:
        given = setting.grid[at]
        return given[:, None] if per_device and given.ndim == 1 else given
    width = sweep.num_devices if per_device else 1
    drawn = _uniforms(sweep, f"{axis.name}/{setting.target[0].path}", at, 2 * width)
    numbers = _quantile(setting, drawn[:, :width], drawn[:, width:])
    return numbers if per_device else numbers[:, 0]


def _quantile(setting: Setting, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    one, two = (float(number) for number in setting.numbers)
    if setting.law == "uniform":
        return one + (two - one) * first
    if setting.law == "log_uniform":
        return np.asarray(one * (two / one) ** first)
    standard = normal(first, second)
    if setting.law == "normal":
        return one + two * standard
    return np.asarray(one * np.exp(two * standard))


def _uniforms(sweep: Sweep, label: str, at: np.ndarray, count: int) -> np.ndarray:
    """Uniform numbers (n, count) of the draws ``at``, from a counter-based generator."""
    stream = jax.random.fold_in(jax.random.key(sweep.seed), zlib.crc32(label.encode()))
    unique, back = np.unique(at, return_inverse=True)
    # Padded to a multiple, so that few shapes are compiled.
    length = -(-len(unique) // _MULTIPLE) * _MULTIPLE
    padded = np.concatenate([unique, np.full(length - len(unique), unique[0])])
    return uniforms(_keys(stream, padded.astype(np.uint32)), count)[back]


_MULTIPLE = 256
_keys = jax.jit(jax.vmap(jax.random.fold_in, in_axes=(None, 0)))


def _channels(
    sweep: Sweep, axis: Axis, channel: Channel, at: np.ndarray, changed: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    devices: Any = sweep.scenario.devices
    count = sweep.num_devices
    drawn = _uniforms(sweep, f"{axis.name}/{channel.kind}", at, _CELL * count)
    each = iter(np.moveaxis(drawn.reshape(-1, _CELL, count), 1, 0))
    if channel.kind == "positions":
        up, down = cell_gains(each, channel.radius_km, channel.shadowing_db)
    else:
        gain = changed.get("devices.gain", np.asarray(devices.gain))
        default = gain if devices.downlink_gain is None else np.asarray(devices.downlink_gain)
        both = (gain, changed.get("devices.downlink_gain", default))
        if channel.kind == "rayleigh":
            factors = [-np.log(next(each)) for _ in range(2)]
        else:
            factors = [10.0 ** (channel.shadowing_db * normal(next(each), next(each)) / 10.0)] * 2
        up, down = (plausible_gain(one * by) for one, by in zip(both, factors, strict=True))
    return {"devices.gain": up, "devices.downlink_gain": down}


def _replaced(scenario: Scenario, changed: dict[str, np.ndarray], count: int) -> Scenario:
    """The scenario with fields replaced; one has a leading axis, to which validation broadcasts."""
    budget = np.broadcast_to(np.asarray(scenario.energy_budget), (count,))
    changed = {"energy_budget": budget, **changed}
    top: dict[str, Any] = {path: value for path, value in changed.items() if "." not in path}
    for section in ("learning", "server", "devices"):
        own = {
            path.partition(".")[2]: x
            for path, x in changed.items()
            if path.startswith(f"{section}.")
        }
        top[section] = dataclasses.replace(getattr(scenario, section), **own)
    return dataclasses.replace(scenario, **top)
