"""The optimality conditions of a program, their refinement by Newton and implicit differentiation.

With weights z_i of the rays, (P, Q, G) = sum_i z_i ray_i, ray values g_i, round time R, and a
barrier mu and a softness eps that only make inactive prices and weights unique::

    P e0 + Q e1 + mu/lam = G,    P t0 + Q (t_bc + R) + mu/nu = G      both budgets
    R_k + eps R nu/(K nu_k) = R                                        every device
    g_i - theta = mu/z_i,        sum_i z_i = 1                         the best rounds

The rounds have no upper limit, so three rays span them. Where strict complementarity holds, an
inactive unknown is of size mu and drops out of the derivative. Where it does not, a kink, the
derivative is that of the smoothed conditions and means little.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from jaxedge.machine.trees import select
from jaxedge.program.design import Design
from jaxedge.program.program import Program
from jaxedge.program.responses import Prices, Responses, respond

BARRIER = 1e-12
"""Of the program's value."""
SOFTNESS = 1e-10
_STEPS = 8
_RAYS = 3
_MAX_STEP = 3.0


class Point(NamedTuple):
    """The unknowns, and in their places the residuals of their conditions."""

    log_lam: Array
    """() energy price; the energy budget."""
    log_nu: Array
    """(K,) time prices; the devices' times."""
    log_round: Array
    """() R; the delay budget."""
    value: Array
    """() theta; the weights' sum."""
    log_weights: Array
    """(3,) z; the ray values."""

    @property
    def prices(self) -> Prices:
        """The prices of both budgets."""
        return Prices(energy=jnp.exp(self.log_lam), device_time=jnp.exp(self.log_nu))


class _Rounds(NamedTuple):
    pretraining: Array
    finetuning: Array
    scaling: Array


def _rounds(program: Program, point: Point) -> _Rounds:
    weights = jnp.exp(point.log_weights)
    return _Rounds(*(jnp.sum(weights * program.rays[:_RAYS, j]) for j in range(3)))


def _ray_values(program: Program, answer: Responses, prices: Prices) -> Array:
    rays, idle = program.rays[:_RAYS], program.gap - prices.energy - prices.time
    cost = rays[:, 0] * answer.pretraining_cost + rays[:, 1] * answer.finetuning_cost
    return cost + rays[:, 2] * idle


def residual(program: Program, point: Point, barrier: Array) -> Point:
    """How far a point is from the conditions, all of them relative."""
    prices = point.prices
    lam, nus, nu = prices.energy, prices.device_time, prices.time
    answer, (p, q, g) = respond(program, prices), _rounds(program, point)
    round_time, weights = jnp.exp(point.log_round), jnp.exp(point.log_weights)
    soft = SOFTNESS * round_time * nu / (nus * nus.shape[0])
    spent = p * answer.pretraining_use[0] + q * answer.finetuning_use[0] + barrier / lam
    time = answer.broadcast.time + round_time
    taken = p * answer.pretraining_use[1] + q * time + barrier / nu
    slack = _ray_values(program, answer, prices) - point.value - barrier / weights
    return Point(
        log_lam=jnp.log(spent / g),
        log_nu=jnp.log((answer.devices.time + answer.uploads.time + soft) / round_time),
        log_round=jnp.log(taken / g),
        value=jnp.sum(weights) - 1,
        log_weights=slack * (BARRIER / barrier),
    )


