"""From a scenario to the unit-free program, and from the program's point back to an allocation."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxedge.program import costs
from jaxedge.program.design import Design
from jaxedge.program.program import Computing, Program, Rounds, Transmission
from jaxedge.scenario.costs import circuit_power
from jaxedge.scenario.scenario import Devices, Scenario, Server
from jaxedge.scenario.units import LN2
from jaxedge.system.allocation import Allocation, StageAllocation
from jaxedge.system.channel import weakest_downlink_gain


def _computing(
    scenario: Scenario,
    part: Server | Devices,
    circuit: ArrayLike | None,
    variance: Array,
    weight: Array,
) -> Computing:
    energy, delay = scenario.energy_budget, scenario.delay_budget
    work = jnp.asarray(part.capacitance * part.cycles_per_sample**3)
    found = Computing(
        variance=variance,
        work=work / (energy * delay**2),
        weight=weight,
        min_batch=part.min_batch,
        max_batch=part.max_batch,
        min_time=part.cycles_per_sample / (part.max_clock * delay),
        max_time=jnp.full_like(work, jnp.inf),
    )
    if circuit is None:
        return found
    found = dataclasses.replace(found, circuit=circuit * delay / energy)
    # Where time is free its circuits still make a slower sample dearer.
    thriftiest = costs.best_sample_time(found, 1.0, jnp.zeros_like(work))
    return dataclasses.replace(found, max_time=jnp.maximum(thriftiest, found.min_time))


def _transmission(
    scenario: Scenario,
    part: Server | Devices,
    circuit: ArrayLike | None,
    bits: ArrayLike,
    gain: Array,
) -> Transmission:
    nats = bits * LN2 / part.bandwidth
    joules = scenario.noise_density * bits * LN2 / gain
    found = Transmission(
        nats=nats / scenario.delay_budget,
        joules=joules / scenario.energy_budget,
        min_exponent=jnp.zeros_like(nats),
        max_exponent=jnp.log1p(part.max_power * gain / (scenario.noise_density * part.bandwidth)),
    )
    if circuit is None:
        return found
    watts = circuit * scenario.delay_budget / scenario.energy_budget
    found = dataclasses.replace(found, circuit=watts)
    thriftiest = costs.best_exponent(found, 1.0, jnp.zeros_like(nats))
    return dataclasses.replace(found, min_exponent=jnp.minimum(thriftiest, found.max_exponent))


def program_of(
    scenario: Scenario,
    *,
    gap: Array,
    floor: Array,
    server_variance: Array,
    device_variance: Array,
    weight: Array,
    rounds: Rounds,
    finetuning_weight: ArrayLike = 1.0,
    scale: Array | None = None,
) -> Program:
    """The unit-free program of a scenario for a bound with these coefficients.

    Args:
        scenario: validated.
        gap: () numerator at no rounds.
        floor: () numerator share of one pre-training round.
        server_variance: () of one pre-training round times the batch.
        device_variance: (K,) of one fine-tuning round times the batches.
        weight: () pre-training rounds in one of the program.
        rounds: the set of rounds.
        finetuning_weight: () fine-tuning rounds in one of the program.
        scale: () of the numerator, by default ``gap + floor``.
    """
    server, devices = scenario.server, scenario.devices
    scale, watts = gap + floor if scale is None else scale, circuit_power(scenario)
    weights = weight, finetuning_weight * jnp.ones_like(devices.gain)
    variances = server_variance / scale, device_variance / scale
    bits = finetuning_weight * scenario.upload_bits, finetuning_weight * scenario.download_bits
    weakest = weakest_downlink_gain(devices)
    return Program(
        gap=gap / scale,
        floor=floor / scale,
        server=_computing(scenario, server, watts.server, variances[0], weights[0]),
        devices=_computing(scenario, devices, watts.devices, variances[1], weights[1]),
        uploads=_transmission(scenario, devices, watts.uploads, bits[0], devices.gain),
        broadcast=_transmission(scenario, server, watts.broadcast, bits[1], weakest),
        rounds=rounds,
        rays=rounds.rays(),
        scale=scale,
        energy_unit=scenario.energy_budget,
        delay_unit=scenario.delay_budget,
    )


def program_at_rounds(
    scenario: Scenario,
    pretraining_rounds: Array,
    finetuning_rounds: Array,
    *,
    constant: Array,
    server_variance: Array,
    device_variance: Array,
) -> Program:
    """The program of ``constant + server_variance/b0 + sum device_variance/b`` at fixed rounds.

    Each stage as a whole is one "round" of the program, with its number of rounds as the weight.

    Args:
        scenario: validated.
        pretraining_rounds: () M >= 0.
        finetuning_rounds: () N >= 0.
        constant: () of the bound, > 0.
        server_variance: () >= 0.
        device_variance: (K,) >= 0.
    """
    one = jnp.ones_like(constant)
    least = scenario.server.min_batch, scenario.devices.min_batch
    return program_of(
        scenario,
        gap=jnp.zeros_like(one),
        floor=constant,
        server_variance=server_variance,
        device_variance=device_variance,
        weight=pretraining_rounds,
        finetuning_weight=finetuning_rounds,
        rounds=Rounds(
            min_pretraining=one,
            max_pretraining=one,
            min_finetuning=one,
            max_finetuning=one,
            tied=jnp.zeros_like(one, bool),
            server_rate=jnp.zeros_like(one),
            device_rate=one,
        ),
        scale=constant + server_variance / least[0] + jnp.sum(device_variance / least[1]),
    )


def allocation_of(scenario: Scenario, program: Program, design: Design) -> Allocation:
    """The design in original units; a clock or power at its limit is exactly there."""
    server, devices = scenario.server, scenario.devices

    def stage(
        part: Server | Devices, batch: Array, sample_time: Array, exponent: Array, gain: Array
    ) -> StageAllocation:
        clock = part.cycles_per_sample / (sample_time * program.delay_unit)
        power = scenario.noise_density * part.bandwidth / gain * jnp.expm1(exponent)
        return StageAllocation(
            batch=batch,
            clock=jnp.minimum(clock, part.max_clock),
            power=jnp.minimum(power, part.max_power),
        )

    return Allocation(
        # A round of a program may stand for many.
        pretraining_rounds=design.pretraining_rounds * program.server.weight,
        finetuning_rounds=design.finetuning_rounds * program.devices.weight[0],
        server=stage(
            server,
            design.server_batch,
            design.server_sample_time,
            design.broadcast_exponent,
            weakest_downlink_gain(devices),
        ),
        devices=stage(
            devices,
            design.device_batch,
            design.device_sample_time,
            design.upload_exponent,
            devices.gain,
        ),
    )
