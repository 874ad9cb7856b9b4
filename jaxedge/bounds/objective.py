"""The objective, in original units and in the totals in which it is convex over linear."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxedge.bounds.base import Bound, Effort, Fraction
from jaxedge.bounds.registry import fraction_named
from jaxedge.bounds.two_stage import two_stage_bound
from jaxedge.scenario.scenario import Scenario
from jaxedge.system.allocation import Allocation
from jaxedge.system.constraints import ratio
from jaxedge.system.totals import Totals


def objective(scenario: Scenario, allocation: Allocation, bound: Bound = two_stage_bound) -> Array:
    """() the bound to be minimised; a user's own is any function (scenario, allocation)."""
    return bound(scenario, allocation)


def objective_in_totals(scenario: Scenario, totals: Totals, name: str = "two-stage") -> Fraction:
    """The named bound in totals, as its convex numerator over its linear denominator.

    The fine-tuning bound is convex over linear at each fixed M. Any other bound is
    ``bound(scenario, from_totals(scenario, totals))``.

    Raises:
        ValueError: where there is no bound of that name.
    """
    first, second = jnp.asarray(totals.pretraining_rounds), jnp.asarray(totals.finetuning_rounds)
    effort = Effort(
        pretraining_rounds=first,
        finetuning_rounds=second,
        inverse_server_batch=ratio(first, totals.server_samples),
        inverse_device_batch=ratio(second, totals.device_samples),
    )
    return fraction_named(name)(scenario.learning, effort)
