"""A primal-dual interior-point method for block-arrow problems, for any functions JAX can derive.

Every inequality g(y) <= 0 gets a slack t > 0 and a multiplier z > 0, and Newton's method follows

    grad f + sum z grad g = 0,     g + t = 0,     t z = mu      as mu falls to zero

with Mehrotra's predictor and corrector. Variables and rows are scaled by the starting point. A step
that raises the residuals too much, or leaves the functions' domain, is not taken: the next is
shorter. Elements of a batch (``jax.vmap``) do not see each other; one that breaks says so.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxedge.solvers.arrow import (
    ArrowProblem,
    Derivatives,
    Rows,
    Variables,
    differentiate,
    evaluate,
    newton_matrix,
    pull_back,
    push_forward,
)
from jaxedge.solvers.elimination import ArrowFactor, factorise_arrow, substitute_arrow
from jaxedge.solvers.scaling import Scales, in_scales, scales_at

_LEAST_OBJECTIVE = 1e-6
"""Size of the objective, relative to the start, below which accuracy is absolute."""
_LEAST_SLACK = 1e-2
"""Slack that a row is given at the start where it has less."""


class Outcome(enum.IntEnum):
    """How an element ended."""

    SOLVED = 0
    INACCURATE = 1
    """The best iterate misses the tolerance: out of steps, or nothing got better any more."""
    BROKEN = 2
    """The functions are not finite at the start."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class InteriorPoint:
    """Settings; numbers only, so that changing them compiles nothing."""

    tolerance: ArrayLike = 1e-9
    """Residuals and barrier, relative to the objective, at which an element is solved."""
    max_steps: ArrayLike = 100
    fraction: ArrayLike = 0.99
    """Of the way to the boundary that a step may go."""
    first_gap: ArrayLike = 1.0
    """Complementarity at the start, relative to the objective."""
    patience: ArrayLike = 30
    """Steps without improvement after which an element is given up."""
    growth: ArrayLike = 10.0
    """Factor by which a step may raise the residuals."""


class KktPoint(NamedTuple):
    """An answer in the user's units."""

    variables: Variables
    multipliers: Rows
    objective: Array
    """()"""
    residuals: Rows
    """Left-hand sides of the inequalities."""
    gradient: Variables
    """Of the Lagrangian: what is left to reach stationarity."""
    outcome: Array
    """() one of `Outcome`."""
    steps: Array


class _Iterate(NamedTuple):
    at: Variables
    slacks: Rows
    multipliers: Rows


class _Found(NamedTuple):
    """An iterate and how good it is."""

    here: _Iterate
    objective: Array
    residuals: Rows
    gradient: Variables
    error: Array
    """() norm of the residuals."""
    barrier: Array
    """() mean of slack times multiplier."""


class _State(NamedTuple):
    """Where the method stands, the iterate to be looked at next, and the best one met."""

    now: _Found
    derivatives: Derivatives
    best: _Found
    stalled: Array
    """() steps since the best."""
    trial: _Iterate
    reach: Array
    """() longest step that is tried."""
    steps: Array


