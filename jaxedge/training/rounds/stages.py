"""The two stages as pure functions of weights: mini-batch SGD, then federated SGD or averaging.

    pre-training   w <- w - eta0 (1/b0) sum over b0 samples of grad l(w)
    fine-tuning    w <- w - sum_k w_k (w - w_k),   w_k: the device's weights after its local steps,
                   w_k <- w_k - eta (1/b_k) sum over b_k own samples of grad l(w_k)

Samples are drawn with replacement, so that every batch's gradient is unbiased with variance s/b;
a batch as large as the owner's data is the data itself, without variance.
Batch sizes and rounds may be traced numbers: a batch is masked out of ``width`` draws and a stage
out of ``length`` rounds, so that many designs run side by side in one compiled program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxedge.training.data.samples import Loss, Samples, draw
from jaxedge.training.rounds.strategies import CHUNK, check_strategy, weighted_sum

Params = TypeVar("Params")
Observe = Callable[[Any], Any]
"""Weights -> what is kept of every round, seen before the round's step."""


def nothing(params: Any) -> None:
    """Observe nothing."""


def mean_gradient(
    loss: Loss,
    params: Params,
    data: Samples,
    owner: ArrayLike,
    batch: Array,
    width: int,
    key: Array,
) -> Params:
    """Gradient of the mean loss of ``batch`` of the owner's samples, drawn as said above.

    Args:
        loss: of single samples.
        params: the weights.
        data: whose samples.
        owner: which owner's.
        batch: () b <= width.
        width: draws made; the compiled program depends on it, not on the batch.
        key: of the draws.
    """
    index, chosen = draw(data, owner, batch, width, key)

    def mean(weights: Params) -> Array:
        losses = loss(weights, data.x[index], data.y[index])
        # Masked before the sum: a loss of a sample that is not in the batch must not matter.
        return jnp.sum(jnp.where(chosen, losses, 0.0)) / batch

    gradient: Params = jax.grad(mean)(params)
    return gradient


def _moved(params: Params, step: Params, rate: ArrayLike) -> Params:
    moved: Params = jax.tree.map(lambda w, g: w - jnp.asarray(rate, w.dtype) * g, params, step)
    return moved


def _rounds(
    step: Callable[[Params, Array], Params],
    params: Params,
    rounds: ArrayLike,
    start: ArrayLike,
    length: int,
    observe: Observe,
) -> tuple[Params, Any]:
    """Run ``step`` for rounds start ... rounds - 1, at most ``length`` of them."""

    def advance(weights: Params, number: Array) -> tuple[Params, Any]:
        seen, new = observe(weights), step(weights, number)
        kept = jax.tree.map(lambda a, b: jnp.where(number < rounds, a, b), new, weights)
        return kept, seen

    return jax.lax.scan(advance, params, jnp.arange(length) + start)


def pretrain(
    loss: Loss,
    params: Params,
    data: Samples,
    *,
    batch: ArrayLike,
    width: int,
    rate: ArrayLike,
    rounds: ArrayLike,
    length: int,
    key: Array,
    start: ArrayLike = 0,
    observe: Observe = nothing,
) -> tuple[Params, Any]:
    """Rounds of mini-batch SGD at the server.

    Args:
        loss: of single samples.
        params: the weights to begin with.
        data: the server's samples, one owner.
        batch: () b0.
        width: at least the batch.
        rate: () eta0.
        rounds: () M; from there on the weights stay.
        length: rounds of this call.
        key: of the whole stage; round r draws from it and r alone, however the rounds are cut.
        start: the first round of this call.
        observe: what to keep of the weights before each round.

    Returns:
        The weights, and what was observed with a leading axis (length,).
    """
    size = jnp.asarray(batch)

    def step(weights: Params, number: Array) -> Params:
        draw = jax.random.fold_in(key, number)
        return _moved(weights, mean_gradient(loss, weights, data, 0, size, width, draw), rate)

    return _rounds(step, params, rounds, start, length, observe)


def finetune(
    loss: Loss,
    params: Params,
    data: Samples,
    *,
    weights: Array,
    batch: Array,
    width: int,
    rate: ArrayLike,
    rounds: ArrayLike,
    length: int,
    key: Array,
    start: ArrayLike = 0,
    local_steps: int = 1,
    strategy: str = "vmap",
    chunk: int = CHUNK,
    observe: Observe = nothing,
) -> tuple[Params, Any]:
    """Federated rounds: every device steps on its own batches, the server averages by weight.

    Args:
        loss: of single samples.
        params: the weights to begin with.
        data: the devices' samples, K owners.
        weights: (K,) w_k, summing to 1.
        batch: (K,) b_k.
        width: at least the largest batch.
        rate: () eta.
        rounds: () N; from there on the weights stay.
        length: rounds of this call.
        key: of the whole stage, as in `pretrain`.
        start: the first round of this call.
        local_steps: gradient steps of a device in a round; the bounds are proven for 1.
        strategy: how the devices are computed, one of `strategies.STRATEGIES`.
        chunk: devices side by side where they are computed in chunks.
        observe: what to keep of the weights before each round.

    Returns:
        The weights, and what was observed with a leading axis (length,).
    """
    check_strategy(strategy, chunk, local_steps)
    owners = jnp.arange(len(batch))

    def draws_of(number: Array) -> Array:
        return jax.random.split(jax.random.fold_in(key, number), len(batch))

    def local_change(shared: Params, owner: Array, draw: Array) -> Params:
        def step(own: Params, number: Array) -> tuple[Params, None]:
            key_of_step = jax.random.fold_in(draw, number)
            gradient = mean_gradient(loss, own, data, owner, batch[owner], width, key_of_step)
            return _moved(own, gradient, rate), None

        end, _ = jax.lax.scan(step, shared, jnp.arange(local_steps))
        change: Params = jax.tree.map(lambda w, v: v - w, shared, end)
        return change

    def step(shared: Params, number: Array) -> Params:
        change = weighted_sum(
            lambda each: local_change(shared, *each),
            (owners, draws_of(number)),
            weights,
            strategy=strategy,
            chunk=chunk,
        )
        new: Params = jax.tree.map(jnp.add, shared, change)
        return new

    def pooled_step(shared: Params, number: Array) -> Params:
        keys = jax.vmap(lambda draw: jax.random.fold_in(draw, 0))(draws_of(number))
        index, chosen = jax.vmap(lambda k, b, own: draw(data, k, b, width, own))(
            owners, batch, keys
        )
        share = jnp.where(chosen, (weights / batch)[:, None], 0).ravel()
        index, chosen = index.ravel(), chosen.ravel()

        def weighted(own: Params) -> Array:
            losses = loss(own, data.x[index], data.y[index])
            return jnp.sum(jnp.where(chosen, share.astype(losses.dtype) * losses, 0))

        return _moved(shared, jax.grad(weighted)(shared), rate)

    if strategy == "pooled":
        step = pooled_step
    return _rounds(step, params, rounds, start, length, observe)
