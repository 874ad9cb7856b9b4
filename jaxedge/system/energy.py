"""Energy of both stages: computing at the server and the devices, uploads and broadcasts."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxedge.scenario.scenario import Devices, Scenario, Server
from jaxedge.system.allocation import Allocation, StageAllocation
from jaxedge.system.channel import downlink_time, uplink_time


def _computing(part: Server | Devices, choice: StageAllocation) -> Array:
    """J for one batch, kappa c b f²."""
    cycles = jnp.asarray(part.cycles_per_sample * choice.batch)
    return cycles * part.capacitance * jnp.square(choice.clock)


def pretraining_round_energy(scenario: Scenario, allocation: Allocation) -> Array:
    """() J of one pre-training round, e0 = kappa_0 c_0 b_0 f_0²."""
    return _computing(scenario.server, allocation.server)


def compute_energy(scenario: Scenario, allocation: Allocation) -> Array:
    """(K,) J that each device computes away in one fine-tuning round, kappa_k c_k b_k f_k²."""
    return _computing(scenario.devices, allocation.devices)


def upload_energy(scenario: Scenario, allocation: Allocation) -> Array:
    """(K,) J of each device's upload in one round, p_k S_u/rate_k."""
    return uplink_time(scenario, allocation) * allocation.devices.power


def downlink_energy(scenario: Scenario, allocation: Allocation) -> Array:
    """() J of one broadcast, p_0 S_d/rate_0."""
    return downlink_time(scenario, allocation) * allocation.server.power


def finetuning_round_energy(scenario: Scenario, allocation: Allocation) -> Array:
    """() J of one fine-tuning round, e1: the broadcast, and every device's computing and upload."""
    devices = compute_energy(scenario, allocation) + upload_energy(scenario, allocation)
    return downlink_energy(scenario, allocation) + jnp.sum(devices)


def energy(scenario: Scenario, allocation: Allocation) -> Array:
    """() J of the whole plan, M e0 + N e1."""
    pretraining = pretraining_round_energy(scenario, allocation) * allocation.pretraining_rounds
    finetuning = finetuning_round_energy(scenario, allocation) * allocation.finetuning_rounds
    return pretraining + finetuning
