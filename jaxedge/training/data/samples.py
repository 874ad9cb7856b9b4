"""Samples on the device, and draws from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

Loss = Callable[[Any, Array, Array], Array]
"""(weights, x (n, ...), y (n,)) -> (n,) losses of the samples."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Samples:
    """Samples of C owners, one after the other; the server's data has one owner."""

    x: Array
    """(n, ...)"""
    y: Array
    """(n,)"""
    offsets: Array
    """(C + 1,) owner c has samples offsets[c] ... offsets[c + 1] - 1, at least one."""


def pool(x: ArrayLike, y: ArrayLike) -> Samples:
    """All samples with one owner."""
    y = jnp.asarray(y)
    return Samples(x=jnp.asarray(x), y=y, offsets=jnp.array([0, len(y)]))


def draw(
    data: Samples, owner: ArrayLike, batch: ArrayLike, width: int, key: Array
) -> tuple[Array, Array]:
    """(width,) positions of samples of one owner, and which of them are the batch.

    Args:
        data: whose samples.
        owner: which owner's.
        batch: () b <= width.
        width: draws made; those of a batch do not depend on it.
        key: of the draws.
    """
    first, last = data.offsets[owner], data.offsets[jnp.asarray(owner) + 1]
    every = jnp.arange(width)
    some = jax.random.randint(key, (width,), first, last)
    index = jnp.where(batch < last - first, some, jnp.minimum(first + every, last - 1))
    return index, every < batch
