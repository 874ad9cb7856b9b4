"""A smooth problem in a box, as functions that JAX can differentiate: what these solvers know.

    minimise f(params, x)   subject to   r(params, x) <= 0,   lower <= x <= upper

x is any pytree of floating-point arrays. A solver sees it as one flat vector; under `jax.vmap`
over params every element is a problem of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree


def _no_residuals(params: Any, x: Any) -> Array:
    return jnp.zeros(0, jnp.result_type(*jax.tree.leaves(x)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmoothProblem:
    """Functions of (params, x); params is any pytree of numbers, x any pytree of variables."""

    objective: Callable[[Any, Any], Array]
    """() what is minimised."""
    residuals: Callable[[Any, Any], Array] = _no_residuals
    """(m,) at most 0 where the limits are kept; best near 1 where a limit is missed by its size."""
    limits: Callable[[Any], tuple[Any, Any]] | None = None
    """params -> (lower, upper), pytrees like x or prefixes of scalars; entries may be infinite."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class SmoothAnswer:
    """The last point of a solver, with what tells how good it is."""

    x: Any
    """The point; it keeps its box exactly."""
    objective: Array
    """()"""
    multipliers: Array
    """(m,) of the residuals, >= 0."""
    violation: Array
    """() the largest residual, at least 0."""
    stationarity: Array
    """() largest entry of x - P(x - gradient of the Lagrangian), with P the projection on the box:
    0 at a stationary point."""
    converged: Array
    """() bool: within the solver's tolerances; never where something is not a number."""
    steps: Array
    """() evaluations of the objective and its gradient."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlatProblem:
    """A problem at given params, over one flat vector (n,)."""

    objective: Callable[[Array], Array]
    residuals: Callable[[Array], Array]
    lower: Array
    upper: Array
    start: Array
    """Inside the box."""
    unravel: Callable[[Array], Any]


def flatten(problem: SmoothProblem, params: Any, start: Any) -> FlatProblem:
    """The problem at ``params`` over one flat vector, with ``start`` moved into the box.

    Raises:
        ValueError: where a variable is no floating-point number, or the limits do not fit x.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(start):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            name = jax.tree_util.keystr(path) or "x"
            raise ValueError(f"start: {name} is {jnp.result_type(leaf)}, but must be floating")
    flat, unravel = ravel_pytree(start)
    sides = problem.limits(params) if problem.limits else (-jnp.inf, jnp.inf)
    lower, upper = (_like(start, side, flat.dtype) for side in sides)
    return FlatProblem(
        objective=lambda z: problem.objective(params, unravel(z)),
        residuals=lambda z: problem.residuals(params, unravel(z)),
        lower=lower,
        upper=upper,
        start=jnp.clip(flat, lower, upper),
        unravel=unravel,
    )


def _like(x: Any, limits: Any, dtype: Any) -> Array:
    """Limits as a flat vector: a scalar serves a whole array or subtree."""
    try:
        full = jax.tree.map(
            lambda limit, part: jax.tree.map(
                lambda leaf: jnp.broadcast_to(jnp.asarray(limit, dtype), jnp.shape(leaf)), part
            ),
            limits,
            x,
        )
    except (ValueError, TypeError) as error:
        raise ValueError(f"limits: they do not fit the variables x: {error}") from error
    flat: Array = ravel_pytree(full)[0]
    return flat


def stationarity(x: Array, gradient: Array, lower: Array, upper: Array) -> Array:
    """() largest entry of x - P(x - gradient), with P the projection on the box."""
    return jnp.max(jnp.abs(x - jnp.clip(x - gradient, lower, upper)), initial=0.0)
