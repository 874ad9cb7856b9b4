"""Which limits an optimum touches: where that changes, derivatives may jump."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxedge.machine.chunks import in_chunks
from jaxedge.program.program import Computing, Program, Transmission
from jaxedge.relaxation.judge import Relaxed
from jaxedge.scenario.scenario import Scenario

_TOLERANCE = 1e-9
"""Relative distance to a limit."""
_SHARE = 1e-6
"""Of the denominator M eta0 + N eta, and of a price in the numerator: less counts as nothing."""


def active_limits(
    scenarios: Scenario, programs: Program, relaxed: Relaxed
) -> dict[str, np.ndarray]:
    """What is active, in words, as (B,) or (B, K) arrays of which only equality matters.

    Limits of a stage that does not run are never active.
    """
    found: dict[str, np.ndarray] = in_chunks(_active, programs, relaxed)
    # Broadcasts serve the weakest device.
    weakest = np.argmin(np.asarray(scenarios.devices.downlink_gain), axis=-1)
    return {**found, "the weakest downlink": weakest}


@jax.jit
@jax.vmap
def _active(program: Program, relaxed: Relaxed) -> dict[str, Array]:
    design, rounds = relaxed.design, program.rounds
    first = design.pretraining_rounds * rounds.server_rate
    second = design.finetuning_rounds * rounds.device_rate
    whole, least = first + second, rounds.min_pretraining * rounds.server_rate
    runs, follows = first > _SHARE * whole, second > _SHARE * whole
    broadcast = _at_power(program.broadcast, design.broadcast_exponent)
    uploads = _at_power(program.uploads, design.upload_exponent)
    server = _at_box(program.server, design.server_batch, design.server_sample_time)
    devices = _at_box(program.devices, design.device_batch, design.device_sample_time)
    further = second - rounds.min_finetuning * rounds.device_rate
    return {
        "pre-training rounds at their minimum": first - least <= _SHARE * whole,
        "fine-tuning rounds at their minimum": further <= _SHARE * whole,
        "energy budget": relaxed.prices.energy > _SHARE,
        "delay budget": relaxed.prices.time > _SHARE,
        **{f"server: {words}": runs & at for words, at in server.items()},
        "server: power at its maximum": follows & broadcast,
        **{f"devices: {words}": follows & at for words, at in devices.items()},
        "devices: power at its maximum": follows & uploads,
    }


def _at_box(part: Computing, batch: Array, sample_time: Array) -> dict[str, Array]:
    return {
        "clock at its maximum": sample_time <= part.min_time * (1 + _TOLERANCE),
        "batch at its minimum": batch <= part.min_batch * (1 + _TOLERANCE),
        "batch at its maximum": batch >= part.max_batch * (1 - _TOLERANCE),
    }


def _at_power(part: Transmission, exponent: Array) -> Array:
    return jnp.asarray(exponent >= part.max_exponent * (1 - _TOLERANCE))
