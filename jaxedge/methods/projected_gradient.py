"""Projected gradient in a box: steps along a scaled gradient, projected, with backtracking.

    x+ = P(x + t d),   f(x+) <= f(x) + c g·(x+ - x),   t halved (or interpolated) until that holds

with P the projection on the box and d a direction that leaves alone the variables which sit at a
limit and would leave the box. d comes from limited-memory BFGS or from an Optax optimiser. One
iteration is one evaluation of the function and its gradient, whether it moves or only shortens t:
under `jax.vmap` no element waits for another's line search.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxedge.methods.directions import Direction, direction_named
from jaxedge.methods.smooth_problem import SmoothAnswer, SmoothProblem, flatten, stationarity

_SUFFICIENT = 1e-4
"""c, the share of the promised decrease that a step must bring."""
_NOISE = 1e-12
"""Share of f within which an increase is taken for rounding; terms of f may cancel."""
_LEAST_LENGTH = 1e-8
"""t below which no step is taken for possible."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["tolerance", "max_steps", "max_move"],
    meta_fields=["direction"],
)
@dataclasses.dataclass(frozen=True, kw_only=True)
class ProjectedGradient:
    """Settings; numbers among them are traced, so that changing them compiles nothing."""

    tolerance: float = 1e-8
    """Stationarity, in units of f per unit of x, at which a point is the answer."""
    max_steps: int = 2000
    """Most evaluations of the function and its gradient."""
    max_move: float = float("inf")
    """Greatest change of a variable in one step; 1 or 2 suits logarithms."""
    direction: str = "quasi-newton"
    """Name of a direction: ``quasi-newton``, ``gradient``, or Optax's ``lbfgs`` or ``adam``."""


class Descent(NamedTuple):
    """An iterate; `gradient` and `aux` belong to x, and the next trial is P(x + length move)."""

    x: Array
    value: Array
    gradient: Array
    aux: Any
    move: Array
    length: Array
    memory: Any
    fresh: Array
    """() bool: the function has changed, so that x is its own next trial."""
    stuck: Array
    """() bool: no length brings a decrease."""
    stationarity: Array
    steps: Array


def descent_from(x: Array, aux: Any, direction: Direction) -> Descent:
    """The state before the first evaluation, with ``aux`` shaped as the function's."""
    zero = jnp.zeros((), x.dtype)
    return Descent(
        x=x,
        value=zero + jnp.inf,
        gradient=jnp.zeros_like(x),
        aux=aux,
        move=jnp.zeros_like(x),
        length=zero + 1,
        memory=direction.init(x),
        fresh=jnp.ones((), bool),
        stuck=jnp.zeros((), bool),
        stationarity=zero + jnp.inf,
        steps=jnp.zeros((), int),
    )


def restarted(state: Descent) -> Descent:
    """The state for a function that has changed; what is known of its curvature is kept."""
    return state._replace(
        move=jnp.zeros_like(state.x),
        fresh=jnp.ones_like(state.fresh),
        stuck=jnp.zeros_like(state.stuck),
        stationarity=jnp.full_like(state.stationarity, jnp.inf),
    )


def descend(
    fn: Callable[[Array], tuple[Array, Any]],
    state: Descent,
    lower: Array,
    upper: Array,
    *,
    direction: Direction,
    max_move: Any,
) -> Descent:
    """One evaluation: move on where it is good enough, else try a shorter step next.

    Args:
        fn: x (n,) -> (value (), aux).
        state: iterate.
        lower: (n,) of the box.
        upper: (n,) of the box.
        direction: what proposes moves.
        max_move: greatest change of a variable in one step.
    """
    trial = jnp.clip(state.x + state.length * state.move, lower, upper)
    (value, aux), gradient = jax.value_and_grad(fn, has_aux=True)(trial)
    slope = jnp.sum(state.gradient * (trial - state.x))
    enough = (value <= state.value + _SUFFICIENT * slope) & (value < state.value)
    # Where rounding hides the decrease, the slope at the trial tells it (Hager and Zhang).
    near = value <= state.value + _NOISE * jnp.abs(state.value)
    overshot = jnp.sum(gradient * (trial - state.x)) > (2 * _SUFFICIENT - 1) * slope
    good = (enough | (near & ~overshot)) & jnp.all(jnp.isfinite(gradient)) | state.fresh
    moved = _moved(state, trial, value, gradient, aux, lower, upper, direction, max_move)
    shorter = _shorter(state, value, slope)
    return jax.tree.map(lambda a, b: jnp.where(good, a, b), moved, shorter)


