"""Dual decomposition: Newton's method on the prices, all devices side by side.

The dual, max over prices of the least ray value g_i(lam, nu_k), is solved along its central path.
With weights z_i of the rays, slacks s_i of g_i - theta, a barrier mu and a softness eps,

    z_i s_i = mu,  sum_i z_i = 1,             (P, Q, G) = sum_i z_i ray_i
    log(P e0 + Q e1 + mu/lam)            = log G     energy balances
    log(P t0 + Q (t_bc + R) + mu/nu)     = log G     delay balances
    log(R_k + eps R nu/(K nu_k))         = log R     every device takes the round time R

In the logarithms of the prices these equations are almost linear. The last K of them give each
device's step as an affine function of (dlog lam, dlog R), so an iteration costs O(K) and one 3x3
system, without LAPACK.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxedge.certificates import lower_bound, ray_values
from jaxedge.program import Program
from jaxedge.responses import (
    Prices,
    Send,
    Work,
    respond,
    respond_computing,
    respond_transmission,
)

_MAX_STEP = 3.0
"""Largest change of a price's logarithm in one iteration."""
_GAP = 1e-8
"""Relative difference of the dual value and the path at which the prices are taken as optimal."""
_CHANGE = 1e-9
"""Change of the prices in a step below which they are taken as settled."""
_HOT, _COLD, _COOLING = 0.3, 1e-3, 0.75
_INTEGER_STEPS = 30
_LEAST_SOFTNESS = 1e-8
"""Softness that is kept: it makes the split of the price of time unique where a device at all its
limits does not react to its price."""
_FEASIBILITY_SHARE = 0.01
"""The barrier stays above this share of the slacks' weighted error."""


class State(NamedTuple):
    """An iterate; `dual_value` belongs to the prices before the last step, `change` to the step."""

    log_lam: Array
    log_nu: Array
    log_round: Array
    theta: Array
    weights: Array
    slacks: Array
    barrier: Array
    softness: Array
    dual_value: Array
    change: Array
    steps: Array


class Blur(NamedTuple):
    """Temperatures at which the integer batches of server () and devices (K,) are smoothed."""

    server: Array | None = None
    devices: Array | None = None


_EXACT = Blur()


class _Use(NamedTuple):
    """Energy, time and Lagrangian cost in one round."""

    energy: Array
    time: Array
    cost: Array


class _Point(NamedTuple):
    """Uses at the current prices, with derivatives to log lam and to the log price of time."""

    devices: _Use
    devices_l: _Use
    devices_n: _Use
    server: _Use
    server_l: _Use
    server_n: _Use
    broadcast: _Use
    broadcast_l: _Use
    broadcast_n: _Use


def _of_work(work: Work, lam: Array, nu: Array) -> tuple[_Use, _Use, _Use]:
    """Use by computing, with its derivatives; the price's follow from the envelope theorem."""
    rate = work.batch_slope / work.batch
    by_l = rate * lam * work.energy / work.batch
    by_n = rate * nu * work.time / work.batch
    third = work.time_elasticity
    return (
        _Use(work.energy, work.time, work.cost),
        _Use(work.energy * (by_l - 2 * third), work.time * (by_l + third), lam * work.energy),
        _Use(work.energy * (by_n + 2 * third), work.time * (by_n - third), nu * work.time),
    )


def _of_send(send: Send, lam: Array, nu: Array) -> tuple[_Use, _Use, _Use]:
    """Use by sending, with its derivatives."""
    return (
        _Use(send.energy, send.time, lam * send.energy + nu * send.time),
        _Use(-send.energy_slope, -send.time_slope, lam * send.energy),
        _Use(send.energy_slope, send.time_slope, nu * send.time),
    )


def _evaluate(program: Program, blur: Blur, log_lam: Array, log_nu: Array) -> _Point:
    lam, nus = jnp.exp(log_lam), jnp.exp(log_nu)
    nu = jnp.sum(nus)
    computing = _of_work(respond_computing(program.devices, lam, nus, blur=blur.devices), lam, nus)
    sending = _of_send(respond_transmission(program.uploads, lam, nus), lam, nus)
    devices: tuple[_Use, _Use, _Use] = jax.tree.map(jnp.add, computing, sending)
    server = _of_work(respond_computing(program.server, lam, nu, blur=blur.server), lam, nu)
    broadcast = _of_send(respond_transmission(program.broadcast, lam, nu), lam, nu)
    return _Point(
        *devices,
        server[0]._replace(cost=program.floor + server[0].cost),
        *server[1:],
        *broadcast,
    )