def starting_point(program: Program, design: Design, prices: Prices, value: Array) -> Point:
    """The unknowns at a nearly optimal design and its prices.

    Of an unknown and its slack the larger is taken for active, the other follows from the barrier:
    Newton's method on a logarithm comes slowly from above.
    """
    barrier, rounds = BARRIER * value, program.rounds
    answer = respond(program, prices)
    m, n = design.pretraining_rounds, design.finetuning_rounds
    round_time = jnp.max(answer.devices.time + answer.uploads.time)
    slowest = answer.broadcast.time + round_time
    spent = m * answer.pretraining_use[0] + n * answer.finetuning_use[0]
    taken = m * answer.pretraining_use[1] + n * slowest

    def complementary(unknown: Array, slack: Array, unit: Array | float = 1.0) -> Array:
        active = unknown > slack / unit
        return jnp.where(active, unknown, barrier / jnp.where(active, 1.0, slack))

    lam, nu = complementary(prices.energy, 1 - spent), complementary(prices.time, 1 - taken)
    nus = jnp.maximum(prices.device_time * (nu / prices.time), barrier * SOFTNESS)
    scaling = 1 / (m * rounds.server_rate + n * rounds.device_rate)
    more = (m - rounds.min_pretraining) * rounds.server_rate * scaling
    further = (n - rounds.min_finetuning) * rounds.device_rate * scaling
    weights = jnp.stack([1 - more - further, more, further])
    slack = _ray_values(program, answer, prices) - value
    return Point(
        log_lam=jnp.log(lam),
        log_nu=jnp.log(nus),
        log_round=jnp.log(round_time),
        value=value,
        log_weights=jnp.log(complementary(weights, slack, value)),
    )


def _newton(program: Program, barrier: Array, point: Point) -> tuple[Point, Array]:
    """A step of Newton's method, and the largest residual before it."""
    flat, back = ravel_pytree(point)

    def error(x: Array) -> Array:
        return ravel_pytree(residual(program, back(x), barrier))[0]

    size = error(flat)
    step = -jnp.linalg.solve(jax.jacfwd(error)(flat), size)
    length = jnp.minimum(1.0, _MAX_STEP / jnp.maximum(jnp.max(jnp.abs(step)), 1e-300))
    return back(flat + length * step), jnp.max(jnp.abs(size))


def refine(program: Program, start: Point) -> tuple[Point, Array]:
    """The point after Newton's method, and its largest residual; never worse than the start."""
    barrier = BARRIER * start.value

    def advance(_: Array, carry: tuple[Point, Point, Array]) -> tuple[Point, Point, Array]:
        point, best, least = carry
        new, size = _newton(program, barrier, point)
        better = size < least
        best = select(better, point, best)
        return new, best, jnp.minimum(jnp.where(jnp.isnan(size), jnp.inf, size), least)

    carry = (start, start, jnp.full_like(start.value, jnp.inf))
    _, best, least = jax.lax.fori_loop(0, _STEPS, advance, carry)
    return best, least


@jax.custom_jvp
def optimum(program: Program, start: Point) -> tuple[Point, Array]:
    """`refine`, with the implicit derivative of the conditions to the program.

    The start has no influence, and no derivative.
    """
    return refine(program, start)


@optimum.defjvp
def _optimum_jvp(
    primals: tuple[Program, Point], tangents: tuple[Program, Point]
) -> tuple[tuple[Point, Array], tuple[Point, Array]]:
    program, start = primals
    point, least = optimum(program, start)
    barrier = jax.lax.stop_gradient(BARRIER * start.value)
    flat, back = ravel_pytree(point)

    def error(given: Program, x: Array) -> Array:
        return ravel_pytree(residual(given, back(x), barrier))[0]

    slope = jax.jacfwd(lambda x: error(program, x))(flat)
    _, moved = jax.jvp(lambda given: error(given, flat), (program,), (tangents[0],))
    change = back(-jnp.linalg.solve(slope, moved))
    return (point, least), (change, jnp.zeros_like(least))


def design_at(program: Program, point: Point) -> Design:
    """The best responses to the point's prices, with its rounds."""
    answer, (p, q, g) = respond(program, point.prices), _rounds(program, point)
    return Design(
        pretraining_rounds=p / g,
        finetuning_rounds=q / g,
        server_batch=answer.server.batch,
        server_sample_time=answer.server.sample_time,
        broadcast_exponent=answer.broadcast.exponent,
        device_batch=answer.devices.batch,
        device_sample_time=answer.devices.sample_time,
        upload_exponent=answer.uploads.exponent,
        value=point.value,
    )
