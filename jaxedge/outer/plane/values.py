"""The Lagrangian at fixed prices, explicit in the rounds: phi on grids of the plane."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxedge.bounds.modes import Modes, effective_rounds
from jaxedge.program.program import Computing, Program
from jaxedge.program.responses import Prices, respond_computing, respond_transmission


class Costs(NamedTuple):
    """What prices ask for one sample, one round's sending, and both budgets."""

    server: Array
    """() of a sample."""
    devices: Array
    """(K,) of a sample."""
    sending: Array
    """() of a fine-tuning round."""
    budgets: Array
    """() lam + nu."""


def costs_at(program: Program, prices: Prices) -> Costs:
    """The costs at prices of the scaled budgets, in units of the loss."""
    lam, nus, nu = prices.energy, prices.device_time, prices.time
    uploads = respond_transmission(program.uploads, lam, nus)
    broadcast = respond_transmission(program.broadcast, lam, nu)
    sending = jnp.sum(lam * uploads.energy + nus * uploads.time, axis=0)
    return Costs(
        server=respond_computing(program.server, lam, nu).price,
        devices=respond_computing(program.devices, lam, nus).price,
        sending=sending + lam * broadcast.energy + nu * broadcast.time,
        budgets=lam + nu,
    )


class Table(NamedTuple):
    """Modes at the nodes (I, L) of a grid of rounds."""

    kept: Array
    """(I, J) q."""
    forgotten: Array
    """(I, J) 1 - exp(-g m)."""
    left: Array
    """(I, L, J) R."""
    m: Array
    """(I,) effective pre-training rounds."""
    n: Array
    """(I, L) effective fine-tuning rounds."""
    devices: Array
    """(I, L, K) D."""


def tabulated(modes: Modes, first: Array, second: Array) -> Table:
    """The modes on the grid of M in ``first`` (I,) and N in ``second`` (L,)."""
    m, n = effective_rounds(
        modes.warmup,
        modes.clock_ratio,
        first[:, None] + 0 * second[None],
        second[None] + 0 * first[:, None],
    )
    m = m[:, 0]
    left = jnp.exp(-modes.finetuning_rate[None, None] * n[..., None])
    gone = 1 - left
    return Table(
        kept=jnp.exp(-modes.pretraining_rate[None] * m[:, None]),
        forgotten=-jnp.expm1(-modes.forgetting_rate[None] * m[:, None]),
        left=left,
        m=m,
        n=n,
        devices=gone @ modes.device_noise.T,
    )


def bracket(modes: Modes, kept: Array) -> Array:
    """(I, J) what pre-training leaves of start and shift."""
    lost = 1 - kept
    start, cross, shift = (x[None] for x in (modes.start, modes.cross, modes.shift))
    return start * kept**2 + 2 * cross * kept * lost + shift * lost**2


def best_batch(part: Computing, noise: Array, cost: Array, *, integer: bool) -> Array:
    """Batch that minimises noise/b + cost b, whole where asked for."""
    tiny = jnp.finfo(noise.dtype).tiny
    free = jnp.sqrt(noise / jnp.maximum(cost, tiny))
    if not integer:
        return jnp.clip(free, part.min_batch, part.max_batch)
    # For whole b, noise/b + cost b falls until b (b + 1) >= noise/cost.
    whole = jnp.ceil(jnp.sqrt(0.25 + jnp.minimum(free, 1e9) ** 2) - 0.5)
    return jnp.clip(whole, part.min_batch, part.max_batch)


def least_cost(part: Computing, noise: Array, cost: Array, *, integer: bool) -> Array:
    """Min over b of noise/b + cost b."""
    batch = best_batch(part, noise, cost, integer=integer)
    return noise / batch + cost * batch


class Parts(NamedTuple):
    """Phi at the nodes (I, L), and what of it the batches' noise and samples cost."""

    value: Array
    server: Array
    """(I, L)"""
    devices: Array
    """(I, L, K)"""


def parts_of(
    modes: Modes,
    program: Program,
    costs: Costs,
    at: Table,
    first: Array,
    second: Array,
    integer: bool,
) -> Parts:
    """Phi at the nodes of a table, whose rounds are ``first`` and ``second``."""
    left = modes.floor + jnp.sum(at.left * bracket(modes, at.kept)[:, None], axis=-1)
    server = jnp.sum(at.left * (at.forgotten * modes.server_noise[None])[:, None], axis=-1)
    pre = least_cost(program.server, server, first[:, None] * costs.server, integer=integer)
    fine = least_cost(
        spread(program.devices, 2),
        at.devices,
        second[None, :, None] * costs.devices[None, None],
        integer=integer,
    )
    rest = second[None] * costs.sending - costs.budgets
    return Parts(left + pre + jnp.sum(fine, axis=-1) + rest, pre, fine)


def spread(part: Computing, axes: int) -> Computing:
    """The limits with new leading axes."""
    spread: Computing = jax.tree.map(lambda x: x[(None,) * axes] if x.ndim else x, part)
    return spread


def dual_values(
    program: Program,
    modes: Modes,
    prices: Prices,
    first: Array,
    second: Array,
    *,
    integer: bool = False,
) -> Array:
    """(I, L) phi on the grid of M in ``first`` (I,) and N in ``second`` (L,)."""
    at = tabulated(modes, first, second)
    costs = costs_at(program, prices)
    return parts_of(modes, program, costs, at, first, second, integer).value
