"""A local optimum over rounds, batches, clocks and powers: Newton's method on all conditions.

At fixed rounds X = (M, N) the problem is convex and its dual concave: prices solve

    log(M e0 + N e1 + mu/lam) = 0,   log(M t0 + N (t_bc + R) + mu/nu) = 0,
    log(t_k + eps R nu/(K nu_k)) = log R                  (every device takes the round time R)

and by the envelope theorem the value's gradient is that of phi(X; prices). All are linearised
together. The devices' equations give their steps in terms of (log lam, log R, M, N), two more give
those of lam and R, and what is left is the value's Hessian, 2x2: its eigenvalues' sizes are taken,
so that steps descend.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxedge.bounds.modes import Modes, coefficients
from jaxedge.outer.plane.forms import Used, batch_step, form, use_of_send, use_of_work
from jaxedge.outer.plane.rounds import Plane
from jaxedge.program.program import Computing, Program
from jaxedge.program.responses import (
    Prices,
    Send,
    Work,
    respond_computing,
    respond_transmission,
)

STEPS = 40
_PRICE_STEPS = 6
"""First steps, with the rounds held."""
_MAX_STEP = 2.0
"""Of the logarithms of prices."""
_REACH = 0.5
"""Largest relative change of the rounds in a step."""
_FAR = 0.2
"""Relative change of the rounds beyond which the barrier stays."""
_SOFTNESS = 1e-9
_BARRIER = 0.1
_LEAST_BARRIER = 1e-12


class Path(NamedTuple):
    """An iterate."""

    rounds: Array
    """(2,) M and N."""
    log_lam: Array
    log_nu: Array
    """(K,)"""
    log_round: Array
    barrier: Array


def noise_per_round(total: Array, rounds: Array) -> Array:
    """Noise as a `Program` counts it, by the round."""
    return total / jnp.maximum(rounds, jnp.finfo(total.dtype).tiny ** 0.3)


def responses(
    program: Program, server_noise: Array, device_noise: Array, prices: Prices
) -> tuple[Work, Work, Send, Send]:
    """Best responses where the rounds' noise is known: server, devices, uploads, broadcast."""

    def with_noise(part: Computing, noise: Array) -> Computing:
        return dataclasses.replace(part, variance=noise)

    lam, nus, nu = prices.energy, prices.device_time, prices.time
    return (
        respond_computing(with_noise(program.server, server_noise), lam, nu),
        respond_computing(with_noise(program.devices, device_noise), lam, nus),
        respond_transmission(program.uploads, lam, nus),
        respond_transmission(program.broadcast, lam, nu),
    )


def begin(program: Program, rounds: Array) -> Path:
    """A path at given rounds, from even prices of a tenth of the loss."""
    count = program.devices.work.shape[0]
    start = jnp.log(jnp.asarray(0.1, rounds.dtype))
    return Path(
        rounds=rounds,
        log_lam=start,
        log_nu=jnp.full(count, start - jnp.log(count * 1.0)),
        log_round=jnp.log(0.5 / jnp.maximum(rounds[1], 1.0)),
        barrier=jnp.asarray(_BARRIER, rounds.dtype),
    )


def descend(program: Program, modes: Modes, plane: Plane, path: Path, steps: int = STEPS) -> Path:
    """The path after so many steps."""

    def body(i: Array, p: Path) -> Path:
        return _step(program, modes, plane, p, i < _PRICE_STEPS)

    return jax.lax.fori_loop(0, steps, body, path)


def prices_of(path: Path) -> Prices:
    """The prices of an iterate."""
    return Prices(energy=jnp.exp(path.log_lam), device_time=jnp.exp(path.log_nu))


def _expanded(modes: Modes, rounds: Array) -> tuple[Array, Array, Array]:
    """(2 + K,) coefficients, with their gradient (2 + K, 2) and Hessian (2 + K, 2, 2)."""

    def of(x: Array) -> tuple[Array, Array]:
        at = coefficients(modes, x[0], x[1])
        flat = jnp.concatenate([at.constant[None], at.server[None], at.devices])
        return flat, flat

    def slopes(x: Array) -> tuple[Array, tuple[Array, Array]]:
        slope, value = jax.jacfwd(of, has_aux=True)(x)
        return slope, (slope, value)

    bend, (slope, value) = jax.jacfwd(slopes, has_aux=True)(rounds)
    return value, slope, bend


