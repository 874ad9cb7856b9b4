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

from jaxedge.program.certificates import ray_values
from jaxedge.program.program import Program
from jaxedge.program.responses import Prices, Send, Work, respond_computing, respond_transmission

FAST = 0.2
"""Shrink factors up to this one make the barrier fall faster than linearly."""
_MAX_STEP = 2.0
"""Largest change of a price's logarithm in one iteration."""
_GAP = 1e-8
"""Relative difference of the dual value and the path at which the prices are taken as optimal."""
_CHANGE = 1e-9
"""Change of the prices in a step below which they are taken as settled."""
_LEAST_SOFTNESS = 1e-8
"""Softness that is kept: it makes the split of the price of time unique where a device at all its
limits does not react to its price."""
_FEASIBILITY_SHARE = 0.01
"""The barrier stays above this share of the slacks' weighted error."""
_MISMATCH_SHARE = 0.1
"""The softness does not fall below this share of the squared mismatch of the devices' times."""
_STILL, _JUMP, _DAMPING = 1e-6, 0.3, 0.6
"""Where shared prices change less than the first, a device's step in its logarithmic price beyond
the second is multiplied by the third."""


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
    """Iterations taken."""
    max_steps: Array
    """Iterations allowed."""
    shrink: Array
    """Factor in (0, 1) of the barrier in a full step: 0.15 is fast, 0.5 is careful."""


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
    of_energy, of_time = work.energy_elasticity, work.time_elasticity
    return (
        _Use(work.energy, work.time, work.cost),
        _Use(work.energy * (by_l + of_energy), work.time * (by_l + of_time), lam * work.energy),
        _Use(work.energy * (by_n - of_energy), work.time * (by_n - of_time), nu * work.time),
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
    nu = jnp.sum(nus, axis=0)
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


class _Affine(NamedTuple):
    """A step that is affine in the steps of the shared unknowns, dlog lam and dlog R."""

    one: Array
    lam: Array
    """Of dlog lam."""
    round: Array
    """Of dlog R."""


class _Row(NamedTuple):
    """A step that is affine in dtheta, too; zero for a condition."""

    step: _Affine
    theta: Array
    """Of dtheta."""


def _times(factor: Array, form: _Affine) -> _Affine:
    return _Affine(factor * form.one, factor * form.lam, factor * form.round)


def _sum(*forms: _Affine) -> _Affine:
    return _Affine(*(sum(parts[1:], parts[0]) for parts in zip(*forms, strict=True)))


def _reduced(factor: Array, form: _Affine) -> _Affine:
    """Sum over devices or rays of ``factor`` times their forms."""
    return _Affine(*(jnp.sum(factor * part, axis=0) for part in form))


class _Steps(NamedTuple):
    """The prices' steps, where every device's softened time stays at the round time."""

    nus: _Affine
    """(K,)"""
    nu: _Affine
    """Of log nu."""
    mismatch: Array
    """() how far the devices' times are from the round time, relative, weighted by their prices."""


def _device_steps(s: State, at: _Point) -> _Steps:
    nus = jnp.exp(s.log_nu)
    share = nus / jnp.sum(nus, axis=0)
    soft = s.softness * jnp.exp(s.log_round) / (share * share.shape[0])
    time = at.devices.time + soft
    slope = (at.devices_n.time - soft) / time
    early = s.log_round - jnp.log(time)
    forms = _Affine(early / slope, -at.devices_l.time / time / slope, 1 / slope)
    return _Steps(
        nus=forms,
        nu=_reduced(share, forms),
        mismatch=jnp.sum(share * jnp.abs(early), axis=0),
    )


def _moved(d: _Steps, by_lam: Array, by_nu: Array) -> _Affine:
    """The step of what has these slopes in log lam and in log nu."""
    step = _times(by_nu, d.nu)
    return step._replace(lam=by_lam + step.lam)


class _Form(NamedTuple):
    """A quantity and its step."""

    value: Array
    step: _Affine


def _round_forms(s: State, at: _Point, d: _Steps) -> tuple[_Form, _Form, _Form, _Form]:
    """Energy and time of a pre-training round, then of a fine-tuning round."""
    server = at.server, at.server_l, at.server_n
    energy, time = (_moved(d, *by) for by in zip(server[1][:2], server[2][:2], strict=True))
    fine_energy = jnp.sum(at.devices.energy, axis=0) + at.broadcast.energy
    of_devices = _reduced(at.devices_n.energy, d.nus)
    by_lam = jnp.sum(at.devices_l.energy, axis=0) + of_devices.lam
    of_broadcast = _moved(d, at.broadcast_l.energy, at.broadcast_n.energy)
    round_time = jnp.exp(s.log_round)
    fine_time_step = _moved(d, at.broadcast_l.time, at.broadcast_n.time)
    return (
        _Form(at.server.energy, energy),
        _Form(at.server.time, time),
        _Form(fine_energy, _sum(of_devices._replace(lam=by_lam), of_broadcast)),
        _Form(
            at.broadcast.time + round_time,
            fine_time_step._replace(round=fine_time_step.round + round_time),
        ),
    )


def _ray_forms(program: Program, s: State, at: _Point, d: _Steps) -> _Form:
    """Ray values (4,) and their steps; by the envelope theorem slopes are uses."""
    lam, nus = jnp.exp(s.log_lam), jnp.exp(s.log_nu)
    nu = jnp.sum(nus, axis=0)
    fine_energy = jnp.sum(at.devices.energy, axis=0) + at.broadcast.energy
    fine_cost = jnp.sum(at.devices.cost, axis=0) + at.broadcast.cost
    value = ray_values(program, at.server.cost, fine_cost, program.gap - lam - nu)
    pre = _moved(d, at.server.energy * lam, at.server.time * nu)
    of_devices = _reduced(at.devices.time * nus, d.nus)
    of_devices = of_devices._replace(lam=fine_energy * lam + of_devices.lam)
    fine = _sum(of_devices, _times(at.broadcast.time * nu, d.nu))
    idle = _moved(d, -lam, -nu)
    rays = program.rays
    steps = _times(rays[:, 0], pre), _times(rays[:, 1], fine), _times(rays[:, 2], idle)
    return _Form(value, _sum(*steps))


def _balance(s: State, rays: Array, weights: _Row, pre: _Form, fine: _Form, rest: _Form) -> _Row:
    """The condition log(P pre + Q fine + rest) = log G."""
    p, q, g = (jnp.sum(s.weights * rays[:, j], axis=0) for j in range(3))
    dp, dq, dg = (_reduced(rays[:, j], weights.step) for j in range(3))
    by_theta = [jnp.sum(rays[:, j] * weights.theta, axis=0) for j in range(3)]
    spent = p * pre.value + q * fine.value + rest.value
    factors = pre.value / spent, fine.value / spent, -1 / g
    moved = _sum(
        _times(factors[0], dp),
        _times(factors[1], dq),
        _times(p / spent, pre.step),
        _times(q / spent, fine.step),
        _times(1 / spent, rest.step),
        _times(factors[2], dg),
    )
    theta = factors[0] * by_theta[0] + factors[1] * by_theta[1] + factors[2] * by_theta[2]
    return _Row(moved._replace(one=moved.one + jnp.log(spent / g)), theta)


def _solve3(rows: tuple[_Row, _Row, _Row]) -> tuple[Array, Array, Array]:
    """The steps at which three conditions hold, by Cramer's rule."""
    scaled = []
    for step, theta in rows:
        size = jnp.maximum(jnp.maximum(jnp.abs(step.lam), jnp.abs(step.round)), jnp.abs(theta))
        scaled.append([part / size for part in (*step, theta)])
    b, x, y, z = ([row[i] for row in scaled] for i in range(4))

    def determinant(u: list[Array], v: list[Array], w: list[Array]) -> Array:
        return (
            u[0] * (v[1] * w[2] - v[2] * w[1])
            + u[1] * (v[2] * w[0] - v[0] * w[2])
            + u[2] * (v[0] * w[1] - v[1] * w[0])
        )

    below = -1 / determinant(x, y, z)
    return (
        determinant(b, y, z) * below,
        determinant(x, b, z) * below,
        determinant(x, y, b) * below,
    )


def _room(value: Array, step: Array) -> Array:
    """Longest step up to 1 that leaves a hundredth of every positive value."""
    return jnp.minimum(jnp.min(jnp.where(step < 0, -0.99 * value / step, 1.0), axis=0), 1.0)


def _shrinks(s: State) -> tuple[Array, Array]:
    """Factors of barrier and softness in a full step."""
    fast = s.shrink <= FAST
    size = s.barrier / jnp.abs(s.theta)

    def factor(distance: Array) -> Array:
        return jnp.where(fast, jnp.minimum(s.shrink, jnp.sqrt(distance)), s.shrink)

    return factor(size), factor(s.softness)


def iterate(program: Program, s: State, blur: Blur = _EXACT) -> State:
    """One damped Newton step along the central path, which a full step shortens by ``shrink``."""
    shrink, soft_shrink = _shrinks(s)
    lam, nu = jnp.exp(s.log_lam), jnp.sum(jnp.exp(s.log_nu), axis=0)
    at = _evaluate(program, blur, s.log_lam, s.log_nu)
    d = _device_steps(s, at)
    pre_energy, pre_time, fine_energy, fine_time = _round_forms(s, at, d)
    rays = _ray_forms(program, s, at, d)
    error = rays.value - s.theta - s.slacks
    slacks = _Row(rays.step._replace(one=rays.step.one + error), jnp.full_like(error, -1.0))
    stiffness = -(s.weights / s.slacks)
    weights_step = _times(stiffness, slacks.step)
    one = weights_step.one + s.barrier / s.slacks - s.weights
    weights = _Row(weights_step._replace(one=one), stiffness * slacks.theta)
    none = jnp.zeros_like(lam)
    unspent = _Form(s.barrier / lam, _Affine(none, -s.barrier / lam, none))
    idle = _Form(s.barrier / nu, _times(-s.barrier / nu, d.nu))
    sums: _Row = jax.tree.map(lambda part: jnp.sum(part, axis=0), weights)
    excess = sums.step.one + jnp.sum(s.weights, axis=0) - 1
    sums = sums._replace(step=sums.step._replace(one=excess))
    energy = _balance(s, program.rays, weights, pre_energy, fine_energy, unspent)
    delay = _balance(s, program.rays, weights, pre_time, fine_time, idle)
    d_lam, d_round, d_theta = _solve3((sums, energy, delay))

    def taken(form: _Affine) -> Array:
        return form.one + form.lam * d_lam + form.round * d_round

    d_slacks = taken(slacks.step) + slacks.theta * d_theta
    d_weights, d_log_nu = taken(weights.step) + weights.theta * d_theta, taken(d.nus)
    length = jnp.minimum(_room(s.slacks, d_slacks), _room(s.weights, d_weights))
    farthest = jnp.maximum(jnp.abs(d_lam), jnp.abs(d_round))
    length = jnp.minimum(length, _MAX_STEP / farthest)
    new_weights, new_slacks = s.weights + length * d_weights, s.slacks + length * d_slacks
    theta = s.theta + length * d_theta
    # Times have kinks where a device comes to a limit: at both sides of one, steps may lead to each
    # other for ever. Once the shared prices stand still, such steps are taken in part.
    jumps = (s.change < _STILL) & (jnp.abs(d_log_nu) > _JUMP)
    d_log_nu = jnp.where(jumps, _DAMPING, 1.0) * d_log_nu
    barrier = jnp.minimum(s.barrier, jnp.mean(new_weights * new_slacks, axis=0))
    barrier = jnp.maximum(
        barrier * (1 - (1 - shrink) * length),
        _FEASIBILITY_SHARE * jnp.sum(s.weights * jnp.abs(error), axis=0),
    )
    soft = jnp.maximum(soft_shrink * s.softness, _MISMATCH_SHARE * d.mismatch**2)
    return State(
        log_lam=s.log_lam + length * d_lam,
        log_nu=s.log_nu + jnp.clip(length * d_log_nu, -_MAX_STEP, _MAX_STEP),
        log_round=s.log_round + length * d_round,
        theta=theta,
        weights=new_weights,
        slacks=new_slacks,
        barrier=jnp.maximum(barrier, 1e-2 * _GAP * jnp.abs(theta)),
        softness=jnp.maximum(jnp.minimum(soft, s.softness), _LEAST_SOFTNESS),
        dual_value=jnp.min(rays.value, axis=0),
        change=lam * jnp.abs(d_lam) + jnp.abs(d_round),
        steps=s.steps + 1,
        max_steps=s.max_steps,
        shrink=s.shrink,
    )


def filled(program: Program, s: State, blur: Blur = _EXACT) -> State:
    """The state on the central path at prices where a path begins."""
    at = _evaluate(program, blur, s.log_lam, s.log_nu)
    fine_cost = jnp.sum(at.devices.cost, axis=0) + at.broadcast.cost
    nus = jnp.exp(s.log_nu)
    nu = jnp.sum(nus, axis=0)
    idle = program.gap - jnp.exp(s.log_lam) - nu
    value = ray_values(program, at.server.cost, fine_cost, idle)
    least = jnp.min(value, axis=0)
    theta = least - 3 * s.softness * jnp.abs(least)
    weights = 1 / (value - theta) / jnp.sum(1 / (value - theta), axis=0)
    return s._replace(
        log_round=jnp.log(jnp.sum(nus * at.devices.time, axis=0) / nu),
        theta=theta,
        weights=weights,
        slacks=value - theta,
        barrier=jnp.mean(weights * (value - theta), axis=0),
    )


def prices_at(s: State) -> Prices:
    """The prices of an iterate."""
    return Prices(energy=jnp.exp(s.log_lam), device_time=jnp.exp(s.log_nu))


def advance(program: Program, state: State) -> State:
    """Follow the central path of the dual until it ends or the allowed steps are taken.

    Args:
        program: feasible scalar program, or one with trailing batch axes.
        state: from `dual_paths.begin`, or from an earlier call with more steps allowed.

    Returns:
        The state arrived at; the certificate of its prices tells how good they are.
    """

    def alive(s: State) -> Array:
        close = jnp.abs(s.dual_value - s.theta) <= 4 * _GAP * jnp.abs(s.theta)
        settled = close & (s.barrier <= _GAP * jnp.abs(s.theta)) & (s.change <= _CHANGE)
        return ~settled & (s.steps < s.max_steps) & jnp.isfinite(s.theta)

    def chosen(which: Array, a: State, b: State) -> State:
        kept: State = jax.tree.map(lambda x, y: jnp.where(which, x, y), a, b)
        return kept

    start = chosen(state.steps == 0, filled(program, state), state)
    return jax.lax.while_loop(
        lambda s: jnp.any(alive(s)),
        lambda s: chosen(alive(s), iterate(program, s), s),
        start,
    )
