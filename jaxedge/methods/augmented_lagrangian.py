"""Augmented Lagrangian with multiplicative updates, and the penalty method as its plain case.

    minimise over the box   f(x) + sum_i (y_i/rho) phi(rho r_i(x)),     phi(t) = e^t - 1 for t <= 1
    then                    y_i <- y_i phi'(rho r_i(x)),    rho grown where that helped little

with phi continued by its parabola above 1: the penalty/barrier multiplier method of Ben-Tal and
Zibulevsky, SIAM J. Optim. 7 (1997) 347-366. Unlike y <- max(0, y + rho r), whose penalty has
the curvature rho for every residual, this one has rho y_i: a limit that matters a million times
less than another is a million times softer, so that one rho suits all; and it has no kinks.

The inner minimisation is projected gradient descent, to a tolerance that tightens from round to
round; inner and outer steps are one loop of one evaluation each, so that under `jax.vmap` an
element waits only for the slowest in all, not in every round.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxedge.methods.directions import direction_named
from jaxedge.methods.projected_gradient import Descent, descend, descent_from, restarted
from jaxedge.methods.smooth_problem import FlatProblem, SmoothAnswer, SmoothProblem, flatten

_JOIN = 1.0
"""t above which the exponential is continued by its parabola."""
_LEAST_FACTOR = 0.1
"""Of a multiplier in one update: a limit that is slack by accident is not forgotten at once."""
_LEAST_MULTIPLIER = 1e-12
_ENOUGH = 0.25
"""Share to which a round must bring the error; rho grows where it does not."""
_TIGHTER = 0.2
"""Factor of the inner tolerance from round to round."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "tolerance",
        "feasibility",
        "max_steps",
        "round_steps",
        "penalty",
        "growth",
        "max_penalty",
        "first_tolerance",
        "max_move",
        "multipliers",
    ],
    meta_fields=["direction"],
)
@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentedLagrangian:
    """Settings; numbers among them are traced, so that changing them compiles nothing.

    The defaults suit objectives and residuals of order 1 in variables of order 1, as logarithms
    are.
    """

    tolerance: float = 1e-6
    """Of stationarity, and of a round's change of multipliers over rho."""
    feasibility: float = 1e-5
    """Of residuals."""
    max_steps: int = 2000
    """Most evaluations of the function and its gradient, all rounds together."""
    round_steps: int = 200
    """Most evaluations between two updates of the multipliers."""
    penalty: float = 10.0
    """First rho."""
    growth: float = 4.0
    """Of rho, after a round that did not bring the error to a quarter."""
    max_penalty: float = 1e8
    first_tolerance: float = 1e-2
    """Stationarity asked for in the first round; each further round asks for a fifth."""
    max_move: float = float("inf")
    """Greatest change of a variable in one step; 1 or 2 suits logarithms."""
    multipliers: bool = True
    """False keeps y as it starts and lets rho alone grow: the penalty method."""
    direction: str = "quasi-newton"
    """Of the inner descent, as in `ProjectedGradient`."""


class _State(NamedTuple):
    inner: Descent
    """Its `aux` is (objective, residuals)."""
    multipliers: Array
    penalty: Array
    asked: Array
    """() stationarity at which this round ends."""
    error: Array
    """() that the last round left, in units of the tolerances."""
    round_start: Array
    """() steps at which this round began."""
    done: Array


def _penalty(t: Array) -> Array:
    """Phi."""
    below, over = jnp.minimum(t, _JOIN), jnp.maximum(t - _JOIN, 0.0)
    return jnp.exp(below) * (1 + over + 0.5 * over**2) - 1


def _factor(t: Array) -> Array:
    """Derivative of phi."""
    below, over = jnp.minimum(t, _JOIN), jnp.maximum(t - _JOIN, 0.0)
    return jnp.exp(below) * (1 + over)


