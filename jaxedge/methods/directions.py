"""Directions of descent by name: limited-memory BFGS, the plain gradient, Optax's optimisers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxedge.methods.quasi_newton import Pairs, learned_diagonal, newton_step, no_pairs, remember
from jaxedge.words.choices import choice


class Direction(NamedTuple):
    """How moves are proposed: a memory, a proposal, and the length to try first."""

    init: Callable[[Array], Any]
    """x (n,) -> memory."""
    propose: Callable[[Any, Array, Array, Array, Array, Array], tuple[Array, Any]]
    """(memory, x, last step, change of the gradient, gradient, free) -> (move (n,), memory); step
    and change are 0 where the function is another one than before."""
    next_length: Callable[[Array], Array]
    """Accepted length of the last step -> the first to be tried in the next."""


def _propose_newton(
    pairs: Pairs, x: Array, step: Array, change: Array, gradient: Array, free: Array
) -> tuple[Array, Pairs]:
    del x
    longer = remember(pairs, step, change)
    new = jnp.any(step != 0)
    pairs = jax.tree.map(lambda a, b: jnp.where(new, a, b), longer, pairs)
    return newton_step(pairs, gradient, free), pairs


def _propose_steepest(
    memory: None, x: Array, step: Array, change: Array, gradient: Array, free: Array
) -> tuple[Array, None]:
    del x, step, change
    return -jnp.where(free, gradient, 0.0), memory


class _Optax(NamedTuple):
    """An Optax optimiser's state in variables scaled to curvature 1, as far as that is known."""

    state: Any
    curvature: Array
    """(n,) diagonal learned from all pairs; 0 before the first."""
    scale: Array
    """(n,) of the variables that the optimiser sees; fixed while its state lives."""


def _of_optax(name: str) -> Direction:
    """The moves of an Optax optimiser, which sees the gradient of the free variables.

    It cannot be told that the function has changed: its L-BFGS takes the difference of two
    functions' gradients for curvature at a step of 0, and answers with moves of 0. So its state
    begins anew there, and where the curvature is not positive; what survives is the scale of each
    variable, without which the one scale that it knows fits none.
    """
    import optax  # type: ignore[import-untyped]

    transformation = {"adam": optax.scale_by_adam, "lbfgs": optax.scale_by_lbfgs}[name]()

    def init(x: Array) -> _Optax:
        return _Optax(transformation.init(x), jnp.zeros_like(x), jnp.ones_like(x))

    def propose(
        memory: _Optax, x: Array, step: Array, change: Array, gradient: Array, free: Array
    ) -> tuple[Array, _Optax]:
        bent = jnp.sum(jnp.where(free, step * change, 0.0)) > 0
        anew = ~bent if name == "lbfgs" else jnp.all(step == 0)
        curvature = learned_diagonal(memory.curvature, step, change)
        curvature = jnp.where(jnp.any(step != 0), curvature, memory.curvature)
        known = anew & jnp.any(curvature > 0)
        scale = jnp.where(known, jnp.sqrt(curvature), memory.scale)
        blank = transformation.init(x)
        state = jax.tree.map(lambda new, old: jnp.where(anew, new, old), blank, memory.state)
        seen = jnp.where(free, gradient, 0.0) / scale
        # Optax multiplies by Python and integer scalars, which strict promotion refuses.
        with jax.numpy_dtype_promotion("standard"):
            scaled, state = transformation.update(seen, state, x * scale)
        return -scaled / scale, _Optax(state, curvature, scale)

    return Direction(init, propose, _full if name == "lbfgs" else _longer)


def _full(length: Array) -> Array:
    return jnp.ones_like(length)


def _longer(length: Array) -> Array:
    return 2 * length


NAMES = ("quasi-newton", "gradient", "lbfgs", "adam")
"""What `direction_named` knows; the last two are Optax's."""


def direction_named(name: str) -> Direction:
    """Return the direction of that name.

    Raises:
        ValueError: naming the nearest, where there is none of that name.
    """
    if choice("direction", name, NAMES) == "quasi-newton":
        return Direction(no_pairs, _propose_newton, _full)
    if name == "gradient":
        return Direction(lambda x: None, _propose_steepest, _longer)
    return _of_optax(name)
