"""What limits a design, in both coordinate systems.

Residuals are signed and normalised: a design keeps a limit where its residual is at most 0, and
1e-3 means a limit missed by a thousandth of its size. In the totals of a stage every residual is
jointly convex (docs/theory.md).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxedge.scenario.costs import circuit_power, computing, with_circuit
from jaxedge.scenario.scenario import Devices, Scenario, Server
from jaxedge.system.allocation import Allocation
from jaxedge.system.delay import delay
from jaxedge.system.energy import energy
from jaxedge.system.totals import Totals, broadcast_power, flat_out, to_totals, upload_power


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Residuals:
    """Residuals of the limits on an allocation; the server stands before the devices."""

    energy: Array
    """() energy/E - 1."""
    delay: Array
    """() delay/T - 1."""
    clocks: Array
    """(2, 1+K) -f/f_max and f/f_max - 1."""
    powers: Array
    """(2, 1+K) -p/P_max and p/P_max - 1."""
    batches: Array
    """(2, 1+K) 1 - b/b_min and b/b_max - 1."""
    rounds: Array
    """(2,) M_min - M and N_min - N, over the limit or over 1 where that is less."""


def constraints(scenario: Scenario, allocation: Allocation) -> Residuals:
    """Residuals of all limits in original units.

    Args:
        scenario: one scenario.
        allocation: one allocation with positive clocks and powers, shapes () and (K,).
    """
    server, devices = scenario.server, scenario.devices
    own, theirs = allocation.server, allocation.devices
    clocks = _join(own.clock / server.max_clock, theirs.clock / devices.max_clock)
    powers = _join(own.power / server.max_power, theirs.power / devices.max_power)
    few = _join(1 - own.batch / server.min_batch, 1 - theirs.batch / devices.min_batch)
    many = _join(own.batch / server.max_batch - 1, theirs.batch / devices.max_batch - 1)
    return Residuals(
        energy=energy(scenario, allocation) / scenario.energy_budget - 1,
        delay=delay(scenario, allocation) / scenario.delay_budget - 1,
        clocks=jnp.stack([-clocks, clocks - 1]),
        powers=jnp.stack([-powers, powers - 1]),
        batches=jnp.stack([few, many]),
        rounds=_rounds(scenario, allocation),
    )


def violation(scenario: Scenario, allocation: Allocation) -> Array:
    """() largest residual, infinite where a residual is not a number."""
    leaves = jax.tree.leaves(constraints(scenario, allocation))
    worst = jnp.max(jnp.stack([jnp.max(leaf) for leaf in leaves]))
    return jnp.where(jnp.isnan(worst), jnp.inf, worst)


def feasible(scenario: Scenario, allocation: Allocation, tolerance: ArrayLike = 1e-9) -> Array:
    """() whether every limit holds within ``tolerance``, relative."""
    return violation(scenario, allocation) <= tolerance


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class EnergyInTotals:
    """J of each part over the whole plan; each entry is jointly convex in the totals.

    What circuits draw, W times a total time, is added to each.
    """

    server: Array
    """() kappa_0 c_0³ X_0³/T_0²."""
    devices: Array
    """(K,) kappa_k c_k³ X_k³/C_k²."""
    uploads: Array
    """(K,) U_k (N0 B_k/h_k) (2^(S_u N/(B_k U_k)) - 1)."""
    broadcast: Array
    """() D (N0 B_0/min g_k) (2^(S_d N/(B_0 D)) - 1)."""


def energy_in_totals(scenario: Scenario, totals: Totals) -> EnergyInTotals:
    """Energies as functions of the totals; zero in a stage whose totals are zero."""
    rounds = jnp.asarray(totals.finetuning_rounds)
    uploads = upload_power(scenario, ratio(rounds, totals.upload_time))
    broadcast = broadcast_power(scenario, ratio(rounds, totals.broadcast_time))
    server = _computing(scenario.server, totals.server_samples, totals.server_time)
    devices = _computing(scenario.devices, totals.device_samples, totals.device_time)
    sent = uploads * totals.upload_time, broadcast * totals.broadcast_time
    watts = circuit_power(scenario)
    return EnergyInTotals(
        server=with_circuit(server, totals.server_time, watts.server),
        devices=with_circuit(devices, totals.device_time, watts.devices),
        uploads=with_circuit(sent[0], totals.upload_time, watts.uploads),
        broadcast=with_circuit(sent[1], totals.broadcast_time, watts.broadcast),
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class ResidualsInTotals:
    """Residuals in totals: energy is convex, all others are linear."""

    energy: Array
    """() energy/E - 1."""
    delay: Array
    """() (T_0 + T_1)/T - 1."""
    devices: Array
    """(K,) (C_k + U_k + D - T_1)/T, so that T_1 is the fine-tuning stage's time."""
    clocks: Array
    """(1+K,) (c X/f_max - computing time)/T."""
    powers: Array
    """(1+K,) (N times the least transmission time - D or U_k)/T."""
    batches: Array
    """(2, 1+K) (rounds b_min - X)/b_min and (X - rounds b_max)/b_max."""
    rounds: Array
    """(2,) as in ``Residuals``."""


