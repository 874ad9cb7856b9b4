"""The unit-free program in its convex form, as a block-arrow problem for the interior point.

Variables are the totals of docs/theory.md in Charnes-Cooper coordinates, with the rounds as a mix
of the program's rays::

    shared      (w_1, w_2, w_3, X0, T0, D, R)        (P, Q, G) = sum_i w_i ray_i,  sum_i w_i = 1
    device k    (X_k, C_k, U_k)

    minimise    gap G + floor P + variance0 P²/X0 + sum_k variance_k Q²/X_k
    subject to  weight work0 X0³/T0² + send0(Q, D) + sum_k [work_k X_k³/C_k² + send_k(Q, U_k)] <= G
                weight T0 + D + R <= G,    C_k + U_k <= R,    linear limits on X, T0, C, D and U

with send(Q, U) = joules U (e^(nats Q/U) - 1)/nats. The multipliers of the energy row and of the
devices' times are the dual's prices.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxedge.methods.arrow import ArrowProblem, Terms, Variables
from jaxedge.methods.interior_point import InteriorPoint, KktPoint, solve
from jaxedge.methods.roots import decreasing_roots
from jaxedge.program.certificates import lower_bound
from jaxedge.program.design import recover
from jaxedge.program.program import Computing, Program, Transmission
from jaxedge.program.responses import Prices, respond_computing, respond_transmission
from jaxedge.relaxation.dual_bisection import device_log_time

_MARGIN = 1e-8
"""Relative widening of every box, so that a fixed batch, clock or power has an interior."""
_INSIDE = 0.1
"""Share of a box, in logarithms, that the start keeps from its ends."""
_TOLERANCE = 1e-10
"""Of the prices' problem: prices of fast devices are small numbers."""
_NOISE = 1e-7
"""Share of the price of time below which a difference of prices means nothing."""
_TILT = 1e-9
"""Slope of log time in log price by which a device that does not react keeps its price."""
_REACH = 20.0
"""Greatest change of the logarithm of a device's price in the polish."""
_LEAST_PRICE = 1e-30
_ROUND_TIME = 6
"""Position of R among the shared variables."""
_DEVICE_TIME = 0
"""Position of C_k + U_k <= R among the local rows."""


def _weights(s: Array) -> Array:
    """(4,) weights of the rays."""
    return jnp.concatenate([s[:3], 1 - jnp.sum(s[:3], keepdims=True)])


def _mix(program: Program, s: Array) -> tuple[Array, Array, Array]:
    """(P, Q, G) of the shared variables."""
    rounds = jnp.sum(_weights(s)[:, None] * program.rays, axis=0)
    return rounds[0], rounds[1], rounds[2]


def _repeats(rays: Array) -> Array:
    """(4,) 1 at each ray that stood before: unless it costs something, its weight is undefined."""
    same = jnp.all(rays[:, None] == rays[None], axis=2)
    return 1.0 * jnp.any(jnp.tril(same, -1), axis=1)


def _computing_rows(part: Computing, rounds: Array, samples: Array, time: Array) -> list[Array]:
    """Batch and time per sample inside their boxes."""
    there = jnp.isfinite(part.max_time)
    slowest = jnp.where(there, part.max_time, 0.0) * (1 + _MARGIN)
    return [
        rounds * part.min_batch * (1 - _MARGIN) - samples,
        samples - rounds * part.max_batch * (1 + _MARGIN),
        samples * part.min_time * (1 - _MARGIN) - time,
        jnp.where(there, time - samples * slowest, -1.0),
    ]


def _sending_rows(part: Transmission, rounds: Array, time: Array) -> list[Array]:
    """Exponent nats rounds/time inside its box."""
    there = part.min_exponent > 0
    least = jnp.where(there, part.min_exponent, 0.0) * (1 - _MARGIN)
    nats = part.nats * rounds
    return [
        nats - time * part.max_exponent * (1 + _MARGIN),
        jnp.where(there, time * least - nats, -1.0),
    ]


def _computing_energy(part: Computing, samples: Array, time: Array) -> Array:
    return part.weight * part.work * samples * (samples / time) ** 2


def _sending_energy(part: Transmission, rounds: Array, time: Array) -> Array:
    return part.joules / part.nats * time * jnp.expm1(part.nats * rounds / time)


