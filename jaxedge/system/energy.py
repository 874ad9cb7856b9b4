"""Energy of both stages: computing at the server and the devices, uploads and broadcasts."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxedge.scenario.scenario import Scenario
from jaxedge.system.allocation import Allocation
from jaxedge.system.round_costs import round_costs


def pretraining_round_energy(scenario: Scenario, allocation: Allocation) -> Array:
    """() J of one pre-training round, e0."""
    return round_costs(scenario, allocation).server.energy


def finetuning_round_energy(scenario: Scenario, allocation: Allocation) -> Array:
    """() J of one fine-tuning round, e1: the broadcast, and every device's computing and upload."""
    spent = round_costs(scenario, allocation)
    return spent.broadcast.energy + jnp.sum(spent.devices.energy + spent.uploads.energy)


def energy(scenario: Scenario, allocation: Allocation) -> Array:
    """() J of the whole plan, M e0 + N e1."""
    pretraining = pretraining_round_energy(scenario, allocation) * allocation.pretraining_rounds
    finetuning = finetuning_round_energy(scenario, allocation) * allocation.finetuning_rounds
    return pretraining + finetuning
