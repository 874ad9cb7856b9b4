"""A sweep is checked whole before anything runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from jaxedge.bounds.registry import differentiable_bound
from jaxedge.scenario.validation import RELATIONS, validate, validate_batch
from jaxedge.sweeps.axes import Axis
from jaxedge.sweeps.axis_checks import check_axis
from jaxedge.sweeps.generation import scenarios, settings_at
from jaxedge.sweeps.outputs import output_named
from jaxedge.sweeps.sweep import STATISTICS, Sweep, plain
from jaxedge.words.choices import check_whole, choice

_MOST_DRAWS_LOOKED_AT = 100_000
_RESERVED = ("device", "scheme", "quantile")
_MOST_DRAWS = 2**32
_PLAIN = ("outputs", "statistics", "quantiles", "gap", "seed", "block")
"""Options that may be NumPy's."""


def check_sweep(sweep: Sweep) -> Sweep:
    """The sweep, valid and with its scenario normalised.

    Raises:
        ValueError: naming the axis, field or option, its value, its unit and what is accepted.
    """
    if not isinstance(sweep, Sweep):
        raise ValueError(f"expected a Sweep, got {type(sweep).__name__}")
    options = {name: plain(getattr(sweep, name)) for name in _PLAIN}
    sweep = dataclasses.replace(
        sweep, scenario=validate(sweep.scenario), axes=tuple(sweep.dimensions), **options
    )
    if not sweep.dimensions:
        raise ValueError("axes: there are none: give at least one")
    for axis in sweep.dimensions:
        check_axis(axis)
    _check_names(sweep.dimensions)
    _check_options(sweep)
    _check_choices(sweep)
    _check_relations(sweep)
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
    from jaxedge.planning.question import check_options

    check_options(
        sweep.scenario,
        bound=sweep.bound,
        solver=sweep.solver,
        relaxed=sweep.relaxed,
        gap=sweep.gap,
    )
    check_whole("seed", sweep.seed, 0, 2**31 - 1)
    check_whole("block", sweep.block, 1, 2**24)


def _check_choices(sweep: Sweep) -> None:
    if isinstance(sweep.outputs, str) or not sweep.outputs:
        raise ValueError(f"outputs = {sweep.outputs!r}: must be a list of at least one name")
    named = [output_named(name) for name in sweep.outputs]
    of_bound = [item.name for item in named if item.name.startswith("elasticity_")]
    if of_bound:
        differentiable_bound(sweep.bound)
    for kind in sweep.statistics:
        choice("statistic", kind, STATISTICS)
    for share in sweep.quantiles:
        if not isinstance(share, int | float) or not 0 <= share <= 1:
            raise ValueError(f"quantiles: {share!r:.40} must be a number from 0 to 1")
    for axis in sweep.dimensions:
        if axis.random and len(axis) > _MOST_DRAWS:
            raise ValueError(f"axis {axis.name!r}: draws = {len(axis)}: at most {_MOST_DRAWS}")


def _check_relations(sweep: Sweep) -> None:
    """Check what several fields must fulfil together, wherever axes set one of them.

    Exact: of fields on one axis all positions are looked at (of draws the first 100,000), of two
    fields on two axes the ends, device by device, since what they must fulfil is monotone in each.
    """
    _check_at(sweep, {})
    for fields in RELATIONS:
        along = [axis for axis in sweep.dimensions if _set_by(axis) & set(fields)]
        if len(along) == 1:
            _check_at(sweep, {along[0].name: _looked_at(along[0])})
        elif along:
            first, second = (_ends(sweep, axis, fields) for axis in along)
            pairs = np.broadcast_arrays(first[:, None], second[None])
            places = np.unique(np.reshape(pairs, (2, -1)), axis=1)
            _check_at(sweep, {axis.name: at for axis, at in zip(along, places, strict=True)})


def _set_by(axis: Axis) -> set[str]:
    return {setting.target[0].path for setting in axis.settings}


def _looked_at(axis: Axis) -> np.ndarray:
    return np.arange(min(len(axis), _MOST_DRAWS_LOOKED_AT) if axis.random else len(axis))


def _ends(sweep: Sweep, axis: Axis, fields: tuple[str, ...]) -> np.ndarray:
    """(2, 1 or K) positions where the axis's own of the fields is least and greatest."""
    at = _looked_at(axis)
    (values,) = (x for path, x in settings_at(sweep, axis, at).items() if path in fields)
    flat = values.reshape(len(at), -1)
    return np.stack([np.argmin(flat, axis=0), np.argmax(flat, axis=0)])


def _check_at(sweep: Sweep, places: dict[str, np.ndarray]) -> None:
    """Validate the elements at positions of some axes, at the first position of the others."""
    count = len(next(iter(places.values()), "1"))
    at: dict[str, np.ndarray] = {axis.name: np.zeros(count, dtype=int) for axis in sweep.dimensions}
    at |= places
    rows = _number(at, sweep.kept) * sweep.draws + _number(at, sweep.reduced)
    for start in range(0, count, sweep.block):
        some = np.arange(start, min(start + sweep.block, count))
        error = _complaint(sweep, rows[some])
        while error is not None and len(some) > 1:  # halved until it is one
            half = some[: len(some) // 2]
            in_half = _complaint(sweep, rows[half])
            some = half if in_half else some[len(half) :]
            error = in_half or _complaint(sweep, rows[some])
        if error is not None:
            place = ", ".join(f"{name} {index[some[0]]}" for name, index in at.items())
            message = str(error).removeprefix("scenario 0: ")
            raise ValueError(f"at {place} (counted from 0): {message}") from error


def _complaint(sweep: Sweep, rows: np.ndarray) -> ValueError | None:
    try:
        validate_batch(scenarios(sweep, rows))
    except ValueError as error:
        return error
    return None


def _number(at: dict[str, np.ndarray], axes: tuple[Axis, ...]) -> np.ndarray:
    if not axes:
        return np.zeros(1, dtype=int)
    shape = tuple(len(axis) for axis in axes)
    return np.asarray(np.ravel_multi_index([at[axis.name] for axis in axes], shape))