def _shared(program: Program, s: Array) -> Terms:
    p, q, g = _mix(program, s)
    samples, time, broadcast, slowest = s[3], s[4], s[5], s[6]
    server = program.server
    spent = _computing_energy(server, samples, time)
    spent = spent + _sending_energy(program.broadcast, q, broadcast)
    rows = [
        server.weight * time + broadcast + slowest - g,
        *_computing_rows(server, p, samples, time),
        *_sending_rows(program.broadcast, q, broadcast),
    ]
    bound = program.gap * g + program.floor * p + server.variance * p * (p / samples)
    return Terms(
        objective=bound + jnp.sum(_repeats(program.rays) * _weights(s)),
        coupling=(spent - g)[None],
        residuals=jnp.concatenate([jnp.stack(rows), -s[:3], jnp.sum(s[:3], keepdims=True) - 1]),
    )


def _view(program: Program, s: Array) -> Array:
    return jnp.stack([_mix(program, s)[1], s[6]])


def _block(program: Program, device: tuple[Computing, Transmission], v: Array, x: Array) -> Terms:
    part, upload = device
    rounds, slowest = v[0], v[1]
    samples, computing, sending = x[0], x[1], x[2]
    spent = _computing_energy(part, samples, computing)
    spent = spent + _sending_energy(upload, rounds, sending)
    rows = [
        computing + sending - slowest,
        *_computing_rows(part, rounds, samples, computing),
        *_sending_rows(upload, rounds, sending),
    ]
    return Terms(
        objective=part.variance * rounds * (rounds / samples),
        coupling=spent[None],
        residuals=jnp.stack(rows),
    )


PROGRAM = ArrowProblem(shared=_shared, block=_block, view=_view)
"""Parameters: the program; of a block: its `Computing` and its `Transmission`."""


def _inside(value: Array, low: Array, high: Array) -> Array:
    """A value moved away from the ends of its box; ends may be 0 or infinite."""
    ratio = jnp.clip(high / jnp.maximum(low, value * 1e-3), 1.0, 1e3)
    low, high = low * ratio**_INSIDE, high / ratio**_INSIDE
    return jnp.clip(value, low, high)


def start(program: Program) -> Variables:
    """An inner point: best responses to even prices, and rounds that leave room in both budgets."""
    count = program.devices.work.shape[0]
    lam = jnp.full_like(program.gap, 1 / 3)
    nus = jnp.full_like(program.devices.work, 2 / 3 / count)
    server, own = program.server, respond_computing(program.server, lam, 2 * lam)
    devices, each = program.devices, respond_computing(program.devices, lam, nus)
    b0, tau0 = _computing_start(server, own.batch, own.sample_time)
    b, tau = _computing_start(devices, each.batch, each.sample_time)
    wait = _sending_start(program.broadcast, lam, 2 * lam)
    send = _sending_start(program.uploads, lam, nus)
    slowest = 1.1 * jnp.max(b * tau + send)
    energy = _sending_energy(program.broadcast, jnp.ones_like(lam), wait) + jnp.sum(
        _computing_energy(devices, b, b * tau)
        + _sending_energy(program.uploads, 1 + 0 * send, send)
    )
    pre = jnp.stack([_computing_energy(server, b0, b0 * tau0), server.weight * b0 * tau0])
    weights = _rounds_start(program, pre, jnp.stack([energy, wait + slowest]))
    p, q, _ = _mix(program, weights[:3])
    shared = jnp.stack([p * b0, p * b0 * tau0, q * wait, q * slowest])
    blocks = jnp.stack([q * b, q * b * tau, q * send], axis=1)
    return Variables(jnp.concatenate([weights[:3], shared]), blocks)


def _computing_start(part: Computing, batch: Array, time: Array) -> tuple[Array, Array]:
    return (
        _inside(batch, part.min_batch, part.max_batch),
        _inside(time, part.min_time, part.max_time),
    )


def _sending_start(part: Transmission, lam: Array, nu: Array) -> Array:
    """Time of a transmission in a round."""
    exponent = respond_transmission(part, lam, nu).exponent
    return part.nats / _inside(exponent, part.min_exponent, part.max_exponent)