class _Steps(NamedTuple):
    """The prices' steps as affine forms: arrays (3, ...) over (1, dlog lam, dlog R)."""

    log_lam: Array
    log_round: Array
    log_nu: Array
    """(3, K)"""
    log_total: Array


def _device_steps(s: State, at: _Point) -> _Steps:
    """Steps that keep every device's softened time at the round time."""
    nus = jnp.exp(s.log_nu)
    share = nus / jnp.sum(nus)
    soft = s.softness * jnp.exp(s.log_round) / (share * share.shape[0])
    time = at.devices.time + soft
    slope = (at.devices_n.time - soft) / time
    constant = (s.log_round - jnp.log(time)) / slope
    log_nu = jnp.stack([constant, -at.devices_l.time / time / slope, 1 / slope])
    basis = jnp.eye(3, dtype=nus.dtype)
    return _Steps(basis[1], basis[2], log_nu, jnp.sum(log_nu * share[None], axis=1))


class _Form(NamedTuple):
    """A quantity and its step, an affine form over (1, dlog lam, dlog R)."""

    value: Array
    step: Array


def _round_forms(s: State, at: _Point, d: _Steps) -> tuple[_Form, _Form, _Form, _Form]:
    """Energy and time of a pre-training round, then of a fine-tuning round."""

    def moved(by_l: Array, by_n: Array) -> Array:
        return by_l * d.log_lam + by_n * d.log_total

    fine_energy = jnp.sum(at.devices.energy) + at.broadcast.energy
    fine_energy_step = (
        jnp.sum(at.devices_l.energy) * d.log_lam
        + jnp.sum(at.devices_n.energy[None] * d.log_nu, axis=1)
        + moved(at.broadcast_l.energy, at.broadcast_n.energy)
    )
    round_time = jnp.exp(s.log_round)
    fine_time_step = moved(at.broadcast_l.time, at.broadcast_n.time) + round_time * d.log_round
    return (
        _Form(at.server.energy, moved(at.server_l.energy, at.server_n.energy)),
        _Form(at.server.time, moved(at.server_l.time, at.server_n.time)),
        _Form(fine_energy, fine_energy_step),
        _Form(at.broadcast.time + round_time, fine_time_step),
    )


def _ray_forms(program: Program, s: State, at: _Point, d: _Steps) -> _Form:
    """Ray values (4,) and their steps (4, 3); by the envelope theorem slopes are uses."""
    lam, nus = jnp.exp(s.log_lam), jnp.exp(s.log_nu)
    nu = jnp.sum(nus)
    fine_energy = jnp.sum(at.devices.energy) + at.broadcast.energy
    fine_cost = jnp.sum(at.devices.cost) + at.broadcast.cost
    value = ray_values(program, at.server.cost, fine_cost, program.gap - lam - nu)
    d_lam, d_nu = lam * d.log_lam, nu * d.log_total
    pre = at.server.energy * d_lam + at.server.time * d_nu
    fine = (
        fine_energy * d_lam
        + jnp.sum((at.devices.time * nus)[None] * d.log_nu, axis=1)
        + at.broadcast.time * d_nu
    )
    rays = program.rays
    idle = -d_lam - d_nu
    step = rays[:, :1] * pre[None] + rays[:, 1:2] * fine[None] + rays[:, 2:] * idle[None]
    return _Form(value, step)


def _padded(form: Array) -> Array:
    """An affine form over (1, dlog lam, dlog R) as one over (1, dlog lam, dlog R, dtheta)."""
    return jnp.concatenate([form, jnp.zeros(1, form.dtype)])


def _balance(
    s: State, rays: Array, weights_step: Array, pre: _Form, fine: _Form, rest: _Form
) -> Array:
    """Affine form (4,) of log(P pre + Q fine + rest) - log G."""
    p, q, g = (jnp.sum(s.weights * rays[:, j]) for j in range(3))
    dp, dq, dg = (jnp.sum(rays[:, j : j + 1] * weights_step, axis=0) for j in range(3))
    spent = p * pre.value + q * fine.value + rest.value
    moved = pre.value * dp + fine.value * dq
    moved = moved + _padded(p * pre.step + q * fine.step + rest.step)
    residual = jnp.log(spent) - jnp.log(g)
    return (moved / spent - dg / g).at[0].add(residual)


