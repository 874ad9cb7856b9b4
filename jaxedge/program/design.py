"""A point of the unit-free program: rounds and the choices of one round of either stage."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array

from jaxedge.program.best_rounds import best_mix
from jaxedge.program.certificates import ray_values
from jaxedge.program.objective import round_noise
from jaxedge.program.program import Program
from jaxedge.program.responses import Prices, Responses, respond


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Design:
    """Rounds, batches, times per sample and transmission exponents of the unit-free program."""

    pretraining_rounds: Array
    finetuning_rounds: Array
    server_batch: Array
    server_sample_time: Array
    broadcast_exponent: Array
    device_batch: Array
    device_sample_time: Array
    upload_exponent: Array
    value: Array
    """() the program's objective; inf where no rounds fit."""


def design_from_responses(program: Program, r: Responses) -> Design:
    """The best rounds for the given responses, as a design."""
    slowest = jnp.max(r.devices.time + r.uploads.time, axis=0) + r.broadcast.time
    noise, device_noise = round_noise(program, r.server.batch, r.devices.batch)
    value = ray_values(program, noise, device_noise, program.gap)
    energy = ray_values(program, r.server.energy, r.finetuning_use[0], -jnp.ones_like(noise))
    delay = ray_values(program, r.server.time, slowest, -jnp.ones_like(noise))
    mix, found = best_mix(value, energy, delay)
    rounds = jnp.sum(mix[:, None] * program.rays, axis=0)
    found = found & (rounds[2] > 0)
    return Design(
        pretraining_rounds=rounds[0] / rounds[2],
        finetuning_rounds=rounds[1] / rounds[2],
        server_batch=r.server.batch,
        server_sample_time=r.server.sample_time,
        broadcast_exponent=r.broadcast.exponent,
        device_batch=r.devices.batch,
        device_sample_time=r.devices.sample_time,
        upload_exponent=r.uploads.exponent,
        value=jnp.where(found, jnp.sum(mix * value, axis=0), jnp.inf),
    )


def recover(program: Program, prices: Prices) -> Design:
    """The design that the prices point to: best responses, then the best rounds."""
    return design_from_responses(program, respond(program, prices))