def _rounds_start(program: Program, pre: Array, fine: Array) -> Array:
    """(4,) weights of the rays: mostly on the one with most room, half of it left to the others."""
    rays = program.rays
    used = rays[:, :1] * pre[None] + rays[:, 1:2] * fine[None] - rays[:, 2:]
    roomiest = jnp.argmin(jnp.max(used / jnp.maximum(rays[:, 2:], 1e-300), axis=1))
    best = jnp.arange(4) == roomiest
    room = -used[roomiest]
    others = jnp.maximum(jnp.sum(jnp.where(best[:, None], 0.0, used), axis=0) / 3, 0.0)
    share = jnp.min(jnp.where(room > 0, room / (room + others), 0.2))
    return jnp.where(best, 1 - share / 2, share / 6)


def solve_program(program: Program, settings: InteriorPoint | None = None) -> KktPoint:
    """The interior point's answer to a feasible scalar program; batching is vmap."""
    return solve(PROGRAM, program, (program.devices, program.uploads), start(program), settings)


def prices_of(program: Program, answer: KktPoint) -> Prices:
    """The dual's prices at an answer.

    A device whose time is worth little has a price that the barrier spoils, by a share that would
    make its best response too slow or too costly. Its pace at the answer tells the price better,
    lam |d energy/d time|; what that moves is given to the dearest device, so that the sum stays.
    """
    z, (shared, blocks) = answer.multipliers, answer.variables
    lam, nus = z.coupling[0], z.blocks[:, _DEVICE_TIME]
    samples, computing, sending = blocks[:, 0], blocks[:, 1], blocks[:, 2]
    exponent = program.uploads.nats * _mix(program, shared)[1] / sending
    by_work = 2 * program.devices.work * (samples / computing) ** 3
    steepness = (exponent - 1) * jnp.expm1(exponent) + exponent
    by_send = program.uploads.joules / program.uploads.nats * steepness
    pace = lam * jnp.maximum(by_work, by_send)
    dearest = jnp.arange(nus.shape[0]) == jnp.argmax(nus)
    spoilt = (jnp.abs(nus - pace) < _NOISE * jnp.sum(nus)) & ~dearest
    told = jnp.where(spoilt, pace, nus)
    rest = jnp.sum(nus - told)
    return Prices(energy=lam, device_time=jnp.where(dearest, told + rest, told))


def polished(program: Program, answer: KktPoint) -> Prices:
    """The dual's prices at an answer, split anew among the devices where that certifies more.

    At the answer's energy price and round time each device's price of time is the root at which it
    takes that time; what its sum misses of the price of time is the dearest device's. A device at
    all its limits, whose time tells nothing, keeps its multiplier.
    """
    first = prices_of(program, answer)
    z, shared = answer.multipliers, answer.variables.shared
    lam, nus = first.energy, jnp.maximum(z.blocks[:, _DEVICE_TIME], _LEAST_PRICE)
    log_round = jnp.log(shared[_ROUND_TIME] / _mix(program, shared)[1])
    start = jnp.log(nus)

    def excess(log_nu: Array) -> Array:
        time = device_log_time(program, lam, log_nu, integer=False)
        return time - log_round - _TILT * (log_nu - start)

    roots = decreasing_roots(
        excess, start - _REACH, start + _REACH, start, tolerance=1e-12, max_steps=40
    )
    split = jnp.exp(roots)
    dearest = jnp.arange(nus.shape[0]) == jnp.argmax(nus)
    rest = jnp.sum(nus) - jnp.sum(jnp.where(dearest, 0.0, split))
    again = Prices(energy=lam, device_time=jnp.where(dearest, rest, split))
    better = _certified(program, again) < _certified(program, first)
    chosen: Prices = jax.tree.map(lambda a, b: jnp.where(better, a, b), again, first)
    return chosen


def _certified(program: Program, prices: Prices) -> Array:
    """() the absolute gap at given prices."""
    return recover(program, prices).value - lower_bound(program, prices)


def interior_point_prices(program: Program) -> Prices:
    """Prices that maximise the dual of a feasible scalar program, by the interior point.

    Their certificate tells how good they are; a program that breaks the solver has NaN prices.
    """
    return polished(program, solve_program(program, InteriorPoint(tolerance=_TOLERANCE)))