def _step(program: Program, modes: Modes, plane: Plane, p: Path, hold: Array) -> Path:
    """One damped Newton step; with ``hold`` the rounds stay."""
    lam, nus = jnp.exp(p.log_lam), jnp.exp(p.log_nu)
    nu, count = jnp.sum(nus), nus.shape[0]
    _, slope, bend = _expanded(modes, p.rounds)
    tiny = jnp.finfo(lam.dtype).tiny ** 0.3
    # A stage of no round computes nothing: its noise per round is the limit, as from few rounds.
    few = jnp.maximum(p.rounds, 1e-6)
    near, near_slope, _ = _expanded(modes, few)
    noise0, noises = near[1] / few[0], near[2:] / few[1]
    log0 = near_slope[1] / jnp.maximum(near[1], tiny) - jnp.stack([1 / few[0], 0 * lam])
    logs = (
        near_slope[2:] / jnp.maximum(near[2:], tiny)[:, None]
        - jnp.stack([0 * lam, 1 / few[1]])[None]
    )
    work0, works, uploads, broadcast = responses(program, noise0, noises, prices_of(p))
    server = use_of_work(work0, lam, nu, log0)
    computing, sending = use_of_work(works, lam, nus, logs.T), use_of_send(uploads)
    device: Used = jax.tree.map(jnp.add, computing, sending)
    cast = use_of_send(broadcast)

    # The devices' steps.
    share = nus / nu
    soft = _SOFTNESS * jnp.exp(p.log_round) / (share * count)
    time = device.time + soft
    early = p.log_round - jnp.log(time)
    by = device.time_by
    elastic = jnp.minimum((by[1] - soft) / time, -1e-12)
    d_nus = form(
        early / elastic,
        lam=-by[0] / time / elastic,
        round=1 / elastic,
        m=-by[2] / time / elastic,
        n=-by[3] / time / elastic,
    )
    d_nu = jnp.sum(share[None] * d_nus, axis=1)

    def moved(of: tuple[Array, ...], price: Array) -> Array:
        """The form of a quantity's step."""
        own = form(0 * of[0], lam=of[0], m=of[2], n=of[3])
        return own + of[1][None] * price

    m, n = p.rounds[0], p.rounds[1]
    unit = jnp.eye(5, dtype=lam.dtype)
    e0, t0 = moved(server.energy_by, d_nu), moved(server.time_by, d_nu)
    e_each = moved(device.energy_by, d_nus)
    e_cast, t_cast = moved(cast.energy_by, d_nu), moved(cast.time_by, d_nu)
    fine_energy = jnp.sum(device.energy) + cast.energy
    round_time = jnp.exp(p.log_round)
    fine_time = cast.time + round_time
    unspent, idle = p.barrier / lam, p.barrier / nu
    energy = m * server.energy + n * fine_energy + unspent
    delay = m * server.time + n * fine_time + idle
    d_energy = (
        m * e0
        + n * (jnp.sum(e_each, axis=1) + e_cast)
        - unspent * unit[1]
        + server.energy * unit[3]
        + fine_energy * unit[4]
    ) / energy + jnp.log(energy) * unit[0]
    d_delay = (
        m * t0
        + n * (t_cast + round_time * unit[2])
        - idle * d_nu
        + server.time * unit[3]
        + fine_time * unit[4]
    ) / delay + jnp.log(delay) * unit[0]

    # The gradient to the rounds, by the envelope theorem, and its step.
    inverse0, inverses = 1 / work0.batch, 1 / works.batch
    gradient = slope[0] + slope[1] * inverse0 + jnp.sum(slope[2:] * inverses[:, None], axis=0)
    cost0 = lam * server.energy + nu * server.time
    costs = lam * fine_energy + jnp.sum(nus * device.time) + nu * cast.time
    gradient = gradient + jnp.stack([cost0, costs])
    curved = bend[0] + bend[1] * inverse0 + jnp.sum(bend[2:] * inverses[:, None, None], axis=0)
    d_log_b0 = batch_step(work0, lam, nu, log0, d_nu, unit)
    d_log_b = batch_step(
        works, lam, nus, logs.T, d_nus, jnp.broadcast_to(unit[..., None], (5, 5, count))
    )
    d_gradient = [
        gradient[i] * unit[0]
        + curved[i, 0] * unit[3]
        + curved[i, 1] * unit[4]
        - slope[1, i] * inverse0 * d_log_b0
        - jnp.sum((slope[2:, i] * inverses)[None] * d_log_b, axis=1)
        for i in range(2)
    ]
    lam_step = lam * server.energy * unit[1] + nu * server.time * d_nu
    d_gradient[0] += lam_step + cost0 * d_log_b0
    computing_cost = lam * computing.energy + nus * computing.time
    d_gradient[1] += (
        lam * fine_energy * unit[1]
        + jnp.sum((nus * device.time)[None] * d_nus, axis=1)
        + nu * cast.time * d_nu
        + jnp.sum(computing_cost[None] * d_log_b, axis=1)
    )

    # Eliminate lam and R.
    a, b, c, d = d_energy[1], d_energy[2], d_delay[1], d_delay[2]
    determinant = a * d - b * c
    determinant = jnp.where(jnp.abs(determinant) > 1e-14, determinant, -1e-14)
    rest = jnp.stack([d_energy, d_delay])[:, jnp.array([0, 3, 4])]
    d_lam = -(d * rest[0] - b * rest[1]) / determinant
    d_round = -(a * rest[1] - c * rest[0]) / determinant
    reduced = [g[jnp.array([0, 3, 4])] + g[1] * d_lam + g[2] * d_round for g in d_gradient]
    dx = _descent(plane, p.rounds, reduced)
    dx = jnp.where(hold, 0.0, dx)
    one = jnp.concatenate([jnp.ones(1, dx.dtype), dx])
    step_lam, step_round = jnp.sum(d_lam * one), jnp.sum(d_round * one)
    full = jnp.concatenate([jnp.ones(1, dx.dtype), step_lam[None], step_round[None], dx])
    step_nus = jnp.sum(full[:, None] * d_nus, axis=0)
    length = jnp.minimum(
        1.0, _MAX_STEP / jnp.maximum(jnp.maximum(jnp.abs(step_lam), jnp.abs(step_round)), tiny)
    )
    # Budgets stay soft while the rounds still move far: prices that fell to nothing come back late.
    far = jnp.max(jnp.abs(dx) / jnp.maximum(p.rounds, 1e-3 * plane.high))
    shrink = jnp.where(hold | (far > _FAR), 1.0, 1 - 0.8 * length)
    return Path(
        rounds=jnp.clip(p.rounds + dx, plane.low, plane.high),
        log_lam=p.log_lam + length * step_lam,
        log_nu=p.log_nu + jnp.clip(length * step_nus, -_MAX_STEP, _MAX_STEP),
        log_round=p.log_round + length * step_round,
        barrier=jnp.maximum(p.barrier * shrink, _LEAST_BARRIER),
    )


