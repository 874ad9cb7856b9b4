"""Delay of both stages: the devices work in parallel, after the broadcast."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxedge.scenario.scenario import Scenario
from jaxedge.system.allocation import Allocation
from jaxedge.system.round_costs import round_costs


def pretraining_round_time(scenario: Scenario, allocation: Allocation) -> Array:
    """() seconds of one pre-training round, t0."""
    return round_costs(scenario, allocation).server.time


def device_time(scenario: Scenario, allocation: Allocation) -> Array:
    """(K,) seconds from the broadcast to each upload's end, t_k = c_k b_k/f_k + S_u/rate_k."""
    spent = round_costs(scenario, allocation)
    return spent.devices.time + spent.uploads.time


def finetuning_round_time(scenario: Scenario, allocation: Allocation) -> Array:
    """() seconds of one fine-tuning round, t1 = S_d/rate_0 + max_k t_k."""
    broadcast = round_costs(scenario, allocation).broadcast.time
    return broadcast + jnp.max(device_time(scenario, allocation))


def delay(scenario: Scenario, allocation: Allocation) -> Array:
    """() seconds of the whole plan, M t0 + N t1."""
    pretraining = pretraining_round_time(scenario, allocation) * allocation.pretraining_rounds
    finetuning = finetuning_round_time(scenario, allocation) * allocation.finetuning_rounds
    return pretraining + finetuning