def constraints_in_totals(scenario: Scenario, totals: Totals) -> ResidualsInTotals:
    """Residuals of all limits in totals; they have the signs that ``constraints`` gives them.

    Args:
        scenario: one scenario.
        totals: nonnegative, shapes () and (K,).
    """
    spent = jax.tree.map(jnp.sum, energy_in_totals(scenario, totals))
    busy = jnp.asarray(totals.device_time) + totals.upload_time + totals.broadcast_time
    total_time = jnp.asarray(totals.server_time) + totals.finetuning_time
    clocks, powers = _least_times(scenario, totals)
    return ResidualsInTotals(
        energy=(spent.server + spent.devices + spent.uploads + spent.broadcast)
        / scenario.energy_budget
        - 1,
        delay=total_time / scenario.delay_budget - 1,
        devices=(busy - totals.finetuning_time) / scenario.delay_budget,
        clocks=clocks / scenario.delay_budget,
        powers=powers / scenario.delay_budget,
        batches=_batches_in_totals(scenario, totals),
        rounds=_rounds(scenario, totals),
    )


def _least_times(scenario: Scenario, totals: Totals) -> tuple[Array, Array]:
    """(1+K,) seconds by which computing, and transmission, is faster than the device allows."""
    server, devices = scenario.server, scenario.devices
    second = jnp.asarray(totals.finetuning_rounds)
    fastest = to_totals(scenario, flat_out(scenario))
    own = jnp.asarray(totals.server_samples) * server.cycles_per_sample / server.max_clock
    theirs = jnp.asarray(totals.device_samples) * devices.cycles_per_sample / devices.max_clock
    broadcast = second * fastest.broadcast_time - totals.broadcast_time
    uploads = second * fastest.upload_time - totals.upload_time
    computed = _join(own - totals.server_time, theirs - totals.device_time)
    return computed, _join(broadcast, uploads)


def _batches_in_totals(scenario: Scenario, totals: Totals) -> Array:
    server, devices = scenario.server, scenario.devices
    first, second = jnp.asarray(totals.pretraining_rounds), jnp.asarray(totals.finetuning_rounds)
    own, theirs = jnp.asarray(totals.server_samples), jnp.asarray(totals.device_samples)
    few = _join(first - own / server.min_batch, second - theirs / devices.min_batch)
    return jnp.stack(
        [few, _join(own / server.max_batch - first, theirs / devices.max_batch - second)]
    )


def ratio(numerator: ArrayLike, denominator: ArrayLike) -> Array:
    """The quotient, with 0/0 = 0 as a stage without rounds needs."""
    some = jnp.asarray(denominator) > 0
    return jnp.where(some, jnp.asarray(numerator) / jnp.where(some, denominator, 1), 0)


def _computing(part: Server | Devices, samples: ArrayLike, time: ArrayLike) -> Array:
    """J, kappa c³ X³/T² in an order that float32 survives."""
    clock = ratio(jnp.asarray(part.cycles_per_sample * samples), time)
    return computing(part, samples, clock, None).energy


def _join(server: ArrayLike, devices: ArrayLike) -> Array:
    return jnp.concatenate([jnp.atleast_1d(server), jnp.atleast_1d(devices)])


def _rounds(scenario: Scenario, design: Allocation | Totals) -> Array:
    least = jnp.stack([scenario.min_pretraining_rounds, scenario.min_finetuning_rounds])
    rounds = jnp.stack([design.pretraining_rounds, design.finetuning_rounds])
    return (least - rounds) / jnp.maximum(least, 1)
