"""Lower bounds on a loss of decaying modes over boxes in the plane of rounds, from prices.

At fixed prices the Lagrangian is explicit in the rounds (docs/theory.md)::

    phi(M, N) = F(M, N) + h(S(M, N), M kap_0) + sum_k h(D_k(M, N), N kap_k) + N sending - lam - nu,
    h(s, r) = min over b in [b_min, b_max] of s/b + r b

For each choice of batches phi is F + S/b_0 + sum_k D_k/b_k and something linear in M and in N, and
a minimum of functions lies below its chord by no more than one of them does. So in a box phi is no
less than the least of its four corners, less what F, S/b_0 and D_k/b_k sag below their chords along
M and then along N. An exponential exp(-y) of a linear y that grows by x sags by at most gamma(x)
times its greatest value; the warm-up bends y a little. All this is of second order in the box.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxedge.bounds.modes import Modes
from jaxedge.outer.plane.values import (
    Costs,
    Parts,
    Table,
    best_batch,
    bracket,
    costs_at,
    least_cost,
    parts_of,
    spread,
    tabulated,
)
from jaxedge.program.program import Program
from jaxedge.program.responses import Prices


def sag(x: Array) -> Array:
    """At least gamma(x) = 1 - k + k ln k with k = (1 - e^-x)/x, and at most 1.

    exp(-y) with y from 0 to x lies at most gamma(x) below its chord. As x falls to 0,
    (x²/gamma - 8 - 4 x)/x² falls to 7/9.
    """
    return jnp.minimum(x * x / (8 + 4 * x + 0.77 * x * x), 1.0)


def box_bounds(
    program: Program,
    modes: Modes,
    prices: Prices,
    first: Array,
    second: Array,
    *,
    integer: bool = False,
) -> tuple[Array, Array]:
    """Phi on a grid, and lower bounds on it over the grid's boxes.

    Args:
        program: scalar, in units of the loss; its rounds and noise play no part.
        modes: of the loss.
        prices: any >= 0 of the scaled budgets.
        first: (I,) M, increasing.
        second: (L,) N, increasing.
        integer: restrict batches to whole numbers.

    Returns:
        (I, L) values, and (I - 1, L - 1) bounds: no design of rounds in a box that keeps both
        budgets has a smaller loss, whatever its batches, clocks and powers.
    """
    costs = costs_at(program, prices)
    at = tabulated(modes, first, second)
    parts = parts_of(modes, program, costs, at, first, second, integer)
    value = parts.value
    corners = jnp.minimum(value[:-1], value[1:])
    corners = jnp.minimum(corners[:, :-1], corners[:, 1:])
    server, devices, rise = _least_batches(modes, program, costs, at, first, second, integer)
    along_m = _sag_along_first(modes, at, first, second, server, rise)
    along_n = _sag_along_second(modes, at, first, second, server, devices, parts)
    return value, corners - along_m - along_n


def _least_batches(
    modes: Modes,
    program: Program,
    costs: Costs,
    at: Table,
    first: Array,
    second: Array,
    integer: bool,
) -> tuple[Array, Array, Array]:
    """No smaller batches than (I - 1, L - 1) and (I - 1, L - 1, K) are best in the boxes.

    Also (I - 1, L - 1) how much the server's cost differs within a box at most.
    """
    part = program.server

    def noise(left: Array, forgotten: Array) -> Array:
        return jnp.sum(left * (forgotten * modes.server_noise[None])[:, None], axis=-1)

    least = noise(at.left[1:, 1:], at.forgotten[:-1])
    most = noise(at.left[:-1, :-1], at.forgotten[1:])
    cheap, dear = first[:-1, None] * costs.server, first[1:, None] * costs.server
    server = best_batch(part, least, dear, integer=integer)
    highest = least_cost(part, most, dear, integer=integer)
    rise = highest - least_cost(part, least, cheap, integer=integer)
    devices = best_batch(
        spread(program.devices, 2),
        at.devices[:-1, :-1],
        second[None, 1:, None] * costs.devices[None, None],
        integer=integer,
    )
    return server, devices, rise


def _sag_along_first(
    modes: Modes, at: Table, first: Array, second: Array, server: Array, rise: Array
) -> Array:
    """(I - 1, L - 1) how far phi sags below its chords along M."""
    a, c, g = modes.pretraining_rate, modes.finetuning_rate, modes.forgetting_rate
    quad = modes.start - 2 * modes.cross + modes.shift
    lin = 2 * (modes.cross - modes.shift)
    q = at.kept[:-1]
    m_step = (at.m[1:] - at.m[:-1])[:, None]
    n_step = (at.n[1:] - at.n[:-1])[:, 1:, None] * c[None, None]
    # Under a warm-up m is convex and n concave in M: how far they leave their chords.
    warm = jnp.where(modes.warmup > 0, modes.warmup, 1)
    before = modes.clock_ratio * first
    bend = jnp.exp(-before[:-1] / warm) * sag((before[1:] - before[:-1]) / warm) * modes.warmup
    m_bend = (bend / modes.clock_ratio)[:, None]
    n_bend = bend[:, None] * -jnp.expm1(-second[None, 1:] / warm)
    n_bend = jnp.minimum(n_bend[..., None] * c[None, None], 1.0)

    def convex(rate: Array) -> Array:
        """Of exp(-c n - rate m)."""
        return jnp.minimum(sag(n_step + (rate[None] * m_step)[:, None]) + n_bend, 1.0)

    def concave(rate: Array) -> Array:
        """Of -exp(-c n - rate m)."""
        return jnp.minimum(jnp.expm1(jnp.minimum(rate[None] * m_bend, 1.0)), 1.0)

    flat = jnp.minimum(sag(n_step) + n_bend, 1.0)
    positive, negative = jnp.maximum(lin, 0)[None] * q, jnp.maximum(-lin, 0)[None] * q
    of_loss = (
        (jnp.maximum(quad, 0)[None] * q**2)[:, None] * convex(2 * a)
        + positive[:, None] * convex(a)
        + (negative * concave(a))[:, None]
        + modes.shift[None, None] * flat
    )
    gone = concave(g) * (1 - at.forgotten[:-1])
    of_server = modes.server_noise[None, None] * (flat + gone[:, None])
    left = at.left[:-1, :-1]
    of_noise = jnp.minimum(jnp.sum(left * of_server, axis=-1) / server, rise)
    return jnp.sum(left * of_loss, axis=-1) + of_noise


def _sag_along_second(
    modes: Modes,
    at: Table,
    first: Array,
    second: Array,
    server: Array,
    devices: Array,
    parts: Parts,
) -> Array:
    """(I - 1, L - 1) how far phi sags below its chords along N, at either end of M."""
    c = modes.finetuning_rate
    step = (at.n[:, 1:] - at.n[:, :-1])[..., None] * c[None, None]
    left = at.left[:, :-1]
    falling = left * sag(step)
    of_loss = jnp.sum(falling * bracket(modes, at.kept)[:, None], axis=-1)
    of_server = jnp.sum(falling * (at.forgotten * modes.server_noise[None])[:, None], axis=-1)
    # Under a warm-up n is convex in N.
    warm = jnp.where(modes.warmup > 0, modes.warmup, 1)
    before = (modes.clock_ratio * first)[:, None] + second[None, :-1]
    bend = jnp.exp(-before / warm) * sag((second[1:] - second[:-1]) / warm)[None] * modes.warmup
    rising = left * jnp.minimum(jnp.expm1(jnp.minimum(c[None, None] * bend[..., None], 1.0)), 1.0)
    of_devices = rising @ modes.device_noise.T

    # Along N the server's cost falls and the devices' rise, neither by more than from end to end.
    fall = parts.server[:, :-1] - parts.server[:, 1:]
    rise = parts.devices[:, 1:] - parts.devices[:, :-1]

    def at_end(i: slice) -> Array:
        of_server_noise = jnp.minimum(of_server[i] / server, fall[i])
        of_device_noise = jnp.minimum(of_devices[i] / devices, rise[i])
        return of_loss[i] + of_server_noise + jnp.sum(of_device_noise, axis=-1)

    return jnp.maximum(at_end(slice(None, -1)), at_end(slice(1, None)))