def _solve3(system: Array) -> Array:
    """Root of three affine forms (3, 4) by cross products."""
    system = system / jnp.max(jnp.abs(system[:, 1:]), axis=1, keepdims=True)
    b, c0, c1, c2 = -system[:, 0], system[:, 1], system[:, 2], system[:, 3]
    cross = jnp.cross(c1, c2)
    roots = [jnp.sum(b * cross), jnp.sum(c0 * jnp.cross(b, c2)), jnp.sum(c0 * jnp.cross(c1, b))]
    return jnp.stack(roots) / jnp.sum(c0 * cross)


def _room(value: Array, step: Array) -> Array:
    """Longest step up to 1 that leaves a hundredth of every positive value."""
    return jnp.minimum(jnp.min(jnp.where(step < 0, -0.99 * value / step, 1.0)), 1.0)


def iterate(program: Program, s: State, shrink: ArrayLike, blur: Blur = _EXACT) -> State:
    """One damped Newton step along the central path, which a full step shortens by ``shrink``."""
    lam, nu = jnp.exp(s.log_lam), jnp.sum(jnp.exp(s.log_nu))
    at = _evaluate(program, blur, s.log_lam, s.log_nu)
    d = _device_steps(s, at)
    pre_energy, pre_time, fine_energy, fine_time = _round_forms(s, at, d)
    rays = _ray_forms(program, s, at, d)
    error = rays.value - s.theta - s.slacks
    # Forms over (1, dlog lam, dlog R, dtheta) from here on.
    slacks = jnp.concatenate([rays.step, -jnp.ones_like(rays.step[:, :1])], axis=1)
    slacks = slacks.at[:, 0].add(error)
    weights = -(s.weights / s.slacks)[:, None] * slacks
    weights = weights.at[:, 0].add(s.barrier / s.slacks - s.weights)
    unspent = _Form(s.barrier / lam, -s.barrier / lam * d.log_lam)
    idle = _Form(s.barrier / nu, -s.barrier / nu * d.log_total)
    sums = jnp.sum(weights, axis=0).at[0].add(jnp.sum(s.weights) - 1)
    energy = _balance(s, program.rays, weights, pre_energy, fine_energy, unspent)
    delay = _balance(s, program.rays, weights, pre_time, fine_time, idle)
    root = _solve3(jnp.stack([sums, energy, delay]))
    x = jnp.concatenate([jnp.ones_like(root[:1]), root])

    d_slacks, d_weights = jnp.sum(slacks * x[None], axis=1), jnp.sum(weights * x[None], axis=1)
    d_log_nu = jnp.sum(d.log_nu * x[:3, None], axis=0)
    length = jnp.minimum(_room(s.slacks, d_slacks), _room(s.weights, d_weights))
    length = jnp.minimum(length, _MAX_STEP / jnp.max(jnp.abs(root[:2])))
    new_weights, new_slacks = s.weights + length * d_weights, s.slacks + length * d_slacks
    theta = s.theta + length * root[2]
    barrier = jnp.minimum(s.barrier, jnp.mean(new_weights * new_slacks))
    barrier = jnp.maximum(
        barrier * (1 - (1 - shrink) * length),
        _FEASIBILITY_SHARE * jnp.sum(s.weights * jnp.abs(error)),
    )
    return State(
        log_lam=s.log_lam + length * root[0],
        log_nu=s.log_nu + jnp.clip(length * d_log_nu, -_MAX_STEP, _MAX_STEP),
        log_round=s.log_round + length * root[1],
        theta=theta,
        weights=new_weights,
        slacks=new_slacks,
        barrier=jnp.maximum(barrier, 1e-2 * _GAP * jnp.abs(theta)),
        softness=jnp.maximum(shrink * s.softness, _LEAST_SOFTNESS),
        dual_value=jnp.min(rays.value),
        change=lam * jnp.abs(root[0]) + jnp.abs(root[1]),
        steps=s.steps + 1,
    )


