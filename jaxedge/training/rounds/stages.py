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

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxedge.machine.trees import select
from jaxedge.training.data.samples import Loss, Samples, draw
from jaxedge.training.rounds.strategies import SIDE_BY_SIDE, Strategy, weighted_sum

Params = TypeVar("Params")
Observe = Callable[[Any], Any]
"""Weights -> what is kept of every round, seen before the round's step."""


def nothing(params: Any) -> None:
    """Observe nothing."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """SGD at C owners: the server alone, or K devices."""

    data: Samples
    """The owners' samples."""
    batch: Array
    """(C,) b0 or b_k, at most ``width``."""
    rate: ArrayLike
    """() eta0 or eta."""
    key: Array
    """() of all draws; round r draws from it and r alone, however the rounds are cut."""
    width: int = dataclasses.field(metadata={"static": True})
    """Draws made for a batch; the compiled program depends on it, not on the batch."""
    weights: Array = dataclasses.field(default_factory=lambda: jnp.ones(1))
    """(C,) w_k, summing to 1."""
    local_steps: int = dataclasses.field(default=1, metadata={"static": True})
    """Gradient steps of a device in a round; the bounds are proven for 1."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Span:
    """The rounds start ... end - 1 of a stage."""

    end: ArrayLike
    """() M or N; from there on the weights stay."""
    length: int = dataclasses.field(metadata={"static": True})
    """At most so many rounds are computed."""
    start: ArrayLike = 0
    """() the first round."""


def mean_gradient(loss: Loss, params: Params, stage: Stage, owner: ArrayLike, key: Array) -> Params:
    """Gradient of the mean loss of a batch of the owner's samples, drawn as said above.

    Args:
        loss: of single samples.
        params: the weights.
        stage: its data, batches and width.
        owner: () which owner's.
        key: of the draws.
    """
    data, batch = stage.data, stage.batch[owner]
    index, chosen = draw(data, owner, batch, stage.width, key)

    def mean(weights: Params) -> Array:
        losses = loss(weights, data.x[index], data.y[index])
        # Masked before the sum: a loss of a sample that is not in the batch must not matter.
        return jnp.sum(jnp.where(chosen, losses, 0.0)) / batch

    gradient: Params = jax.grad(mean)(params)
    return gradient


def _descend(params: Params, step: Params, rate: ArrayLike) -> Params:
    new: Params = jax.tree.map(lambda w, g: w - jnp.asarray(rate, w.dtype) * g, params, step)
    return new


def _scan(
    step: Callable[[Params, Array], Params], params: Params, span: Span, observe: Observe
) -> tuple[Params, Any]:
    """Run ``step`` in every round of the span."""

    def advance(weights: Params, number: Array) -> tuple[Params, Any]:
        seen, new = observe(weights), step(weights, number)
        return select(number < span.end, new, weights), seen

    return jax.lax.scan(advance, params, jnp.arange(span.length) + span.start)


def pretrain(
    loss: Loss, params: Params, stage: Stage, span: Span, *, observe: Observe = nothing
) -> tuple[Params, Any]:
    """Rounds of mini-batch SGD at the server.

    Args:
        loss: of single samples.
        params: the weights to begin with.
        stage: of one owner.
        span: which rounds.
        observe: what to keep of the weights before each round.

    Returns:
        The weights, and what was observed with a leading axis (length,).
    """

    def step(weights: Params, number: Array) -> Params:
        key = jax.random.fold_in(stage.key, number)
        return _descend(weights, mean_gradient(loss, weights, stage, 0, key), stage.rate)

    return _scan(step, params, span, observe)


def finetune(
    loss: Loss,
    params: Params,
    stage: Stage,
    span: Span,
    *,
    strategy: Strategy = SIDE_BY_SIDE,
    observe: Observe = nothing,
) -> tuple[Params, Any]:
    """Federated rounds: every device steps on its own batches, the server averages by weight.

    Args:
        loss: of single samples.
        params: the weights to begin with.
        stage: of K owners.
        span: which rounds.
        strategy: how the devices are computed.
        observe: what to keep of the weights before each round.

    Returns:
        The weights, and what was observed with a leading axis (length,).
    """
    strategy.check(stage.local_steps)
    step = _pooled_round if strategy.name == "pooled" else partial(_round, strategy=strategy)
    return _scan(partial(step, loss, stage), params, span, observe)


def _keys(stage: Stage, number: Array) -> Array:
    """(K,) of the devices in a round."""
    return jax.random.split(jax.random.fold_in(stage.key, number), len(stage.batch))


def _round(
    loss: Loss, stage: Stage, shared: Params, number: Array, *, strategy: Strategy
) -> Params:
    """Each device's own local steps, and their weighted sum."""

    def change(each: tuple[Array, Array]) -> Any:
        owner, key = each

        def step(own: Params, number: Array) -> tuple[Params, None]:
            gradient = mean_gradient(loss, own, stage, owner, jax.random.fold_in(key, number))
            return _descend(own, gradient, stage.rate), None

        end, _ = jax.lax.scan(step, shared, jnp.arange(stage.local_steps))
        return jax.tree.map(jnp.subtract, end, shared)

    owners = jnp.arange(len(stage.batch))
    total = weighted_sum(change, (owners, _keys(stage, number)), stage.weights, strategy)
    new: Params = jax.tree.map(jnp.add, shared, total)
    return new


def _pooled_round(loss: Loss, stage: Stage, shared: Params, number: Array) -> Params:
    """One step along the gradient of the weighted mean loss of all devices' batches."""
    data = stage.data

    def of_device(owner: Array, batch: Array, key: Array) -> tuple[Array, Array]:
        return draw(data, owner, batch, stage.width, jax.random.fold_in(key, 0))

    owners = jnp.arange(len(stage.batch))
    index, chosen = jax.vmap(of_device)(owners, stage.batch, _keys(stage, number))
    share = jnp.where(chosen, (stage.weights / stage.batch)[:, None], 0).ravel()
    index, chosen = index.ravel(), chosen.ravel()

    def weighted(own: Params) -> Array:
        losses = loss(own, data.x[index], data.y[index])
        return jnp.sum(jnp.where(chosen, share.astype(losses.dtype) * losses, 0))

    return _descend(shared, jax.grad(weighted)(shared), stage.rate)
