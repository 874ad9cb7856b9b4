"""What every convergence bound shares: its kind, what it sees of a design, and its form."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxedge.scenario.scenario import Learning, Scenario
from jaxedge.system.allocation import Allocation

Bound = Callable[[Scenario, Allocation], Array]


class Fraction(NamedTuple):
    """A bound as numerator over denominator; with 1/b = rounds/X it is convex over linear."""

    numerator: Array
    """()"""
    denominator: Array
    """() zero where there is no round to average over."""

    @property
    def value(self) -> Array:
        """() the bound; infinite where the denominator is zero."""
        some = self.denominator > 0
        return jnp.where(some, self.numerator / jnp.where(some, self.denominator, 1), jnp.inf)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Effort:
    """What a bound sees of a design."""

    pretraining_rounds: Array
    """() M."""
    finetuning_rounds: Array
    """() N."""
    inverse_server_batch: ArrayLike
    """() 1/b_0."""
    inverse_device_batch: ArrayLike
    """(K,) 1/b_k."""


def aggregated_variance(learning: Learning, inverse_batch: ArrayLike) -> Array:
    """() variance of one fine-tuning round's aggregated gradient, sum_k w_k² s_k (1/b_k)."""
    weight = jnp.asarray(learning.device_weight)
    return jnp.sum(jnp.square(weight) * learning.device_variance * inverse_batch)


def effort_of(allocation: Allocation) -> Effort:
    """What a bound sees of an allocation."""
    return Effort(
        pretraining_rounds=jnp.asarray(allocation.pretraining_rounds),
        finetuning_rounds=jnp.asarray(allocation.finetuning_rounds),
        inverse_server_batch=1 / jnp.asarray(allocation.server.batch),
        inverse_device_batch=1 / jnp.asarray(allocation.devices.batch),
    )
