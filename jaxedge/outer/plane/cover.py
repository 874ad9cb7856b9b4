"""Boxes that cover the plane of rounds, bounded at given prices, the least bounds split on."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxedge.bounds.modes import Modes
from jaxedge.outer.plane.bounds import box_bounds
from jaxedge.outer.plane.rounds import plane_of
from jaxedge.program.program import Program
from jaxedge.program.responses import Prices

_NODES = 16
"""Boxes on either side of a local optimum, in each direction."""
_FINEST = 0.02
"""Width of the least boxes, relative to the rounds."""
_KEPT = 512
"""Boxes that are kept."""
_SPLITS, _PIECES = 16, 4
"""Boxes that are split at a time, and into how many in each direction."""


def nodes_around(centre: Array, low: Array, high: Array) -> Array:
    """Rounds from ``low`` to ``high`` that lie closest around the centre, and close at the low."""
    # Rounds that are given have a span of nothing.
    finest = _FINEST * jnp.maximum(jnp.maximum(centre, 0.02 * high), 1e-9)

    def side(length: Array, finest: Array, count: int) -> Array:
        # finest n sinh(k)/k = length, by fixed-point steps; k = 0 where even spacing does.
        ratio = jnp.maximum(length / (finest * count), 1 + 1e-6)
        k = jnp.full_like(length, 5.0)
        for _ in range(30):
            k = jnp.arcsinh(k * ratio)
        steps = jnp.arange(1, count + 1) / count
        return length * jnp.sinh(k * steps) / jnp.sinh(k)

    half = (centre - low) / 2
    down = centre - side(half, finest, _NODES // 2)[::-1]
    begin = low + side(half, jnp.minimum(finest, 1.0), _NODES // 2)[:-1]
    up = centre + side(high - centre, finest, _NODES)
    nodes = jnp.concatenate([low[None], begin, down, centre[None], up])
    return jnp.clip(nodes, low, high).at[0].set(low).at[-1].set(high)


class Boxes(NamedTuple):
    """Boxes that cover the plane of rounds, the least bounds first kept."""

    low: Array
    """(n, 2) M and N."""
    high: Array
    """(n, 2)"""
    bound: Array
    """(n,)"""
    rest: Array
    """() no box that was dropped has a lower bound."""

    @property
    def least(self) -> Array:
        """() over the whole plane."""
        return jnp.minimum(jnp.min(self.bound), self.rest)


def _gridded(
    program: Program, modes: Modes, prices: Prices, first: Array, second: Array, integer: bool
) -> tuple[Array, Array, Array]:
    """Low ends (n, 2), high ends and bounds of all boxes of a grid."""
    _, bounds = box_bounds(program, modes, prices, first, second, integer=integer)
    shape = bounds.shape

    def ends(m: Array, n: Array) -> Array:
        pair = jnp.broadcast_to(m[:, None], shape), jnp.broadcast_to(n[None], shape)
        return jnp.stack([x.ravel() for x in pair], axis=-1)

    low, high = ends(first[:-1], second[:-1]), ends(first[1:], second[1:])
    bounds = bounds.ravel()
    if integer:
        bounds = jnp.where(jnp.all(jnp.ceil(low) <= jnp.floor(high), axis=1), bounds, jnp.inf)
    return low, high, bounds


def cover(
    program: Program, modes: Modes, prices: Prices, rounds: Array, *, integer: bool = False
) -> Boxes:
    """Bounded boxes over the whole plane, finest around a local optimum.

    Args:
        program: scalar, in units of the loss.
        modes: of the loss.
        prices: any >= 0.
        rounds: (2,) where the boxes are finest.
        integer: restrict batches to whole numbers, and rounds where a box holds no whole ones.
    """
    plane = plane_of(program)
    grid = (
        nodes_around(rounds[0], plane.low[0], plane.high[0]),
        nodes_around(rounds[1], plane.low[1], plane.high[1]),
    )
    return _kept(*_gridded(program, modes, prices, *grid, integer), jnp.asarray(jnp.inf))


def _kept(low: Array, high: Array, bound: Array, rest: Array) -> Boxes:
    bound = jnp.where(jnp.isnan(bound), -jnp.inf, bound)
    order = jnp.argsort(bound)
    kept, dropped = order[:_KEPT], order[_KEPT:]
    least = jnp.min(bound[dropped], initial=jnp.inf)
    return Boxes(low[kept], high[kept], bound[kept], jnp.minimum(rest, least))


def refined(
    program: Program, modes: Modes, prices: Prices, boxes: Boxes, *, integer: bool = False
) -> Boxes:
    """The cover with its boxes of least bounds split."""
    share = jnp.linspace(0.0, 1.0, _PIECES + 1)

    def split(low: Array, high: Array, bound: Array) -> tuple[Array, Array, Array]:
        first, second = (low[i] + share * (high[i] - low[i]) for i in range(2))
        lows, highs, bounds = _gridded(program, modes, prices, first, second, integer)
        return lows, highs, jnp.maximum(bounds, bound)

    lows, highs, bounds = jax.vmap(split)(*(x[:_SPLITS] for x in boxes[:3]))
    return _kept(
        jnp.concatenate([boxes.low[_SPLITS:], lows.reshape(-1, 2)]),
        jnp.concatenate([boxes.high[_SPLITS:], highs.reshape(-1, 2)]),
        jnp.concatenate([boxes.bound[_SPLITS:], bounds.ravel()]),
        boxes.rest,
    )
