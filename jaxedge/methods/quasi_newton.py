"""Limited-memory BFGS with a diagonal start, on the variables that a box leaves free.

The two-loop recursion (Nocedal and Wright, Numerical Optimization, algorithm 7.4) on pairs of
steps s and changes of the gradient y, cut to the free variables (two-metric projection, Bertsekas,
SIAM J. Control Optim. 20 (1982) 221-246). It starts from a diagonal B that learns the scale of
each variable from the same pairs (Gilbert and Lemarechal, Math. Program. 45 (1989) 407-435)::

    B <- g B + y y/(s·y) - g (B s)(B s)/(s·B s),     g = (y·y/B)/(s·y)

Optax's own has one scale for all variables, keeps the fixed ones in, and cannot be told that the
function has changed while its curvature has not.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

MEMORY = 6
"""Pairs that are kept."""
_LEAST_CURVATURE = 1e-10
"""Of s·y over |s||y|: a pair with less is left out."""
_RANGE = 1e-12
"""Least entry of the diagonal over the greatest."""


class Pairs(NamedTuple):
    """The last steps and changes of the gradient, each (MEMORY, n), newest last; zero if none."""

    steps: Array
    changes: Array
    diagonal: Array
    """(n,) B; 0 before the first pair."""


def no_pairs(x: Array) -> Pairs:
    """An empty memory for a vector (n,)."""
    empty = jnp.zeros((MEMORY, *x.shape), x.dtype)
    return Pairs(empty, empty, jnp.zeros_like(x))


def remember(pairs: Pairs, step: Array, change: Array) -> Pairs:
    """The memory with one more pair."""
    return Pairs(
        jnp.concatenate([pairs.steps[1:], step[None]]),
        jnp.concatenate([pairs.changes[1:], change[None]]),
        learned_diagonal(pairs.diagonal, step, change),
    )


def learned_diagonal(diagonal: Array, step: Array, change: Array) -> Array:
    """(n,) B with one more pair, as it was where the pair's curvature is not positive."""
    change = jnp.where(step == 0, 0.0, change)
    curvature = jnp.sum(step * change)
    squares = jnp.sum(change**2)
    curved = curvature > _LEAST_CURVATURE * jnp.sqrt(jnp.sum(step**2) * squares)
    safe = jnp.where(curved, curvature, 1.0)
    plain = jnp.full_like(diagonal, squares / safe)
    b = jnp.where(jnp.any(diagonal > 0), diagonal, jnp.where(curved, plain, 1.0))
    scale = jnp.sum(change**2 / b) / safe
    lost = (b * step) ** 2 / jnp.where(curved, jnp.sum(b * step**2), 1.0)
    new = scale * b + change**2 / safe - scale * lost
    new = jnp.where(curved, new, diagonal)
    return jnp.maximum(new, _RANGE * jnp.max(new))


def newton_step(pairs: Pairs, gradient: Array, free: Array) -> Array:
    """(n,) minus the approximate inverse Hessian times the gradient on the free variables.

    Args:
        pairs: memory.
        gradient: (n,).
        free: (n,) bool; the others do not move.
    """
    s, y = jnp.where(free[None], pairs.steps, 0.0), jnp.where(free[None], pairs.changes, 0.0)
    curvature = jnp.sum(s * y, axis=1)
    least = _LEAST_CURVATURE * jnp.sqrt(jnp.sum(s * s, axis=1) * jnp.sum(y * y, axis=1))
    used = curvature > least
    weight = jnp.where(used, 1 / jnp.where(used, curvature, 1.0), 0.0)
    first = jnp.maximum(1.0, jnp.sqrt(jnp.sum(gradient**2)))
    known = jnp.max(pairs.diagonal) > 0
    diagonal = jnp.where(known, pairs.diagonal, first)
    q = jnp.where(free, gradient, 0.0)
    shares: list[Array] = []
    for i in reversed(range(MEMORY)):
        shares.append(weight[i] * jnp.sum(s[i] * q))
        q = q - shares[-1] * y[i]
    q = q / diagonal
    for i in range(MEMORY):
        q = q + (shares[MEMORY - 1 - i] - weight[i] * jnp.sum(y[i] * q)) * s[i]
    return -q
