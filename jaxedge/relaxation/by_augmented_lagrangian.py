"""The relaxed program in logarithms, for solvers that know only smooth problems in a box.

Variables are the logarithms of the rounds M and N, of all batches, times per sample and
transmission exponents, and of R, the time that the slowest device takes in a round, which turns the
maximum over the devices into K residuals. In logarithms all residuals are convex and free of scale
(energies and times are sums of products of powers, (e^x - 1)/x is a power series), and what is
left of the bound is log numerator - log(M eta0 + N eta). Its local optima are global
(docs/theory.md): the change of variables is a diffeomorphism.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array

from jaxedge.methods.augmented_lagrangian import AugmentedLagrangian, solve
from jaxedge.methods.smooth_problem import SmoothAnswer, SmoothProblem
from jaxedge.program import costs
from jaxedge.program.certificates import lower_bound
from jaxedge.program.design import Design, design_from_responses
from jaxedge.program.program import Computing, Program, Transmission
from jaxedge.program.responses import Prices, Responses, Send, Work

_FEWEST_SHARE = 1e-3
"""Where no round is asked for, the share of the delay that a stage must be able to use, or else one
round: nearer to no rounds its batch and clock no longer matter, and the point is caught there."""
_NO_ROUNDS = 1e-9
"""Where none are allowed."""
_LEAST_EXPONENT = 1e-6
_MAX_MOVE = 1.0
"""Greatest change of a logarithm in one step."""
_LEAST_MULTIPLIER = 3e-7
"""Of a budget that looks slack: it lowers the bound by no more than this share, where no price at
all could lose half of it to a stage that only that budget keeps from running flat out."""
_REACH = 0.7
"""Greatest change of the logarithm of all prices by which they are balanced."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class LogPoint:
    """Logarithms of the program's variables."""

    pretraining_rounds: Array
    finetuning_rounds: Array
    round_time: Array
    """() of R, a fine-tuning round without its broadcast."""
    server_batch: Array
    server_sample_time: Array
    broadcast_exponent: Array
    device_batch: Array
    device_sample_time: Array
    upload_exponent: Array


def responses(program: Program, z: LogPoint) -> Responses:
    """What a point computes and sends in one round, with its noise as cost and no prices."""
    server = _work(program.server, z.server_batch, z.server_sample_time)
    devices = _work(program.devices, z.device_batch, z.device_sample_time)
    uploads = _send(program.uploads, z.upload_exponent)
    broadcast = _send(program.broadcast, z.broadcast_exponent)
    energy = jnp.sum(devices.energy + uploads.energy) + broadcast.energy
    time = jnp.exp(z.round_time) + broadcast.time
    return Responses(
        server,
        devices,
        uploads,
        broadcast,
        program.floor + server.cost,
        jnp.sum(devices.cost),
        jnp.stack([server.energy, server.time]),
        jnp.stack([energy, time]),
    )


def _work(part: Computing, log_batch: Array, log_time: Array) -> Work:
    batch, time = jnp.exp(log_batch), jnp.exp(log_time)
    none = jnp.zeros_like(batch)
    energy, seconds = costs.computing(part, time)
    used = batch * energy, batch * seconds
    return Work(batch, time, *used, part.variance / batch, none, none, none, none)


def _send(part: Transmission, log_exponent: Array) -> Send:
    x, none = jnp.exp(log_exponent), jnp.zeros_like(log_exponent)
    return Send(x, *costs.sending(part, x), none, none)


def objective(program: Program, z: LogPoint) -> Array:
    """() logarithm of the program's objective."""
    numerator, denominator = _fraction(program, z)
    return jnp.log(numerator) - jnp.log(denominator)


def _fraction(program: Program, z: LogPoint) -> tuple[Array, Array]:
    m, n, at = jnp.exp(z.pretraining_rounds), jnp.exp(z.finetuning_rounds), responses(program, z)
    numerator = program.gap + m * at.pretraining_cost + n * at.finetuning_cost
    return numerator, m * program.rounds.server_rate + n * program.rounds.device_rate


def residuals(program: Program, z: LogPoint) -> Array:
    """(2+K,) logarithms of energy, of delay, and of the devices' times over the round's."""
    m, n, at = jnp.exp(z.pretraining_rounds), jnp.exp(z.finetuning_rounds), responses(program, z)
    used = m * at.pretraining_use + n * at.finetuning_use
    late = jnp.log(at.devices.time + at.uploads.time) - z.round_time
    return jnp.concatenate([jnp.log(used), late])


def _point(server: tuple[Array, ...], devices: tuple[Array, ...], *common: Array) -> LogPoint:
    """A point from (batch, sample time, exponent) of either side, and M, N and R."""
    return LogPoint(
        pretraining_rounds=common[0],
        finetuning_rounds=common[1],
        round_time=common[2],
        server_batch=server[0],
        server_sample_time=server[1],
        broadcast_exponent=server[2],
        device_batch=devices[0],
        device_sample_time=devices[1],
        upload_exponent=devices[2],
    )


