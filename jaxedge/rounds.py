"""The best mix of rounds once a round of either stage has a known cost: a linear program.

With the uses of a round fixed, minimising over convex combinations z of the program's rays is a
linear program with two constraints (energy and delay), so an optimum mixes at most three rays.
All mixes that can be basic solutions are enumerated.
"""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np
from jax import Array

_ALONE = np.arange(4)[:, None]
_PAIRS = np.array(list(itertools.combinations(range(4), 2)))
_TRIPLES = np.array(list(itertools.combinations(range(4), 3)))


def _scatter(weights: Array, places: np.ndarray) -> Array:
    """(n, 4) mixes from (n, m) weights at the given (n, m) rays."""
    batch = (1,) * (weights.ndim - 2)
    one_hot = jnp.asarray(np.eye(4)[places], weights.dtype)
    return jnp.sum(weights[:, :, None] * one_hot.reshape(*one_hot.shape, *batch), axis=1)


def _pair_mixes(excess: Array) -> Array:
    """(6, 4) mixes of two rays in which ``excess`` (4,) balances."""
    first, second = excess[_PAIRS[:, 0]], excess[_PAIRS[:, 1]]
    share = second / (second - first)
    return _scatter(jnp.stack([share, 1 - share], axis=1), _PAIRS)


def _triple_mixes(energy: Array, delay: Array) -> Array:
    """(4, 4) mixes of three rays in which both excesses balance."""
    e, d = energy[_TRIPLES], delay[_TRIPLES]
    minors = jnp.cross(e, d, axis=1)
    return _scatter(minors / jnp.sum(minors, axis=1, keepdims=True), _TRIPLES)


def best_mix(value: Array, energy: Array, delay: Array) -> tuple[Array, Array]:
    """Weights z (4,) >= 0 summing to 1 that minimise z·value with z·energy <= 0 and z·delay <= 0.

    Args:
        value: (4,) objective on the rays.
        energy: (4,) energy spent beyond the budget on each ray.
        delay: (4,) delay beyond the budget on each ray.

    Returns:
        The weights, and whether a feasible mix exists.
    """
    mixes = jnp.concatenate(
        [
            _scatter(jnp.ones_like(value)[:, None], _ALONE),
            _pair_mixes(energy),
            _pair_mixes(delay),
            _triple_mixes(energy, delay),
        ]
    )
    tolerance = 64 * jnp.finfo(value.dtype).eps

    def fits(excess: Array) -> Array:
        sizes = jnp.abs(mixes) * jnp.abs(excess)[None]
        return jnp.sum(mixes * excess[None], axis=1) <= tolerance * jnp.sum(sizes, axis=1)

    feasible = fits(energy) & fits(delay) & jnp.all(mixes >= 0, axis=1)
    values = jnp.where(feasible, jnp.sum(mixes * value[None], axis=1), jnp.inf)
    best = jnp.argmin(values, axis=0)
    chosen = jnp.take_along_axis(mixes, best[None, None], axis=0)[0]
    return chosen, jnp.isfinite(jnp.min(values, axis=0))