def _shorter(state: Descent, value: Array, slope: Array) -> Descent:
    """The same iterate with a length at the minimum of a parabola, within safe limits."""
    best = -slope / (2 * (value - state.value - slope))
    length = state.length * jnp.where(best > 0.1, jnp.minimum(best, 0.5), 0.1)
    return state._replace(length=length, stuck=length < _LEAST_LENGTH, steps=state.steps + 1)


def _moved(
    state: Descent,
    x: Array,
    value: Array,
    gradient: Array,
    aux: Any,
    lower: Array,
    upper: Array,
    direction: Direction,
    max_move: Any,
) -> Descent:
    free = ~(((x <= lower) & (gradient > 0)) | ((x >= upper) & (gradient < 0)))
    step = jnp.where(state.fresh, 0.0, x - state.x)
    change = jnp.where(state.fresh, 0.0, gradient - state.gradient)
    move, memory = direction.propose(state.memory, x, step, change, gradient, free)
    move = jnp.where(free, move, 0.0)
    steepest = -jnp.where(free, gradient, 0.0)
    norms = jnp.sqrt(jnp.sum(move**2) * jnp.sum(steepest**2))
    move = jnp.where(jnp.sum(move * steepest) > 1e-8 * norms, move, steepest)
    move = move * jnp.minimum(1.0, max_move / jnp.maximum(jnp.max(jnp.abs(move)), 1e-30))
    return Descent(
        x=x,
        value=value,
        gradient=gradient,
        aux=aux,
        move=move,
        length=direction.next_length(state.length),
        memory=memory,
        fresh=jnp.zeros_like(state.fresh),
        stuck=jnp.zeros_like(state.stuck),
        stationarity=stationarity(x, gradient, lower, upper),
        steps=state.steps + 1,
    )


@partial(jax.jit, static_argnames="problem")
def solve(
    problem: SmoothProblem,
    params: Any,
    start: Any,
    settings: ProjectedGradient | None = None,
) -> SmoothAnswer:
    """Minimise the objective in its box; for residuals there is `augmented_lagrangian.solve`.

    Args:
        problem: with limits alone.
        params: of one problem; batching is vmap.
        start: first point, moved into the box.
        settings: of the method.

    Raises:
        ValueError: where the problem has residuals, or a setting is not known.
    """
    settings = settings or ProjectedGradient()
    flat = flatten(problem, params, start)
    count = jax.eval_shape(flat.residuals, flat.start).shape[0]
    if count:
        raise ValueError(f"problem: it has {count} residuals, which projection cannot keep")
    direction = direction_named(settings.direction)

    def alive(s: Descent) -> Array:
        broken = ~jnp.isfinite(s.value) & ~s.fresh
        done = s.stuck | broken | (s.stationarity <= settings.tolerance)
        return ~done & (s.steps < settings.max_steps)

    def advance(s: Descent) -> Descent:
        return descend(
            lambda z: (flat.objective(z), None),
            s,
            flat.lower,
            flat.upper,
            direction=direction,
            max_move=settings.max_move,
        )

    end = jax.lax.while_loop(alive, advance, descent_from(flat.start, None, direction))
    return SmoothAnswer(
        x=flat.unravel(end.x),
        objective=end.value,
        multipliers=jnp.zeros(0, end.x.dtype),
        violation=jnp.zeros((), end.x.dtype),
        stationarity=end.stationarity,
        converged=(end.stationarity <= settings.tolerance) & jnp.isfinite(end.value),
        steps=end.steps,
    )