def limits(program: Program) -> tuple[LogPoint, LogPoint]:
    """The box of the logarithms; upper limits may be infinite."""
    rounds = program.rounds

    def lower(part: Computing, link: Transmission) -> tuple[Array, ...]:
        return part.min_batch, part.min_time, jnp.maximum(link.min_exponent, _LEAST_EXPONENT)

    def upper(part: Computing, link: Transmission) -> tuple[Array, ...]:
        return part.max_batch, part.max_time, jnp.maximum(link.max_exponent, _LEAST_EXPONENT)

    zero = jnp.zeros_like(program.gap)
    fewest = jnp.minimum(1.0, _FEWEST_SHARE / shortest(program))
    most = [jnp.maximum(n, _NO_ROUNDS) for n in (rounds.max_pretraining, rounds.max_finetuning)]
    low = _point(
        lower(program.server, program.broadcast),
        lower(program.devices, program.uploads),
        jnp.clip(fewest[0], rounds.min_pretraining, most[0]),
        jnp.clip(fewest[1], rounds.min_finetuning, most[1]),
        zero,
    )
    high = _point(
        upper(program.server, program.broadcast),
        upper(program.devices, program.uploads),
        *most,
        zero + jnp.inf,
    )
    return jax.tree.map(jnp.log, low), jax.tree.map(jnp.log, high)


def shortest(program: Program) -> Array:
    """(2,) scaled time of a round of either stage with the least batches, flat out."""
    server, devices = program.server, program.devices
    own = server.weight * server.min_batch * server.min_time
    each = devices.weight * devices.min_batch * devices.min_time
    each = each + costs.sending_time(program.uploads, program.uploads.max_exponent)
    broadcast = costs.sending_time(program.broadcast, program.broadcast.max_exponent)
    return jnp.stack([own, jnp.max(each) + broadcast])


LOG_PROGRAM = SmoothProblem(objective=objective, residuals=residuals, limits=limits)
"""The relaxed program with params a scalar `Program` and x a `LogPoint`; untied rounds only."""


def start(program: Program) -> LogPoint:
    """Half way between the limits, with either stage on a third of the budgets."""

    def choices(part: Computing, link: Transmission) -> tuple[Array, Array, Array]:
        batch = jnp.minimum(4 * part.min_batch, jnp.sqrt(part.min_batch * part.max_batch))
        time = jnp.minimum(2 * part.min_time, part.max_time)
        x = jnp.maximum(0.5 * link.max_exponent, link.min_exponent)
        return jnp.log(batch), jnp.log(time), jnp.log(jnp.maximum(x, _LEAST_EXPONENT))

    server = choices(program.server, program.broadcast)
    devices = choices(program.devices, program.uploads)
    zero = jnp.zeros_like(program.gap)
    z = _point(server, devices, zero, zero, zero)
    at = responses(program, z)
    slowest = jnp.max(at.devices.time + at.uploads.time)
    first = jnp.max(at.pretraining_use)
    second = jnp.maximum(at.finetuning_use[0], slowest + at.broadcast.time)
    return dataclasses.replace(
        z,
        pretraining_rounds=-jnp.log(3 * first),
        finetuning_rounds=-jnp.log(3 * second),
        round_time=jnp.log(slowest),
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """What a solver found: prices for the lower bound, and a feasible design of its own.

    The design is nearer to the optimum than what is recovered from the prices: an error in a
    device's price makes that device late at first order, one in the point is repaired.
    """

    prices: Prices
    design: Design
    answer: SmoothAnswer


def settings_for_logs(**changes: float | bool | str) -> AugmentedLagrangian:
    """Settings for logarithmic variables, with the given ones changed."""
    return AugmentedLagrangian(**({"max_move": _MAX_MOVE} | changes))  # type: ignore[arg-type]


def find(program: Program, settings: AugmentedLagrangian | None = None) -> Found:
    """Solve the relaxed program by the augmented Lagrangian, knowing nothing of its structure.

    Args:
        program: feasible scalar program with untied rounds; batching is vmap.
        settings: of the method; without multipliers it is the penalty method.
    """
    answer = solve(LOG_PROGRAM, program, start(program), settings or settings_for_logs())
    found = prices(program, answer.x, answer.multipliers)
    return Found(prices=found, design=design(program, answer.x), answer=answer)


def design(program: Program, z: LogPoint) -> Design:
    """The point's choices with the best rounds that fit: feasible wherever its box is kept."""
    return design_from_responses(program, responses(program, z))


def prices(program: Program, z: LogPoint, multipliers: Array) -> Prices:
    """Prices of energy and of the devices' times from a point's multipliers (2+K,).

    With y the multipliers of log energy and log delay and v the numerator, d(log energy) is
    d energy/energy at the budget, so lam = v y_energy and nu = v y_delay; each device's share of nu
    is that of its residual's multiplier. All are then scaled alike to the highest lower bound,
    which forgives no error in their ratios.
    """
    numerator, _ = _fraction(program, z)
    energy, delay = jnp.maximum(multipliers[:2], _LEAST_MULTIPLIER)
    late = multipliers[2:]
    some = jnp.sum(late) > 0
    share = jnp.where(some, late / jnp.where(some, jnp.sum(late), 1.0), 1 / late.shape[0])
    raw = Prices(energy=numerator * energy, device_time=numerator * delay * share)
    return _balanced(program, raw)


def _balanced(program: Program, raw: Prices) -> Prices:
    """The prices times the factor at which the lower bound is highest (it is concave in it)."""

    def scaled(log_factor: Array) -> Prices:
        return jax.tree.map(lambda price: jnp.exp(log_factor) * price, raw)

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        slope = jax.grad(lambda u: lower_bound(program, scaled(u)))(middle)
        return jnp.where(slope > 0, middle, low), jnp.where(slope > 0, high, middle)

    reach = jnp.full_like(program.gap, _REACH)
    low, high = jax.lax.fori_loop(0, 45, halve, (-reach, reach))
    return scaled(0.5 * (low + high))
