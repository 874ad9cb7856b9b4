"""The program at fixed rounds in batches, clocks and exponents, made convex around a point.

At fixed M and N the energy b f² and the time b/f of computing are not convex in batch b and clock
f = 1/tau. By the weighted inequality of the means, with b', f' the point of approximation,

    b f² <= b' f'² [(b/b')³ + 2 (f/f')³]/3,        b/f <= (b'/f') [(b/b')² + (f'/f)²]/2,

convex above them and touching them, with equal gradients, there. All else is convex as it stands.
This is how such problems are usually solved (successive convex approximation at fixed rounds,
inside a two-dimensional search); it is here to be compared with.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxedge.methods.convex_approximation import ConvexApproximation, approximate, search
from jaxedge.methods.smooth_problem import SmoothAnswer, SmoothProblem
from jaxedge.program import costs
from jaxedge.program.design import Design
from jaxedge.program.program import Computing, Program
from jaxedge.program.responses import Prices
from jaxedge.relaxation import by_augmented_lagrangian
from jaxedge.relaxation.by_augmented_lagrangian import LogPoint

_Guess = tuple[LogPoint, Array]
"""A point and its multipliers (2+K,)."""


class AtRounds(NamedTuple):
    """A program with its rounds fixed."""

    program: Program
    log_rounds: Array
    """(2,) log M and log N."""


def _fixed(given: AtRounds, z: LogPoint) -> LogPoint:
    m, n = given.log_rounds
    return dataclasses.replace(z, pretraining_rounds=m, finetuning_rounds=n)


def _raised(
    part: Computing, near: tuple[Array, Array], log_batch: Array, log_time: Array
) -> tuple[Array, Array]:
    """Energy and time of computing in one round, or convex functions above them."""
    b, f = jnp.exp(log_batch - near[0]), jnp.exp(near[1] - log_time)
    energy, time = (jnp.exp(near[0]) * cost for cost in costs.computing(part, jnp.exp(near[1])))
    switching, longer = energy - costs.drawn(part, time), time * (b**2 + f**-2) / 2
    return switching * (b**3 + 2 * f**3) / 3 + costs.drawn(part, longer), longer


def _residuals(params: tuple[AtRounds, LogPoint], z: LogPoint) -> Array:
    """(2+K,) as in `log_program`, of the convex functions."""
    (program, log_rounds), near = params
    m, n = jnp.exp(log_rounds)
    at = by_augmented_lagrangian.responses(program, z)
    server = _raised(
        program.server,
        (near.server_batch, near.server_sample_time),
        z.server_batch,
        z.server_sample_time,
    )
    devices = _raised(
        program.devices,
        (near.device_batch, near.device_sample_time),
        z.device_batch,
        z.device_sample_time,
    )
    energy = m * server[0] + n * (jnp.sum(devices[0] + at.uploads.energy) + at.broadcast.energy)
    delay = m * server[1] + n * (jnp.exp(z.round_time) + at.broadcast.time)
    late = jnp.log(devices[1] + at.uploads.time) - z.round_time
    return jnp.concatenate([jnp.log(jnp.stack([energy, delay])), late])


def _limits(params: tuple[AtRounds, LogPoint]) -> tuple[LogPoint, LogPoint]:
    lower, upper = by_augmented_lagrangian.limits(params[0].program)
    return _fixed(params[0], lower), _fixed(params[0], upper)


SURROGATE = SmoothProblem(
    objective=lambda params, z: by_augmented_lagrangian.objective(params[0].program, z),
    residuals=_residuals,
    limits=_limits,
)
"""The convex problem around a point; its params are (AtRounds, point)."""


def at_rounds(
    given: AtRounds, start: LogPoint, settings: ConvexApproximation
) -> tuple[Array, SmoothAnswer]:
    """The log of the objective at fixed rounds, inf where the budgets are not kept; the answer.

    Args:
        given: scalar program and its rounds.
        start: batches, times and exponents to begin with.
        settings: of the method.
    """
    answer = approximate(SURROGATE, given, _fixed(given, start), settings)
    kept = by_augmented_lagrangian.residuals(given.program, answer.x) <= settings.infeasibility
    return jnp.where(jnp.all(kept), answer.objective, jnp.inf), answer


def find_by_approximation(
    program: Program, settings: ConvexApproximation | None = None
) -> tuple[Prices, Design]:
    """Prices and design of the baseline: a search over (M, N), convex approximations at each point.

    The prices come from the multipliers of the last convex problem at the best rounds. The design's
    rounds are chosen once more in the end, so that both budgets are kept exactly.

    Args:
        program: scalar program with untied rounds; batching is vmap.
        settings: of the method.
    """
    settings = settings or ConvexApproximation()
    lower, upper = _range(program)

    def value(log_rounds: Array, guess: _Guess) -> tuple[Array, _Guess]:
        found, answer = at_rounds(AtRounds(program, log_rounds), guess[0], settings)
        return found, (answer.x, answer.multipliers)

    start = by_augmented_lagrangian.start(program)
    first = start, jnp.ones_like(by_augmented_lagrangian.residuals(program, start))
    _, (best, multipliers) = search(value, lower, upper, first, settings.levels)
    return by_augmented_lagrangian.prices(
        program, best, multipliers
    ), by_augmented_lagrangian.design(program, best)


def _range(program: Program) -> tuple[Array, Array]:
    """(2,) least and greatest logarithms of the rounds: flat out, more would miss the delay."""
    low, high = by_augmented_lagrangian.limits(program)
    most = -jnp.log(by_augmented_lagrangian.shortest(program))
    lower = jnp.stack([low.pretraining_rounds, low.finetuning_rounds])
    upper = jnp.stack([high.pretraining_rounds, high.finetuning_rounds])
    return lower, jnp.clip(most, lower, upper)
