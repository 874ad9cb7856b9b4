"""Stage totals: the coordinates in which the planning problem is convex over linear.

The change of variables is two-way wherever both stages have rounds (docs/theory.md). A stage
without rounds has zero totals; coming back, it is written as if it ran flat out on the smallest
batches, which is legal and costs nothing.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxedge.scenario.scenario import Scenario
from jaxedge.system.allocation import Allocation, StageAllocation
from jaxedge.system.channel import power_for_rate, weakest_downlink_gain
from jaxedge.system.round_costs import round_costs


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Totals:
    """What each stage uses over all its rounds."""

    pretraining_rounds: ArrayLike
    """() M."""
    finetuning_rounds: ArrayLike
    """() N."""
    server_samples: ArrayLike
    """() X_0 = M b_0."""
    server_time: ArrayLike
    """() T_0 = M c_0 b_0/f_0 in s."""
    device_samples: ArrayLike
    """(K,) X_k = N b_k."""
    device_time: ArrayLike
    """(K,) C_k = N c_k b_k/f_k in s, computing."""
    upload_time: ArrayLike
    """(K,) U_k = N S_u/rate_k in s."""
    broadcast_time: ArrayLike
    """() D = N S_d/rate_0 in s."""
    finetuning_time: ArrayLike
    """() T_1 >= D + max_k (C_k + U_k) in s."""


def to_totals(scenario: Scenario, allocation: Allocation) -> Totals:
    """Totals of an allocation, with T_1 at its least."""
    first = jnp.asarray(allocation.pretraining_rounds)
    second = jnp.asarray(allocation.finetuning_rounds)
    spent = round_costs(scenario, allocation)
    computing, uploads = second * spent.devices.time, second * spent.uploads.time
    broadcast = second * spent.broadcast.time
    return Totals(
        pretraining_rounds=first,
        finetuning_rounds=second,
        server_samples=first * allocation.server.batch,
        server_time=first * spent.server.time,
        device_samples=second * allocation.devices.batch,
        device_time=computing,
        upload_time=uploads,
        broadcast_time=broadcast,
        finetuning_time=broadcast + jnp.max(computing + uploads),
    )


def from_totals(scenario: Scenario, totals: Totals) -> Allocation:
    """Allocation of the totals; T_1 limits it and is no part of it.

        b = X/rounds,   f = c X/(computing time),   p = (N0 B/h) (2^(S rounds/(B time)) - 1)

    Args:
        scenario: one scenario.
        totals: with positive entries in each stage that has rounds.
    """
    server, devices = scenario.server, scenario.devices
    first, second = jnp.asarray(totals.pretraining_rounds), jnp.asarray(totals.finetuning_rounds)
    idle = to_totals(scenario, flat_out(scenario))
    server_batch = _per_round(totals.server_samples, first, idle.server_samples)
    server_time = _per_round(totals.server_time, first, idle.server_time)
    device_batch = _per_round(totals.device_samples, second, idle.device_samples)
    device_time = _per_round(totals.device_time, second, idle.device_time)
    return Allocation(
        pretraining_rounds=first,
        finetuning_rounds=second,
        server=StageAllocation(
            batch=server_batch,
            clock=server.cycles_per_sample * server_batch / server_time,
            power=broadcast_power(
                scenario, 1 / _per_round(totals.broadcast_time, second, idle.broadcast_time)
            ),
        ),
        devices=StageAllocation(
            batch=device_batch,
            clock=devices.cycles_per_sample * device_batch / device_time,
            power=upload_power(
                scenario, 1 / _per_round(totals.upload_time, second, idle.upload_time)
            ),
        ),
    )


def flat_out(scenario: Scenario) -> Allocation:
    """One round of each stage on the smallest batches at the highest clocks and powers."""
    server, devices = scenario.server, scenario.devices
    return Allocation(
        pretraining_rounds=1,
        finetuning_rounds=1,
        server=StageAllocation(
            batch=server.min_batch, clock=server.max_clock, power=server.max_power
        ),
        devices=StageAllocation(
            batch=devices.min_batch, clock=devices.max_clock, power=devices.max_power
        ),
    )


def broadcast_power(scenario: Scenario, frequency: ArrayLike) -> Array:
    """() W that broadcast at ``frequency`` models per second, (N0 B_0/g) (2^(S_d r/B_0) - 1)."""
    gain = weakest_downlink_gain(scenario.devices)
    rate = scenario.download_bits * frequency
    return power_for_rate(rate, scenario.server.bandwidth, gain, scenario.noise_density)


def upload_power(scenario: Scenario, frequency: ArrayLike) -> Array:
    """(K,) W that upload at ``frequency`` models per second, (N0 B_k/h_k) (2^(S_u r/B_k) - 1)."""
    devices = scenario.devices
    rate = scenario.upload_bits * frequency
    return power_for_rate(rate, devices.bandwidth, devices.gain, scenario.noise_density)


def _per_round(total: ArrayLike, rounds: Array, idle: ArrayLike) -> Array:
    """Total over rounds, and what an idle stage is written with where there are none."""
    some = rounds > 0
    return jnp.where(some, jnp.asarray(total) / jnp.where(some, rounds, 1), idle)
