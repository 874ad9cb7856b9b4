"""The relaxed program by the interior point: where it starts, and the prices at its answer.

The multipliers of the energy row and of the devices' times are the dual's prices (`arrow_form`);
those that the barrier spoils are told anew from the point.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxedge.methods.arrow import Variables
from jaxedge.methods.interior_point import InteriorPoint, KktPoint, solve
from jaxedge.methods.roots import decreasing_roots
from jaxedge.program import costs
from jaxedge.program.certificates import lower_bound
from jaxedge.program.design import recover
from jaxedge.program.program import Computing, Program, Transmission
from jaxedge.program.responses import Prices, respond_computing, respond_transmission
from jaxedge.relaxation.arrow_form import (
    DEVICE_TIME,
    PROGRAM,
    Device,
    Mix,
    Shared,
)
from jaxedge.relaxation.dual_bisection import device_log_time

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


def _inside(value: Array, low: Array, high: Array) -> Array:
    """A value moved away from the ends of its box; ends may be 0 or infinite."""
    ratio = jnp.clip(high / jnp.maximum(low, value * 1e-3), 1.0, 1e3)
    low, high = low * ratio**_INSIDE, high / ratio**_INSIDE
    return jnp.clip(value, low, high)


class _Round(NamedTuple):
    """A part's choices and what they cost in one round."""

    batch: Array
    sample_time: Array
    computing: tuple[Array, Array]
    """Energy and time."""
    sending: tuple[Array, Array]


def _round(part: Computing, link: Transmission, lam: Array, nu: Array) -> _Round:
    """The best responses to prices, moved away from the ends of their boxes."""
    work, sent = respond_computing(part, lam, nu), respond_transmission(link, lam, nu)
    batch = _inside(work.batch, part.min_batch, part.max_batch)
    time = _inside(work.sample_time, part.min_time, part.max_time)
    exponent = _inside(sent.exponent, link.min_exponent, link.max_exponent)
    energy, seconds = costs.computing(part, time)
    return _Round(batch, time, (batch * energy, batch * seconds), costs.sending(link, exponent))


def start(program: Program) -> Variables:
    """An inner point: best responses to even prices, and rounds that leave room in both budgets."""
    count = program.devices.work.shape[0]
    lam = jnp.full_like(program.gap, 1 / 3)
    nus = jnp.full_like(program.devices.work, 2 / 3 / count)
    server = _round(program.server, program.broadcast, lam, 2 * lam)
    devices = _round(program.devices, program.uploads, lam, nus)
    wait, send = server.sending[1], devices.sending[1]
    slowest = 1.1 * jnp.max(devices.computing[1] + send)
    energy = server.sending[0] + jnp.sum(devices.computing[0] + devices.sending[0])
    fine = jnp.stack([energy, wait + slowest])
    weights = _rounds_start(program, jnp.stack(server.computing), fine)
    p, q, _ = Mix(*jnp.sum(weights[:, None] * program.rays, axis=0))
    b0, b = server.batch, devices.batch
    shared = Shared(weights[:3], p * b0, p * b0 * server.sample_time, q * wait, q * slowest)
    blocks = Device(q * b, q * b * devices.sample_time, q * send)
    return Variables(shared.vector, jnp.stack(blocks, axis=1))


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
    z, devices = answer.multipliers, Device(*answer.variables.blocks.T)
    lam, nus = z.coupling[0], z.blocks[:, DEVICE_TIME]
    rounds = Shared.named(answer.variables.shared).mix(program).finetuning
    by_work = costs.computing_pace(program.devices, devices.computing / devices.samples)
    exponent = program.uploads.nats * rounds / devices.sending
    by_send = costs.sending_pace(program.uploads, exponent)
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
    z, shared = answer.multipliers, Shared.named(answer.variables.shared)
    lam, nus = first.energy, jnp.maximum(z.blocks[:, DEVICE_TIME], _LEAST_PRICE)
    log_round = jnp.log(shared.round_time / shared.mix(program).finetuning)
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
