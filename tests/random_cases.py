"""Random scenarios and allocations inside their boxes, for tests of formulas."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxedge.scenario.scenario import Devices, Learning, Scenario, Server
from jaxedge.system.allocation import Allocation, StageAllocation

DEVICE_COUNTS = (1, 2, 5, 10)


def random_scenario(rng: np.random.Generator, count: int) -> Scenario:
    """A scenario of ``count`` devices whose budgets are of the size that designs use."""

    def spread(low: float, high: float, shape: tuple[int, ...] = ()) -> Any:
        return jnp.asarray(np.exp(rng.uniform(np.log(low), np.log(high), shape)))

    devices = (count,)
    smoothness = spread(1.0, 20.0)
    return Scenario(
        learning=Learning(
            initial_gap=spread(0.5, 5.0),
            smoothness=smoothness,
            discrepancy=spread(1e-3, 1.0),
            server_learning_rate=rng.uniform(0.05, 1.0) / smoothness,
            device_learning_rate=rng.uniform(0.05, 1.0) / smoothness,
            server_variance=spread(1.0, 30.0),
            device_variance=spread(1.0, 30.0, devices),
            device_weight=jnp.asarray(rng.dirichlet(np.full(count, 3.0))),
            pl_constant=smoothness * rng.uniform(0.001, 0.5),
        ),
        server=Server(
            cycles_per_sample=spread(1e6, 1e7),
            capacitance=spread(1e-28, 1e-26),
            max_clock=spread(2e9, 2e10),
            max_batch=512.0,
            bandwidth=spread(1e6, 2e7),
            max_power=spread(0.3, 3.0),
        ),
        devices=Devices(
            cycles_per_sample=spread(1e7, 4e7, devices),
            capacitance=spread(5e-29, 5e-28, devices),
            max_clock=spread(5e8, 2e9, devices),
            max_batch=jnp.full(devices, 128.0),
            bandwidth=spread(2e5, 5e6, devices),
            gain=spread(1e-13, 1e-9, devices),
            downlink_gain=spread(1e-13, 1e-9, devices) if rng.random() < 0.5 else None,
            max_power=spread(0.05, 0.5, devices),
        ),
        noise_density=spread(2e-21, 2e-20),
        upload_bits=spread(1e4, 1e7),
        download_bits=spread(1e4, 1e7),
        energy_budget=spread(1e2, 1e5),
        delay_budget=spread(1e2, 1e5),
    )


def random_allocation(rng: np.random.Generator, scenario: Scenario) -> Allocation:
    """An allocation inside the boxes of ``scenario``; budgets may or may not hold."""

    def stage(part: Server | Devices) -> StageAllocation:
        shape = np.shape(part.max_power)
        return StageAllocation(
            batch=jnp.asarray(np.exp(rng.uniform(0, np.log(part.max_batch), shape))),
            clock=jnp.asarray(rng.uniform(0.05, 1.0, shape) * part.max_clock),
            power=jnp.asarray(rng.uniform(0.01, 1.0, shape) * part.max_power),
        )

    return Allocation(
        pretraining_rounds=jnp.asarray(rng.uniform(1.0, 1e3)),
        finetuning_rounds=jnp.asarray(rng.uniform(1.0, 1e3)),
        server=stage(scenario.server),
        devices=stage(scenario.devices),
    )


def random_case(seed: int, count: int | None = None) -> tuple[Scenario, Allocation]:
    """A scenario and an allocation of it, with 1, 2, 5 or 10 devices by turns."""
    rng = np.random.default_rng(seed)
    scenario = random_scenario(rng, count or DEVICE_COUNTS[seed % len(DEVICE_COUNTS)])
    return scenario, random_allocation(rng, scenario)
