"""What is measured of weights: loss and accuracy on test data, and the true gradient's norm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxedge.training.data.samples import Loss, Samples

_CHUNK = 1024
"""Samples computed side by side."""


def _chunks(count: int) -> tuple[Array, Array]:
    """Positions (chunks, width) of all samples, and which of them are not padding."""
    width = min(count, _CHUNK)
    index = np.arange(-(-count // width) * width).reshape(-1, width)
    return jnp.asarray(np.minimum(index, count - 1)), jnp.asarray(index < count)


def loss_and_accuracy(
    loss: Loss, outputs: Callable[[Any, Array], Array], weights: Any, x: Array, y: Array
) -> dict[str, Array]:
    """Mean loss and share of right answers (the largest output) over samples (n, ...) and (n,)."""

    def add(sums: tuple[Array, Array], chunk: tuple[Array, Array]) -> tuple[Any, None]:
        index, real = chunk
        losses = jnp.where(real, loss(weights, x[index], y[index]), 0)
        right = real & (outputs(weights, x[index]).argmax(axis=-1) == y[index])
        return (sums[0] + losses.sum(), sums[1] + right.sum(dtype=jnp.int32)), None

    kind = jax.eval_shape(loss, weights, x[:1], y[:1]).dtype
    sums, _ = jax.lax.scan(add, (jnp.zeros((), kind), jnp.zeros((), jnp.int32)), _chunks(len(y)))
    return {"loss": sums[0] / len(y), "accuracy": sums[1] / jnp.asarray(len(y), kind)}


def task_gradient(loss: Loss, weights: Any, data: Samples, device_weight: Array) -> Any:
    """∇F(w) of F = sum_k w_k F_k, F_k the mean loss of device k's own samples.

    Args:
        loss: of single samples.
        weights: w.
        data: the devices' samples, K owners.
        device_weight: (K,) w_k.
    """
    return task_loss_and_gradient(loss, weights, data, device_weight)[1]


def task_loss_and_gradient(
    loss: Loss, weights: Any, data: Samples, device_weight: Array
) -> tuple[Array, Any]:
    """F(w) and ∇F(w), arguments as of `task_gradient`."""
    sizes = jnp.diff(data.offsets)
    return weighted_loss_and_gradient(loss, weights, data, (device_weight / sizes)[owners_of(data)])


def owners_of(data: Samples) -> Array:
    """(n,) whose each sample is."""
    return jnp.searchsorted(data.offsets, jnp.arange(len(data.y)), side="right") - 1


def weighted_loss_and_gradient(
    loss: Loss, weights: Any, data: Samples, share: Array
) -> tuple[Array, Any]:
    """sum_i a_i l_i(w) over all samples and its gradient, the shares a (n,) of any sign."""

    def weighted(w: Any, index: Array, real: Array) -> Array:
        losses = loss(w, data.x[index], data.y[index])
        return jnp.sum(jnp.where(real, share[index].astype(losses.dtype) * losses, 0))

    def add(total: Any, chunk: tuple[Array, Array]) -> tuple[Any, None]:
        found = jax.value_and_grad(weighted)(weights, *chunk)
        return jax.tree.map(jnp.add, total, found), None

    kind = jax.eval_shape(loss, weights, data.x[:1], data.y[:1]).dtype
    zero = jnp.zeros((), kind), jax.tree.map(jnp.zeros_like, weights)
    return jax.lax.scan(add, zero, _chunks(len(data.y)))[0]


def squared_norm(tree: Any) -> Array:
    """Sum of the squares of all numbers in a pytree."""
    parts = [jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)]
    return jnp.sum(jnp.stack(parts))


def all_finite(tree: Any) -> Array:
    """Whether all numbers in a pytree are finite."""
    return jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]))
