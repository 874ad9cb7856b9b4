"""What single samples contribute to gradients, losses and curvature at given weights.

Owners' samples are looked at in chunks, as the gradients of all of them need not fit in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxedge.training.data.samples import Loss, Samples
from jaxedge.training.rounds.measuring import squared_norm

_NUMBERS = 2**24
"""Of the single samples' gradients that are held at once."""
_MOST = 256
"""Samples side by side at most."""


class Moments(NamedTuple):
    """First and second moments of the samples' gradients of C owners."""

    gradient: Any
    """Of sum_c w_c F_c, F_c the mean loss of the owner's samples."""
    deviation: Array
    """(C, width) |grad l_i - grad F_c|^2 of each sample, padded."""
    tuned_deviation: Array
    """(C, width) the same, of the leaves that the devices train alone."""
    loss: Array
    """(C, width) l_i, padded."""


def moments(
    loss: Loss,
    weights: Any,
    data: Samples,
    share: Array,
    width: int,
    tuned_of: Callable[[Any], Any],
) -> Moments:
    """Moments of all owners.

    Args:
        loss: of single samples.
        weights: where.
        data: samples of C owners.
        share: (C,) w_c.
        width: samples of the largest owner.
        tuned_of: weights -> what of them the devices train.
    """
    numbers = sum(leaf.size for leaf in jax.tree.leaves(weights))
    chunk = min(max(_NUMBERS // numbers, 1), _MOST, width)
    places = jnp.arange(-(-width // chunk) * chunk).reshape(-1, chunk)

    def single(x: Array, y: Array) -> Any:
        return jax.grad(lambda w: loss(w, x[None], y[None])[0])(weights)

    def of_owner(total: Any, owner: Array) -> tuple[Any, tuple[Array, ...]]:
        first, last = data.offsets[owner], data.offsets[owner + 1]

        def chosen(place: Array) -> tuple[Array, Array, Array]:
            index = jnp.minimum(first + place, last - 1)
            return data.x[index], data.y[index], first + place < last

        def add(sums: Any, place: Array) -> tuple[Any, Array]:
            x, y, real = chosen(place)

            def masked(w: Any) -> tuple[Array, Array]:
                losses = loss(w, x, y)
                return jnp.where(real, losses, 0).sum() / (last - first), losses

            gradient, losses = jax.grad(masked, has_aux=True)(weights)
            return jax.tree.map(jnp.add, sums, gradient), losses

        mean, losses = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, weights), places)

        def deviations(place: Array) -> tuple[Array, Array]:
            x, y, _ = chosen(place)
            apart = jax.tree.map(lambda g, m: g - m[None], jax.vmap(single)(x, y), mean)
            return jax.vmap(squared_norm)(apart), jax.vmap(squared_norm)(tuned_of(apart))

        found = (*jax.lax.map(deviations, places), losses)
        total = jax.tree.map(lambda t, m: t + share[owner].astype(m.dtype) * m, total, mean)
        return total, tuple(each.reshape(-1)[:width] for each in found)

    zero = jax.tree.map(jnp.zeros_like, weights)
    gradient, found = jax.lax.scan(of_owner, zero, jnp.arange(len(share)))
    return Moments(gradient, *found)


def slopes(loss: Loss, weights: Any, direction: Any, data: Samples) -> Array:
    """(n,) <grad l_i, direction> of every sample."""

    def of_chunk(x: Array, y: Array) -> Array:
        found: Array = jax.jvp(lambda w: loss(w, x, y), (weights,), (direction,))[1]
        return found

    return _in_chunks(of_chunk, data)


def bends(loss: Loss, weights: Any, direction: Any, data: Samples) -> Array:
    """(n,) <direction, H_i direction> of every sample's Hessian H_i."""

    def of_chunk(x: Array, y: Array) -> Array:
        def slope(w: Any) -> Array:
            found: Array = jax.jvp(lambda v: loss(v, x, y), (w,), (direction,))[1]
            return found

        found: Array = jax.jvp(slope, (weights,), (direction,))[1]
        return found

    return _in_chunks(of_chunk, data)


def _in_chunks(function: Any, data: Samples) -> Array:
    count = len(data.y)
    width = min(count, _MOST)
    index = np.minimum(np.arange(-(-count // width) * width), count - 1).reshape(-1, width)
    found = jax.lax.map(lambda some: function(data.x[some], data.y[some]), jnp.asarray(index))
    return found.reshape(-1)[:count]


def thin(data: Samples, most: int, seed: int) -> Samples:
    """At most so many samples of each owner, a random choice where it has more."""
    rng = np.random.default_rng(seed)
    offsets = np.asarray(data.offsets)
    sizes = np.diff(offsets)
    if sizes.max() <= most:
        return data
    kept = [
        first + (np.sort(rng.permutation(size)[:most]) if size > most else np.arange(size))
        for first, size in zip(offsets[:-1], sizes, strict=True)
    ]
    index = np.concatenate(kept)
    ends = np.cumsum([0, *(len(part) for part in kept)])
    return Samples(x=data.x[index], y=data.y[index], offsets=jnp.asarray(ends, jnp.int32))