def _next_round(s: _State, settings: AugmentedLagrangian) -> _State:
    residuals = s.inner.aux[1]
    updated = s.multipliers * jnp.maximum(_factor(s.penalty * residuals), _LEAST_FACTOR)
    updated = jnp.maximum(updated, _LEAST_MULTIPLIER)
    change = jnp.where(settings.multipliers, jnp.abs(updated - s.multipliers) / s.penalty, 0.0)
    # In units of the tolerances.
    left = jnp.maximum(residuals / settings.feasibility, change / settings.tolerance)
    error = jnp.max(left, initial=0.0)
    still = (s.inner.stationarity <= settings.tolerance) | s.inner.stuck
    last = s.asked <= settings.tolerance
    grown = jnp.minimum(s.penalty * settings.growth, settings.max_penalty)
    return _State(
        inner=restarted(s.inner),
        multipliers=jnp.where(settings.multipliers, updated, s.multipliers),
        penalty=jnp.where(settings.multipliers & (error <= _ENOUGH * s.error), s.penalty, grown),
        asked=jnp.maximum(_TIGHTER * s.asked, settings.tolerance),
        error=error,
        round_start=s.inner.steps,
        done=(error <= 1) & still & (last | ~s.inner.stuck),
    )


def _advance(flat: FlatProblem, settings: AugmentedLagrangian, s: _State) -> _State:
    def lagrangian(x: Array) -> tuple[Array, tuple[Array, Array]]:
        objective, residuals = flat.objective(x), flat.residuals(x)
        penalties = s.multipliers * _penalty(s.penalty * residuals)
        return objective + jnp.sum(penalties) / s.penalty, (objective, residuals)

    inner = descend(
        lagrangian,
        s.inner,
        flat.lower,
        flat.upper,
        direction=direction_named(settings.direction),
        max_move=settings.max_move,
    )
    s = s._replace(inner=inner)
    enough = inner.steps - s.round_start >= settings.round_steps
    over = (inner.stationarity <= s.asked) | inner.stuck | enough
    following = _next_round(s, settings)
    broken = ~jnp.isfinite(inner.value)
    # At the end the point and its multipliers stay those of the last round.
    s = s._replace(done=(over & following.done) | broken)
    return jax.tree.map(lambda a, b: jnp.where(over & ~s.done, a, b), following, s)


@partial(jax.jit, static_argnames="problem")
def solve(
    problem: SmoothProblem,
    params: object,
    start: object,
    settings: AugmentedLagrangian | None = None,
) -> SmoothAnswer:
    """Minimise the objective within residuals and box.

    Args:
        problem: whose functions JAX can differentiate.
        params: of one problem; batching is vmap.
        start: first point, moved into the box; it need not keep the residuals.
        settings: of the method.

    Raises:
        ValueError: where a setting is not known, or limits do not fit.
    """
    settings = settings or AugmentedLagrangian()
    flat = flatten(problem, params, start)
    shapes = jax.eval_shape(lambda z: (flat.objective(z), flat.residuals(z)), flat.start)
    aux = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    zero = jnp.zeros((), flat.start.dtype)
    state = _State(
        inner=descent_from(flat.start, aux, direction_named(settings.direction)),
        multipliers=jnp.full_like(aux[1], 1 / max(aux[1].size, 1)),
        penalty=zero + settings.penalty,
        asked=zero + settings.first_tolerance,
        error=zero + jnp.inf,
        round_start=jnp.zeros((), int),
        done=jnp.zeros((), bool),
    )
    end = jax.lax.while_loop(
        lambda s: ~s.done & (s.inner.steps < settings.max_steps),
        partial(_advance, flat, settings),
        state,
    )
    return _answer(flat, settings, end)


def _answer(flat: FlatProblem, settings: AugmentedLagrangian, end: _State) -> SmoothAnswer:
    objective, residuals = end.inner.aux
    violation = jnp.max(residuals, initial=0.0)
    small = end.inner.stationarity <= 10 * jnp.asarray(settings.tolerance)
    return SmoothAnswer(
        x=flat.unravel(end.inner.x),
        objective=objective,
        multipliers=end.multipliers * _factor(end.penalty * residuals),
        violation=violation,
        stationarity=end.inner.stationarity,
        converged=end.done & small,
        steps=end.inner.steps,
    )
