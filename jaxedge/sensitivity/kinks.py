"""Where the optimal bound has no derivative: both sides of every parameter, solved.

The optimum is solved again with each parameter a little less and a little more. Where what is
active differs between the three, the elasticities of the two sides are told; where they are apart,
too, it is a kink of the bound. Otherwise only the optimal design has a kink there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from jaxedge.bounds.batches import programs_of_each
from jaxedge.bounds.registry import DEFAULT, differentiable_bound
from jaxedge.machine.chunks import in_chunks
from jaxedge.planning.rows import repeat
from jaxedge.scenario.fields import field_value, with_field
from jaxedge.scenario.scenario import FIELDS, Field, Scenario
from jaxedge.sensitivity.active_limits import active_limits
from jaxedge.sensitivity.gradients import gradients_of_valid, solve_for_gradients

REACH = 1e-3
"""Relative change of a parameter to either side."""
_STEPS = (-1.0, -0.5, 0.5, 1.0)
"""Of the reach."""
_LEAST = 1e-5
"""Elasticities whose sides differ by less have no kink."""
_MOST_DEVICES = 32
"""With more devices they are only moved together, unless asked for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sides:
    """One parameter: a field, for all devices at once or for one."""

    path: str
    device: int | None
    elasticity: float
    """At the scenario itself; at a kink one value between the sides, or one of them."""
    below: float
    """Elasticity at the parameter times 1 - reach; nan where nothing is certified there."""
    above: float
    """At 1 + reach."""
    changes: tuple[str, ...]
    """What is active on one side only, in words."""
    kink: bool
    """The bound has no derivative within reach."""


def both_sides(
    scenario: Scenario,
    *,
    paths: Sequence[str] | None = None,
    reach: float = REACH,
    each_device: bool | None = None,
    bound: str = DEFAULT,
) -> list[Sides]:
    """Elasticities at both sides of every parameter of one valid scenario.

    Args:
        scenario: one, as `validate` returns it.
        paths: of the fields to move; all by default.
        reach: relative change to either side.
        each_device: move the devices one by one, too; by default where K is at most 32.
        bound: as in `value_and_grad`.

    Raises:
        ValueError: for a bound whose derivatives are not known.
    """
    chosen = differentiable_bound(bound)
    count = len(np.asarray(scenario.devices.gain))
    each = count <= _MOST_DEVICES if each_device is None else each_device
    parameters = [
        (item, device)
        for item, device in _parameters(scenario, count if each else 0)
        if paths is None or item.path in paths
    ]
    moved = _moved(scenario, parameters, reach)
    with jax.enable_x64(True):
        relaxed, known = solve_for_gradients(moved, chosen)
        values, gradients = gradients_of_valid(moved, chosen, relaxed)
        active = active_limits(moved, in_chunks(programs_of_each(chosen), moved), relaxed)
    known &= _box_is_open(moved)
    found = []
    for i, (item, device) in enumerate(parameters):
        rows = np.array([0, *range(1 + 4 * i, 5 + 4 * i)])
        gradient, value = field_value(gradients, item), field_value(moved, item)
        product = np.asarray(gradient)[rows] * np.asarray(value)[rows]
        if item.per_device:
            product = product.sum(axis=-1) if device is None else product[:, device]
        slopes = np.where(known[rows], product / values[rows], np.nan)
        changes = tuple(_changes({words: x[rows] for words, x in active.items()}))
        here, below, _, _, above = map(float, slopes)
        found.append(
            Sides(
                path=item.path,
                device=device,
                elasticity=here,
                below=below,
                above=above,
                changes=changes,
                kink=_is_kink(slopes, bool(changes), reach),
            )
        )
    return found


def _moved(
    scenario: Scenario, parameters: Sequence[tuple[Field, int | None]], reach: float
) -> Scenario:
    """The scenario, then four of each parameter, by `_STEPS` of the reach."""
    moved = repeat(scenario, 1 + 4 * len(parameters))
    for i, (item, device) in enumerate(parameters):
        value = np.array(field_value(moved, item))
        for row, step in enumerate(_STEPS, 1 + 4 * i):
            value[(row, ...) if device is None else (row, device)] *= 1 + step * reach
        moved = with_field(moved, item, value)
    return moved


def _parameters(scenario: Scenario, count: int) -> Iterator[tuple[Field, int | None]]:
    for item in FIELDS:
        if field_value(scenario, item) is not None:
            yield item, None
            for device in range(count if item.per_device and count > 1 else 0):
                yield item, device


def _box_is_open(moved: Scenario) -> np.ndarray:
    """(B,) where no least batch was moved past the greatest."""
    server, devices = moved.server, moved.devices
    crossed = np.any(np.asarray(devices.min_batch) > devices.max_batch, axis=-1)
    return ~(crossed | (np.asarray(server.min_batch) > server.max_batch))


def _changes(active: dict[str, np.ndarray]) -> Iterator[str]:
    """What is not the same in all rows, devices by index."""
    for words, rows in active.items():
        differs = np.any(rows != rows[:1], axis=0)
        if rows.ndim == 1 and differs:
            yield words
        elif rows.ndim > 1:
            owner, _, limit = words.partition(": ")
            for device in np.flatnonzero(differs):
                yield f"{owner.removesuffix('s')} {device}: {limit}"


def _is_kink(slopes: np.ndarray, changed: bool, reach: float) -> bool:
    if np.isnan(slopes[0]):
        return False
    if np.isnan(slopes).any():
        return True
    # Extrapolated to the parameter itself from both sides: a smooth slope leaves nothing.
    apart = abs(2 * slopes[2] - slopes[1] - (2 * slopes[3] - slopes[4]))
    return changed and bool(apart > reach * np.abs(slopes[1:]).max() + _LEAST)
