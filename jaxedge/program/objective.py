"""What a program minimises, at given rounds and batches."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxedge.program.program import Program


def round_noise(program: Program, server_batch: Array, device_batch: Array) -> tuple[Array, Array]:
    """() each: what a round of pre-training and one of fine-tuning add to the numerator."""
    pretraining = program.floor + program.server.variance / server_batch
    return pretraining, jnp.sum(program.devices.variance / device_batch, axis=0)


def objective(
    program: Program, m: Array, n: Array, server_batch: Array, device_batch: Array
) -> Array:
    """The objective at M = m, N = n and batches; inf where there is no round to average over.

    [gap + M (floor + v0/b0) + N sum_k v_k/b_k] / (M eta0 + N eta)
    """
    pretraining, finetuning = round_noise(program, server_batch, device_batch)
    below = m * program.rounds.server_rate + n * program.rounds.device_rate
    some = jnp.where(below > 0, below, 1)
    return jnp.where(below > 0, (program.gap + m * pretraining + n * finetuning) / some, jnp.inf)
