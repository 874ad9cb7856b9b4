"""Successive convex approximation inside a two-dimensional search: the classical baseline.

A problem that is convex but for a few terms is replaced, around the current point, by a convex one
that lies above it and touches it there; its solution is the next point, and no point is worse than
the one before. Two variables that resist (here: the rounds of both stages) are searched outside,
on a grid that closes in on its best point.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxedge.methods.augmented_lagrangian import AugmentedLagrangian, solve
from jaxedge.methods.smooth_problem import SmoothAnswer, SmoothProblem

_SIDE = 5
"""Points of the grid along each axis."""
_CLOSER = 0.6
"""Factor of the grid's width from level to level: neighbours of the best point stay inside."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["levels", "approximations", "infeasibility", "inner"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvexApproximation:
    """Settings of the search and of the approximations."""

    levels: int = 16
    """Grids, each 0.6 times as wide as the one before."""
    approximations: int = 4
    """Convex problems solved one after another at each point of a grid, from the best point of the
    grid before."""
    infeasibility: float = 1e-4
    """Residual up to which a point counts as feasible."""
    inner: AugmentedLagrangian = dataclasses.field(
        default_factory=lambda: AugmentedLagrangian(
            max_move=1.0, tolerance=3e-5, feasibility=3e-5, max_steps=250
        )
    )
    """How the convex problems are solved."""


def approximate(
    surrogate: SmoothProblem, params: Any, start: Any, settings: ConvexApproximation
) -> SmoothAnswer:
    """The last of several convex problems, each around the solution of the one before.

    Args:
        surrogate: whose params are (params, point of approximation).
        params: of one problem; batching is vmap.
        start: first point of approximation.
        settings: of the method.
    """

    def follow(_: int, answer: SmoothAnswer) -> SmoothAnswer:
        return _solved(surrogate, (params, answer.x), answer.x, settings)

    first = _solved(surrogate, (params, start), start, settings)
    last: SmoothAnswer = jax.lax.fori_loop(1, settings.approximations, follow, first)
    return last


def _solved(
    surrogate: SmoothProblem, params: Any, start: Any, settings: ConvexApproximation
) -> SmoothAnswer:
    answer: SmoothAnswer = solve(surrogate, params, start, settings.inner)
    return answer


def search(
    value: Callable[[Array, Any], tuple[Array, Any]],
    lower: Array,
    upper: Array,
    start: Any,
    levels: Any,
) -> tuple[Array, Any]:
    """Where a function of two variables is least, by grids that close in.

    Right for quasiconvex functions up to the ridges that a grid can miss; infinite values are
    infeasible points.

    Args:
        value: (point (2,), guess) -> (value (), guess); the best guess starts the next grid.
        lower: (2,).
        upper: (2,).
        start: first guess.
        levels: () number of grids.

    Returns:
        The best point (2,) met and its guess.
    """
    ticks = jnp.linspace(-1.0, 1.0, _SIDE)
    grid = jnp.stack(jnp.meshgrid(ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 2)

    def closer(level: Array, carry: tuple[Array, Array, Any]) -> tuple[Array, Array, Any]:
        center, best, guess = carry
        width = 0.5 * (upper - lower) * _CLOSER**level
        points = jnp.clip(center[None] + grid * width[None], lower[None], upper[None])
        values, guesses = jax.vmap(value, in_axes=(0, None))(points, guess)
        values = jnp.where(jnp.isnan(values), jnp.inf, values)
        i = jnp.argmin(values)
        better = values[i] < best
        # Where nothing is feasible yet, the search moves to the least corner, which asks least.
        center = jnp.where(better | jnp.isinf(best), points[i], center)
        guess = jax.tree.map(lambda new, old: jnp.where(better, new[i], old), guesses, guess)
        return center, jnp.minimum(values[i], best), guess

    first = (0.5 * (lower + upper), jnp.full_like(lower[0], jnp.inf), start)
    point, _, guess = jax.lax.fori_loop(0, levels, closer, first)
    return point, guess
