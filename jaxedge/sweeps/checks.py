"""A sweep is checked whole before anything runs."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxedge.sweeps.axes import Axis
from jaxedge.sweeps.axis_checks import check_axis
from jaxedge.sweeps.generation import scenarios, settings_at
from jaxedge.sweeps.outputs import output_named
from jaxedge.sweeps.sweep import STATISTICS, Sweep
from jaxedge.validation import validate, validate_batch

_MOST_LOOKED_AT = 100_000
_RESERVED = ("device", "scheme", "quantile")
_MOST_DRAWS = 2**32


def checked(sweep: Sweep) -> Sweep:
    """The sweep, valid and with its scenario normalised.

    Raises:
        ValueError: naming the axis, field or option, its value, its unit and what is accepted.
    """
    if not isinstance(sweep, Sweep):
        raise ValueError(f"expected a Sweep, got {type(sweep).__name__}")
    sweep = dataclasses.replace(
        sweep, scenario=validate(sweep.scenario), axes=tuple(sweep.dimensions)
    )
    if not sweep.dimensions:
        raise ValueError("axes: there are none: give at least one")
    for axis in sweep.dimensions:
        check_axis(axis)
    _check_names(sweep.dimensions)
    _check_options(sweep)
    _check_choices(sweep)
    _check_corners(sweep)
    return sweep


def _check_names(axes: Iterable[Axis]) -> None:
    names = [axis.name for axis in axes]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two axes are named {name!r}: give one another name")
        if name in _RESERVED or name.startswith(".") or not name or set(name) & set("/ \0"):
            raise ValueError(
                f"axis name {name!r:.60}: must not be empty, hold blanks or slashes, or be one of "
                f"{', '.join(_RESERVED)}"
            )
    paths = [setting.target[0].path for axis in axes for setting in axis.settings]
    for path in paths:
        if paths.count(path) > 1:
            raise ValueError(f"{path} is set twice by the axes: keep one")


def _check_options(sweep: Sweep) -> None:
    from jaxedge.planning import check_options

    check_options(
        sweep.scenario,
        bound=sweep.bound,
        solver=sweep.solver,
        relaxed=sweep.relaxed,
        gap=sweep.gap,
    )
    _whole("seed", sweep.seed, 0, 2**31 - 1)
    _whole("block", sweep.block, 1, 2**24)


def _whole(name: str, value: Any, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name} = {value!r:.40}: must be a whole number from {least} to {most}")


def _check_choices(sweep: Sweep) -> None:
    if isinstance(sweep.outputs, str) or not sweep.outputs:
        raise ValueError(f"outputs = {sweep.outputs!r}: must be a list of at least one name")
    named = [output_named(name) for name in sweep.outputs]
    of_bound = [item.name for item in named if item.name.startswith("elasticity_")]
    if of_bound and sweep.bound != "two-stage":
        raise ValueError(f"outputs: {of_bound[0]!r} is there for the two-stage bound only")
    for kind in sweep.statistics:
        if kind not in STATISTICS:
            near = difflib.get_close_matches(str(kind), STATISTICS, n=1, cutoff=0.0)[0]
            raise ValueError(f"statistics: {kind!r:.60} is unknown: did you mean {near!r}?")
    for share in sweep.quantiles:
        if not isinstance(share, int | float) or not 0 <= share <= 1:
            raise ValueError(f"quantiles: {share!r:.40} must be a number from 0 to 1")
    for axis in sweep.dimensions:
        if axis.random and len(axis) > _MOST_DRAWS:
            raise ValueError(f"axis {axis.name!r}: draws = {len(axis)}: at most {_MOST_DRAWS}")


def _check_corners(sweep: Sweep) -> None:
    """Relations between fields are monotone in each: they hold everywhere if in the extremes."""
    extremes = [_extremes(sweep, axis) for axis in sweep.dimensions]
    by_name = {axis.name: at for axis, at in zip(sweep.dimensions, extremes, strict=True)}
    for corner in itertools.islice(itertools.product(*extremes), 4096):
        at = dict(zip(by_name, corner, strict=True))
        row = _number(at, sweep.kept) * sweep.draws + _number(at, sweep.reduced)
        try:
            validate_batch(scenarios(sweep, np.array([row])))
        except ValueError as error:
            place = ", ".join(f"{name} {index}" for name, index in at.items())
            message = str(error).removeprefix("scenario 0: ")
            raise ValueError(f"at {place} (counted from 0): {message}") from error


def _number(at: dict[str, int], axes: tuple[Axis, ...]) -> int:
    shape = tuple(len(axis) for axis in axes)
    return int(np.ravel_multi_index([at[axis.name] for axis in axes], shape)) if axes else 0


def _extremes(sweep: Sweep, axis: Axis) -> list[int]:
    """Where the fields of an axis are least and greatest; of many draws, among the first."""
    at = np.arange(min(len(axis), _MOST_LOOKED_AT) if axis.random else len(axis))
    found = {0}
    for values in settings_at(sweep, axis, at).values():
        flat = values.reshape(len(at), -1)
        found |= {int(np.argmin(flat.min(axis=1))), int(np.argmax(flat.max(axis=1)))}
    return sorted(found)
