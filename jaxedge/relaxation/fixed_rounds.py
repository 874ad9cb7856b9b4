"""Designs at fixed rounds: batches cut until both budgets are kept, clocks and powers to match.

Where the rounds may vary, the best mix of them takes up what prices leave unspent or overspent in
the last digits. At fixed rounds the batches have to.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxedge.machine.chunks import in_chunks
from jaxedge.machine.trees import put, select, take
from jaxedge.program.certificates import lower_bound
from jaxedge.program.design import Design
from jaxedge.program.program import Program
from jaxedge.program.responses import Responses, respond
from jaxedge.relaxation.cheapest import cheapest
from jaxedge.relaxation.judge import Relaxed

_CUTS = (0.0, 1e-11, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.5, 1.0)
"""Shares of the batches tried, beside what the prices say is overspent; 1 leaves the least."""


def with_fixed_rounds(programs: Program, answers: Relaxed, gap: float) -> Relaxed:
    """The answers with better designs where the rounds are fixed and ``gap`` is missed."""
    rounds = programs.rounds
    fixed = (rounds.min_pretraining == rounds.max_pretraining) & (
        rounds.tied | (rounds.min_finetuning == rounds.max_finetuning)
    )
    which = np.flatnonzero(fixed & (answers.gap > gap))
    if not which.size:
        return answers
    found: Relaxed = in_chunks(_settled, *take((programs, answers), which))
    return put(answers, which, found)


@jax.jit
@jax.vmap
def _settled(program: Program, answer: Relaxed) -> Relaxed:
    """The better of the answer's design and those of cut batches, each with its least energy."""
    r, rounds = respond(program, answer.prices), program.rounds
    m = rounds.min_pretraining
    n = jnp.where(rounds.tied, m, rounds.min_finetuning)
    cuts = _overspent(program, answer, r, m, n) + jnp.asarray(_CUTS, m.dtype)

    def at(cut: Array) -> Design:
        kept = jnp.maximum(1 - cut, 0)
        server = jnp.maximum(kept * r.server.batch, program.server.min_batch)
        devices = jnp.maximum(kept * r.devices.batch, program.devices.min_batch)
        found = cheapest(program, m, n, server, devices)
        value = jnp.where(found.fits, found.design.value, jnp.inf)
        return dataclasses.replace(found.design, value=value)

    designs = jax.vmap(at)(cuts)
    best: Design = jax.tree.map(lambda x: x[jnp.argmin(designs.value)], designs)
    free = jax.tree.map(jnp.zeros_like, answer.prices)
    bound = lower_bound(program, free)
    return Relaxed(
        design=select(best.value < answer.design.value, best, answer.design),
        prices=select(bound > answer.lower_bound, free, answer.prices),
        lower_bound=jnp.maximum(bound, answer.lower_bound),
    )


def _overspent(program: Program, answer: Relaxed, r: Responses, m: Array, n: Array) -> Array:
    """() share of the free batches whose cost at the prices is what they overspend."""
    lam, nu = answer.prices.energy, answer.prices.time
    slowest = jnp.max(r.devices.time + r.uploads.time) + r.broadcast.time
    energy = m * r.server.energy + n * r.finetuning_use[0] - 1
    delay = m * r.server.time + n * slowest - 1
    server, devices = r.server, r.devices
    of_server = m * jnp.where(server.batch > program.server.min_batch, server.price, 0)
    of_devices = n * jnp.where(devices.batch > program.devices.min_batch, devices.price, 0)
    worth = of_server * server.batch + jnp.sum(of_devices * devices.batch)
    share = (lam * energy + nu * delay) / jnp.where(worth > 0, worth, 1)
    return jnp.clip(jnp.where(worth > 0, share, 0), 0, 1)