def solve(
    problem: ArrowProblem,
    params: Any,
    block_params: Any,
    start: Variables,
    settings: InteriorPoint | None = None,
) -> KktPoint:
    """Solve one block-arrow problem from a point in its functions' domain; batching is vmap.

    Args:
        problem: its functions.
        params: any pytree, given to all functions.
        block_params: pytree whose leaves have a leading axis (K, ...).
        start: nonzero numbers of the sizes expected at the answer; need not be feasible.
        settings: tolerances and step rules.

    Returns:
        The best iterate met, with multipliers and residuals in the problem's own units.
    """
    rules = InteriorPoint() if settings is None else settings
    scales = scales_at(problem, params, block_params, start)
    scaled = in_scales(problem)
    packed = params, scales
    packed_blocks = block_params, scales.variables.blocks, scales.rows.blocks

    def look(s: _State) -> _State:
        """Take the trial if it is fit, else shorten the reach."""
        d = differentiate(scaled, packed, packed_blocks, s.trial.at, s.trial.multipliers)
        found = _assess(s.trial, d)
        fit = jnp.isfinite(found.error) & (found.error <= rules.growth * _merit(s.now))
        reach = jnp.where(fit, jnp.minimum(2 * s.reach, 1.0), 0.25 * s.reach)
        now, d = _either(fit, (found, d), (s.now, s.derivatives))
        better = _score(now) < _score(s.best)
        stalled = jnp.where(better, 0, s.stalled + 1)
        best = _either(better, now, s.best)
        return s._replace(now=now, derivatives=d, best=best, stalled=stalled, reach=reach)

    def advance(s: _State) -> _State:
        s = look(s)
        return s._replace(trial=_next(s, rules), steps=s.steps + 1)

    def alive(s: _State) -> Array:
        trying = (s.steps <= rules.max_steps) & (s.stalled < rules.patience)
        return trying & (_score(s.best) > rules.tolerance)

    residuals = evaluate(problem, params, block_params, start)[1]
    first = _first(jax.tree.map(jnp.divide, residuals, scales.rows), start, scales, rules)
    begun = _blank(
        lambda: differentiate(scaled, packed, packed_blocks, first.at, first.multipliers), first
    )
    return _unscaled(jax.lax.while_loop(alive, advance, begun), scales, rules)


def _blank(derivatives: Any, first: _Iterate) -> _State:
    """The state before anything is known but the first trial; any finite one is fit."""
    shapes = jax.eval_shape(derivatives)
    d: Derivatives = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    infinity, none = jnp.full_like(d.objective, jnp.inf), jnp.zeros((), int)
    nothing = _Found(first, d.objective, d.residuals, first.at, infinity, infinity)
    return _State(nothing, d, nothing, none, first, jnp.ones_like(d.objective), none)


def _either(first: Array, a: Any, b: Any) -> Any:
    return jax.tree.map(lambda x, y: jnp.where(first, x, y), a, b)


def _first(residuals: Rows, start: Variables, scales: Scales, rules: InteriorPoint) -> _Iterate:
    """The start with slacks that the rows have, where they have some, and one product for all."""
    at = jax.tree.map(jnp.divide, start, scales.variables)
    slacks = jax.tree.map(lambda g: jnp.maximum(-g, _LEAST_SLACK), residuals)
    barrier = rules.first_gap / _count(slacks)
    return _Iterate(at, slacks, jax.tree.map(lambda t: barrier / t, slacks))


def _assess(here: _Iterate, d: Derivatives) -> _Found:
    gradient = pull_back(d, here.multipliers, jnp.ones_like(d.objective))
    unmet = jax.tree.map(jnp.add, d.residuals, here.slacks)
    error = jnp.maximum(_largest(gradient), _largest(unmet))
    products = jax.tree.map(jnp.multiply, here.slacks, here.multipliers)
    barrier = _total(products) / _count(products)
    return _Found(here, d.objective, d.residuals, gradient, error, barrier)


def _merit(found: _Found) -> Array:
    return jnp.maximum(found.error, found.barrier)


def _size(found: _Found) -> Array:
    """The objective's size; 1 is what it was at the start."""
    return jnp.maximum(jnp.abs(found.objective), _LEAST_OBJECTIVE)


def _score(found: _Found) -> Array:
    """What the tolerance is compared with."""
    gap = found.barrier * _count(found.here.slacks)
    return jnp.maximum(found.error, gap) / _size(found)


def _next(s: _State, rules: InteriorPoint) -> _Iterate:
    """The iterate after a step along Mehrotra's direction."""
    step = _direction(s, rules)
    length = jnp.minimum(jnp.minimum(rules.fraction * _room(s.now.here, step), 1.0), s.reach)
    moved: _Iterate = jax.tree.map(lambda x, dx: x + length * dx, s.now.here, step)
    return moved


