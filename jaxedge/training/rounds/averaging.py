"""Federated averaging over cohorts of many users, each with one epoch of its own samples a round.

    w <- sum over the cohort of (n_k / n) w_k,   w_k: w after one pass over user k's n_k samples

(McMahan et al., 2017). A pass goes through the samples in their order, batch by batch; the last
batch may be smaller. Unlike the two planned stages, nothing is drawn and no energy is charged.
"""

from __future__ import annotations

from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxedge.training.data.samples import Loss, Samples
from jaxedge.training.rounds.strategies import CHUNK, check_strategy, weighted_sum

Params = TypeVar("Params")
Batches = tuple[Array, Array, Array]
"""(steps, batch, ...) inputs, labels, and which of them are real."""


def average(
    loss: Loss,
    params: Params,
    data: Samples,
    cohorts: Array,
    *,
    batch: int,
    most: int,
    rate: ArrayLike,
    strategy: str = "scan",
    chunk: int = CHUNK,
) -> Params:
    """The weights after a round with each cohort.

    Args:
        loss: of single samples.
        params: the weights to begin with.
        data: the users' samples.
        cohorts: (R, C) users of each of R rounds.
        batch: samples of a local step.
        most: at least the samples of any user; the compiled program depends on it.
        rate: () of the local steps.
        strategy: how the users are computed, one of `strategies.STRATEGIES` but "pooled".
        chunk: users side by side where they are computed in chunks.

    Raises:
        ValueError: if there is no such strategy.
    """
    check_strategy(strategy, chunk, max(-(-most // batch), 2))

    steps = -(-most // batch)

    def batches_of(user: Array) -> Batches:
        first, last = data.offsets[user], data.offsets[user + 1]
        place = first + jnp.arange(steps * batch).reshape(steps, batch)
        index = jnp.minimum(place, last - 1)
        return data.x[index], data.y[index], place < last

    def change(shared: Params, batches: Batches) -> Params:
        def step(own: Params, some: Batches) -> tuple[Params, None]:
            x, y, real = some

            def mean(weights: Params) -> Array:
                losses = loss(weights, x, y)
                return jnp.sum(jnp.where(real, losses, 0)) / jnp.maximum(real.sum(), 1)

            gradient = jax.grad(mean)(own)
            return jax.tree.map(
                lambda w, g: w - jnp.asarray(rate, w.dtype) * g, own, gradient
            ), None

        own, _ = jax.lax.scan(step, shared, batches)
        return jax.tree.map(jnp.subtract, own, shared)

    def round_of(shared: Params, cohort: Array) -> tuple[Params, None]:
        sizes = data.offsets[cohort + 1] - data.offsets[cohort]

        def of_user(user: Array) -> Params:
            return change(shared, batches_of(user))

        # Only the cohort's samples go to other processors, not everybody's.
        moved = strategy == "sharded"
        total = weighted_sum(
            partial(change, shared) if moved else of_user,
            jax.vmap(batches_of)(cohort) if moved else cohort,
            sizes / sizes.sum(),
            strategy=strategy,
            chunk=chunk,
        )
        return jax.tree.map(jnp.add, shared, total), None

    return jax.lax.scan(round_of, params, cohorts)[0]
