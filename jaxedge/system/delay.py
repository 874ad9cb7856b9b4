"""Delay of both stages: the devices work in parallel, after the broadcast."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxedge.scenario.scenario import Devices, Scenario, Server
from jaxedge.system.allocation import Allocation, StageAllocation
from jaxedge.system.channel import downlink_time, uplink_time


def _computing(part: Server | Devices, choice: StageAllocation) -> Array:
    """Seconds for one batch, c b/f."""
    return jnp.asarray(part.cycles_per_sample * choice.batch) / choice.clock


def pretraining_round_time(scenario: Scenario, allocation: Allocation) -> Array:
    """() seconds of one pre-training round, t0 = c_0 b_0/f_0."""
    return _computing(scenario.server, allocation.server)


def compute_time(scenario: Scenario, allocation: Allocation) -> Array:
    """(K,) seconds that each device computes in one fine-tuning round, c_k b_k/f_k."""
    return _computing(scenario.devices, allocation.devices)


def device_time(scenario: Scenario, allocation: Allocation) -> Array:
    """(K,) seconds from the broadcast to each upload's end, t_k = c_k b_k/f_k + S_u/rate_k."""
    return compute_time(scenario, allocation) + uplink_time(scenario, allocation)


def finetuning_round_time(scenario: Scenario, allocation: Allocation) -> Array:
    """() seconds of one fine-tuning round, t1 = S_d/rate_0 + max_k t_k."""
    return downlink_time(scenario, allocation) + jnp.max(device_time(scenario, allocation))


def delay(scenario: Scenario, allocation: Allocation) -> Array:
    """() seconds of the whole plan, M t0 + N t1."""
    pretraining = pretraining_round_time(scenario, allocation) * allocation.pretraining_rounds
    finetuning = finetuning_round_time(scenario, allocation) * allocation.finetuning_rounds
    return pretraining + finetuning