def _descent(plane: Plane, rounds: Array, reduced: list[Array]) -> Array:
    """(2,) a step of the rounds along which the value falls, within their limits."""
    scale = jnp.maximum(rounds, 1e-3 * plane.high)
    gradient = jnp.stack([reduced[0][0], reduced[1][0]]) * scale
    cross = (reduced[0][2] + reduced[1][1]) / 2 * scale[0] * scale[1]
    first, second = reduced[0][1] * scale[0] ** 2, reduced[1][2] * scale[1] ** 2
    stuck = ((rounds <= plane.low) & (gradient > 0)) | ((rounds >= plane.high) & (gradient < 0))
    cross = jnp.where(jnp.any(stuck), 0.0, cross)
    # |H| of a symmetric 2x2 matrix is (H² + |det| I)/trace of the root.
    size = jnp.abs(first * second - cross**2) ** 0.5
    squares = first**2 + cross**2, cross * (first + second), second**2 + cross**2
    trace = jnp.sqrt(squares[0] + squares[2] + 2 * size**2)
    floor = 1e-12 + 1e-9 * trace
    a = (squares[0] + size**2) / jnp.maximum(trace, 1e-30) + floor
    b = squares[1] / jnp.maximum(trace, 1e-30)
    c = (squares[2] + size**2) / jnp.maximum(trace, 1e-30) + floor
    below = a * c - b * b
    dx = -jnp.stack([c * gradient[0] - b * gradient[1], a * gradient[1] - b * gradient[0]]) / below
    alone = -gradient / jnp.stack([a, c])
    dx = jnp.where(jnp.any(stuck), alone, dx)
    dx = jnp.where(stuck, 0.0, dx)
    # A step that would leave the limits is cut there, one coordinate at a time.
    longest = jnp.max(jnp.abs(dx)) / _REACH
    dx = dx / jnp.maximum(longest, 1.0)
    return jnp.clip(rounds + dx * scale, plane.low, plane.high) - rounds
