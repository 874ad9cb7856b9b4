"""The plane of rounds of a scenario, and the program whose budgets limit it."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxedge.bounds.formulation import program_of
from jaxedge.program.program import Program, Rounds
from jaxedge.scenario.scenario import Scenario


class Plane(NamedTuple):
    """The rounds that are searched."""

    low: Array
    """(2,) the fewest."""
    high: Array
    """(2,) no design has more."""


def plane_program(scenario: Scenario) -> Program:
    """The program of a validated scenario that the search takes: budgets, costs and limits.

    Its value is in units of the loss; its noise plays no part, as the modes tell it.
    """
    one = jnp.ones_like(jnp.asarray(scenario.energy_budget, float))
    return program_of(
        scenario,
        gap=one,
        floor=0 * one,
        server_variance=0 * one,
        device_variance=jnp.zeros_like(jnp.asarray(scenario.devices.gain)),
        weight=one,
        rounds=Rounds(
            min_pretraining=one * scenario.min_pretraining_rounds,
            max_pretraining=jnp.inf * one,
            min_finetuning=one * scenario.min_finetuning_rounds,
            max_finetuning=jnp.inf * one,
            tied=one < 0,
            server_rate=one,
            device_rate=one,
        ),
    )


def plane_of(program: Program) -> Plane:
    """The rounds between the program's fewest and what either budget alone allows.

    M rounds of the smallest batch b take at least M b tau_min, and within the whole delay at least
    M³ b³ work of energy; N rounds take the slowest device's least time, and at least the energy
    that sending takes in unlimited time.
    """
    server, devices, uploads, cast = (
        program.server,
        program.devices,
        program.uploads,
        program.broadcast,
    )
    sample = jnp.maximum(server.min_time, jnp.cbrt(server.work)) * server.min_batch
    each = devices.min_batch * devices.min_time + uploads.nats / uploads.max_exponent
    time = jnp.max(each) + cast.nats / cast.max_exponent
    joules = jnp.sum(uploads.joules) + cast.joules
    most = jnp.stack([1 / sample, 1 / jnp.maximum(time, joules)])
    rounds = program.rounds
    low = jnp.stack([rounds.min_pretraining, rounds.min_finetuning])
    high = jnp.stack([rounds.max_pretraining, rounds.max_finetuning])
    return Plane(low, jnp.maximum(jnp.minimum(most, high), low))