def _direction(s: _State, rules: InteriorPoint) -> _Iterate:
    """Mehrotra's predictor, then the corrector with its second-order term and centring."""
    here = s.now.here
    stiffness = jax.tree.map(jnp.divide, here.multipliers, here.slacks)
    matrix = newton_matrix(s.derivatives, stiffness)
    factor = factorise_arrow(matrix, here.slacks.coupling.shape[0])
    products = jax.tree.map(jnp.multiply, here.slacks, here.multipliers)
    ahead = _newton(s, factor, products)
    length = _room(here, ahead)
    reached: _Iterate = jax.tree.map(lambda x, dx: x + length * dx, here, ahead)
    left = _total(jax.tree.map(jnp.multiply, reached.slacks, reached.multipliers))
    share = jnp.clip(left / _total(products), 0.0, 1.0)
    # A barrier far below the residuals would only spoil Newton's matrix.
    least = 0.1 * rules.tolerance * _size(s.now) / _count(products)
    target = jnp.maximum(jnp.maximum(share**3, 1e-4) * s.now.barrier, least)
    bends = jax.tree.map(jnp.multiply, ahead.slacks, ahead.multipliers)
    return _newton(
        s, factor, jax.tree.map(lambda p, b: p + length**2 * b - target, products, bends)
    )


def _newton(s: _State, factor: ArrowFactor, products: Rows) -> _Iterate:
    """Newton's direction that takes ``products`` off slack times multiplier."""
    d, (at, t, z) = s.derivatives, s.now.here
    unmet = jax.tree.map(jnp.add, d.residuals, t)
    moved = jax.tree.map(lambda r, p, t, z: z + (z * r - p) / t, unmet, products, t, z)
    right = pull_back(d, moved._replace(coupling=z.coupling), jnp.ones_like(d.objective))
    below = -unmet.coupling + products.coupling / z.coupling
    corner, blocks = substitute_arrow(
        factor, jnp.concatenate([-right.shared, below]), -right.blocks
    )
    step = Variables(corner[: at.shared.shape[0]], blocks)
    change = push_forward(d, step)
    slacks = jax.tree.map(lambda r, c: -r - c, unmet, change)
    multipliers = jax.tree.map(lambda p, dt, t, z: -(p + z * dt) / t, products, slacks, t, z)
    return _Iterate(step, slacks, multipliers)


def _room(here: _Iterate, step: _Iterate) -> Array:
    """Longest step, up to 1, that keeps slacks and multipliers nonnegative."""
    signed, steps = (here.slacks, here.multipliers), (step.slacks, step.multipliers)
    rooms = jax.tree.map(lambda x, dx: jnp.where(dx < 0, -x / dx, 1.0), signed, steps)
    return jnp.min(jnp.stack([jnp.min(x, initial=1.0) for x in jax.tree.leaves(rooms)]))


def _largest(tree: Any) -> Array:
    return jnp.max(jnp.stack([jnp.max(jnp.abs(x), initial=0.0) for x in jax.tree.leaves(tree)]))


def _total(tree: Any) -> Array:
    return jnp.sum(jnp.stack([jnp.sum(x) for x in jax.tree.leaves(tree)]))


def _count(tree: Any) -> int:
    return sum(x.size for x in jax.tree.leaves(tree))


def _unscaled(s: _State, scales: Scales, rules: InteriorPoint) -> KktPoint:
    best, f = s.best, scales.objective
    solved, broken = _score(best) <= rules.tolerance, ~jnp.isfinite(best.error)
    outcome = jnp.where(broken, Outcome.BROKEN.value, Outcome.INACCURATE.value)
    z = best.here.multipliers
    return KktPoint(
        variables=jax.tree.map(jnp.multiply, best.here.at, scales.variables),
        multipliers=jax.tree.map(lambda z, row: f * z / row, z, scales.rows),
        objective=f * best.objective,
        residuals=jax.tree.map(jnp.multiply, best.residuals, scales.rows),
        gradient=jax.tree.map(lambda g, size: f * g / size, best.gradient, scales.variables),
        outcome=jnp.where(solved, Outcome.SOLVED.value, outcome),
        steps=s.steps,
    )
