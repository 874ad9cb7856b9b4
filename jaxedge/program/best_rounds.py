"""The best mix of rounds once a round of either stage has a known cost: a linear program.

With the uses of a round fixed, minimising over convex combinations z of the program's rays is a
linear program with two constraints (energy and delay), so an optimum mixes at most three rays.
All mixes that can be basic solutions are enumerated.
"""

from __future__ import annotations

import itertools

import jax.numpy as jnp
from jax import Array

_PAIRS = tuple(itertools.combinations(range(4), 2))
_TRIPLES = tuple(itertools.combinations(range(4), 3))


def _placed(weights: tuple[Array, ...], rays: tuple[int, ...]) -> list[Array]:
    """Weights of all four rays, zero but for the given ones."""
    zero = jnp.zeros_like(weights[0])
    return [weights[rays.index(i)] if i in rays else zero for i in range(4)]


def _pair_mix(excess: Array, rays: tuple[int, int]) -> list[Array]:
    """The mix of two rays in which ``excess`` (4,) balances."""
    first, second = excess[rays[0]], excess[rays[1]]
    share = second / (second - first)
    return _placed((share, 1 - share), rays)


def _triple_mix(energy: Array, delay: Array, rays: tuple[int, int, int]) -> list[Array]:
    """The mix of three rays in which both excesses balance."""
    a, b, c = rays
    minors = (
        energy[b] * delay[c] - energy[c] * delay[b],
        energy[c] * delay[a] - energy[a] * delay[c],
        energy[a] * delay[b] - energy[b] * delay[a],
    )
    total = minors[0] + minors[1] + minors[2]
    return _placed((minors[0] / total, minors[1] / total, minors[2] / total), rays)


def best_mix(value: Array, energy: Array, delay: Array) -> tuple[Array, Array]:
    """Weights z (4,) >= 0 summing to 1 that minimise z·value with z·energy <= 0 and z·delay <= 0.

    Args:
        value: (4,) objective on the rays.
        energy: (4,) energy spent beyond the budget on each ray.
        delay: (4,) delay beyond the budget on each ray.

    Returns:
        The weights, and whether a feasible mix exists.
    """
    one = jnp.ones_like(value[0])
    mixes = [
        *(_placed((one,), (i,)) for i in range(4)),
        *(_pair_mix(excess, rays) for excess in (energy, delay) for rays in _PAIRS),
        *(_triple_mix(energy, delay, rays) for rays in _TRIPLES),
    ]
    # One array of all mixes for each ray: sums over the rays are then written out.
    z = [jnp.stack([mix[i] for mix in mixes]) for i in range(4)]
    tolerance = 64 * jnp.finfo(value.dtype).eps

    def total(of: Array) -> Array:
        return z[0] * of[0] + z[1] * of[1] + z[2] * of[2] + z[3] * of[3]

    def fits(excess: Array) -> Array:
        parts = [jnp.abs(z[i] * excess[i]) for i in range(4)]
        return total(excess) <= tolerance * (parts[0] + parts[1] + parts[2] + parts[3])

    inside = (z[0] >= 0) & (z[1] >= 0) & (z[2] >= 0) & (z[3] >= 0)
    feasible = fits(energy) & fits(delay) & inside
    values = jnp.where(feasible, total(value), jnp.inf)
    least = jnp.min(values, axis=0)
    found = jnp.isfinite(least)
    # The mean of equally good mixes is as good.
    best = feasible & (values == least)
    count = jnp.maximum(jnp.sum(best, axis=0), 1)
    chosen = jnp.stack([jnp.sum(jnp.where(best, part, 0.0), axis=0) / count for part in z])
    first = jnp.stack(_placed((one,), (0,)))
    return jnp.where(found, chosen, first), found