def state_at(program: Program, log_lam: Array, log_nu: Array, blur: Blur = _EXACT) -> State:
    """A central-path iterate at the given log prices."""
    at = _evaluate(program, blur, log_lam, log_nu)
    fine_cost = jnp.sum(at.devices.cost) + at.broadcast.cost
    idle = program.gap - jnp.exp(log_lam) - jnp.sum(jnp.exp(log_nu))
    value = ray_values(program, at.server.cost, fine_cost, idle)
    least = jnp.min(value)
    theta = least - 0.3 * jnp.abs(least)
    weights = 1 / (value - theta) / jnp.sum(1 / (value - theta))
    return State(
        log_lam=log_lam,
        log_nu=log_nu,
        log_round=jnp.mean(jnp.log(at.devices.time)),
        theta=theta,
        weights=weights,
        slacks=value - theta,
        barrier=jnp.mean(weights * (value - theta)),
        softness=jnp.full_like(theta, 0.1),
        dual_value=jnp.full_like(theta, -jnp.inf),
        change=jnp.full_like(theta, jnp.inf),
        steps=jnp.zeros((), int),
    )


def initial_state(program: Program) -> State:
    """The prices of a design limited by computing alone, (1/3, 2/3), split evenly."""
    count = program.devices.work.shape[0]
    log_lam = jnp.full_like(program.gap, -jnp.log(3.0))
    log_nu = jnp.full_like(program.devices.work, jnp.log(2 / 3) - jnp.log(1.0 * count))
    return state_at(program, log_lam, log_nu)


def solve_prices(program: Program, shrink: ArrayLike, max_steps: ArrayLike) -> Prices:
    """Prices that maximise the dual of a feasible scalar program.

    Args:
        program: scalar program; batching is vmap.
        shrink: () factor in (0, 1) of the barrier in a full step: 0.1 is fast, 0.5 is careful.
        max_steps: () integer limit on the iterations.

    Returns:
        The prices; the certificate tells how good they are.
    """

    def settled(s: State) -> Array:
        close = jnp.abs(s.dual_value - s.theta) <= 4 * _GAP * jnp.abs(s.theta)
        return close & (s.barrier <= _GAP * jnp.abs(s.theta)) & (s.change <= _CHANGE)

    def alive(s: State) -> Array:
        return ~settled(s) & (s.steps < max_steps) & jnp.isfinite(s.theta)

    def advance(s: State) -> State:
        return iterate(program, s, shrink)

    s = jax.lax.while_loop(alive, advance, initial_state(program))
    return Prices(energy=jnp.exp(s.log_lam), device_time=jnp.exp(s.log_nu))


def integer_prices(program: Program, start: Prices) -> tuple[Prices, Array]:
    """Prices of a high Lagrangian bound for integer batches, and that bound.

    The integer dual has kinks; Newton follows a smoothed one, whose batches are soft minima over
    the two nearest integers, while the temperature falls. Every iterate is judged exactly.

    Args:
        program: scalar program; batching is vmap.
        start: prices of the relaxed optimum.

    Returns:
        The best prices met and their lower bound, never below the bound at ``start``.
    """
    relaxed = respond(program, start)
    scale = Blur(
        program.server.variance / relaxed.server.batch,
        program.devices.variance / relaxed.devices.batch,
    )

    def advance(i: Array, carry: tuple[State, Prices, Array]) -> tuple[State, Prices, Array]:
        state, best, bound = carry
        heat = jnp.maximum(_HOT * _COOLING**i, _COLD)
        blur = jax.tree.map(lambda t: heat * t + jnp.finfo(t.dtype).tiny, scale)
        state = iterate(program, state, 0.5, blur)
        prices = Prices(energy=jnp.exp(state.log_lam), device_time=jnp.exp(state.log_nu))
        value = lower_bound(program, prices, integer=True)
        better = value > bound
        best = jax.tree.map(lambda a, b: jnp.where(better, a, b), prices, best)
        return state, best, jnp.maximum(value, bound)

    tiny = jnp.finfo(program.gap.dtype).tiny
    log_lam = jnp.log(jnp.maximum(start.energy, tiny**0.1))
    log_nu = jnp.log(jnp.maximum(start.device_time, tiny**0.1))
    bound = lower_bound(program, start, integer=True)
    carry = (state_at(program, log_lam, log_nu), start, bound)
    _, best, bound = jax.lax.fori_loop(0, _INTEGER_STEPS, advance, carry)
    return best, bound
