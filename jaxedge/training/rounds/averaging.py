"""Federated averaging over cohorts of many users, each with one epoch of its own samples a round.

    w <- sum over the cohort of (n_k / n) w_k,   w_k: w after one pass over user k's n_k samples

(McMahan et al., 2017). A pass goes through the samples in their order, batch by batch; the last
batch may be smaller. Unlike the two planned stages, nothing is drawn and no energy is charged.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxedge.training.data.samples import Loss, Samples
from jaxedge.training.rounds.strategies import ONE_BY_ONE, Strategy, weighted_sum

Params = TypeVar("Params")
Batches = tuple[Array, Array, Array]
"""(steps, batch, ...) inputs, labels, and which of them are real."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Epoch:
    """A user's pass through its own samples."""

    data: Samples
    """The users' samples."""
    rate: ArrayLike
    """() of the local steps."""
    batch: int = dataclasses.field(metadata={"static": True})
    """Samples of a local step."""
    most: int = dataclasses.field(metadata={"static": True})
    """At least the samples of any user; the compiled program depends on it."""

    @property
    def steps(self) -> int:
        """Batches of the longest pass."""
        return -(-self.most // self.batch)

    def batches(self, user: Array) -> Batches:
        """The samples of a user in their order, padded."""
        first, last = self.data.offsets[user], self.data.offsets[user + 1]
        place = first + jnp.arange(self.steps * self.batch).reshape(self.steps, self.batch)
        index = jnp.minimum(place, last - 1)
        return self.data.x[index], self.data.y[index], place < last


def average(
    loss: Loss, params: Params, epoch: Epoch, cohorts: Array, strategy: Strategy = ONE_BY_ONE
) -> Params:
    """The weights after a round with each cohort.

    Args:
        loss: of single samples.
        params: the weights to begin with.
        epoch: of every user.
        cohorts: (R, C) users of each of R rounds.
        strategy: how the users are computed, any but "pooled".

    Raises:
        ValueError: if the strategy cannot compute it.
    """
    strategy.check(max(epoch.steps, 2))  # even one step is of weights of a user's own

    def change(shared: Params, batches: Batches) -> Params:
        def step(own: Params, some: Batches) -> tuple[Params, None]:
            x, y, real = some

            def mean(weights: Params) -> Array:
                losses = loss(weights, x, y)
                return jnp.sum(jnp.where(real, losses, 0)) / jnp.maximum(real.sum(), 1)

            gradient = jax.grad(mean)(own)
            return jax.tree.map(
                lambda w, g: w - jnp.asarray(epoch.rate, w.dtype) * g, own, gradient
            ), None

        own, _ = jax.lax.scan(step, shared, batches)
        return jax.tree.map(jnp.subtract, own, shared)

    def round_of(shared: Params, cohort: Array) -> tuple[Params, None]:
        sizes = epoch.data.offsets[cohort + 1] - epoch.data.offsets[cohort]

        def of_user(user: Array) -> Params:
            return change(shared, epoch.batches(user))

        # Only the cohort's samples go to other processors, not everybody's.
        moved = strategy.name == "sharded"
        total = weighted_sum(
            partial(change, shared) if moved else of_user,
            jax.vmap(epoch.batches)(cohort) if moved else cohort,
            sizes / sizes.sum(),
            strategy,
        )
        return jax.tree.map(jnp.add, shared, total), None

    return jax.lax.scan(round_of, params, cohorts)[0]
