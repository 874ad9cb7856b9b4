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

from jaxedge.methods.arrow import (
    ArrowProblem,
    Derivatives,
    Rows,
    Variables,
    curvature_along,
    differentiate,
    evaluate,
    newton_matrix,
    pull_back,
    push_forward,
)
from jaxedge.methods.elimination import ArrowFactor, factorise_arrow, substitute_arrow
from jaxedge.methods.scaling import Scales, in_scales, scales_at

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
    """How good an iterate is."""

    objective: Array
    gradient: Variables
    error: Array
    """() norm of the residuals."""
    barrier: Array
    """() mean of slack times multiplier."""


class _State(NamedTuple):
    """Where the method stands, the direction from there, and the best iterate met.

    A step that is not taken leaves all of it but the reach, so that derivatives are not kept.
    """

    here: _Iterate
    merit: Array
    step: _Iterate
    reach: Array
    best: _Iterate
    score: Array
    """() of the best: what the tolerance is compared with."""
    stalled: Array
    """() steps since the best."""
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

    def known(here: _Iterate) -> tuple[Derivatives, _Found]:
        d = differentiate(scaled, packed, packed_blocks, here.at, here.multipliers)
        return d, _assess(here, d)

    def advance(s: _State) -> _State:
        """Try the step; what is fit is taken, and else the next is shorter."""
        length = jnp.minimum(jnp.minimum(rules.fraction * _room(s.here, s.step), 1.0), s.reach)
        trial: _Iterate = jax.tree.map(lambda x, dx: x + length * dx, s.here, s.step)
        d, found = known(trial)
        merit, score = jnp.maximum(found.error, found.barrier), _score(found, trial)
        fit = jnp.isfinite(found.error) & (found.error <= rules.growth * s.merit)
        better = fit & (score < s.score)
        here, step, merit = _either(
            fit, (trial, _direction(trial, d, found, rules), merit), (s.here, s.step, s.merit)
        )
        best, score = _either(better, (trial, score), (s.best, s.score))
        reach = jnp.where(fit, jnp.minimum(2 * s.reach, 1.0), 0.25 * s.reach)
        stalled = jnp.where(better, 0, s.stalled + 1)
        return _State(here, merit, step, reach, best, score, stalled, s.steps + 1)

    def alive(s: _State) -> Array:
        trying = (s.steps <= rules.max_steps) & (s.stalled < rules.patience)
        return trying & (s.score > rules.tolerance)

    residuals = evaluate(problem, params, block_params, start)[1]
    first = _first(jax.tree.map(jnp.divide, residuals, scales.rows), start, scales, rules)
    end = jax.lax.while_loop(alive, advance, _begun(first))
    return _unscaled(end, *known(end.best), scales, rules)


def _begun(first: _Iterate) -> _State:
    """The state whose next trial is the first iterate; any finite one is fit."""
    one = jnp.ones_like(first.at.shared[0])
    infinity, none, nowhere = jnp.inf * one, jnp.zeros((), int), jax.tree.map(jnp.zeros_like, first)
    return _State(first, infinity, nowhere, one, first, infinity, none, none)


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
    return _Found(d.objective, gradient, error, _total(products) / _count(products))


def _size(found: _Found) -> Array:
    """The objective's size; 1 is what it was at the start."""
    return jnp.maximum(jnp.abs(found.objective), _LEAST_OBJECTIVE)


def _score(found: _Found, here: _Iterate) -> Array:
    gap = found.barrier * _count(here.slacks)
    return jnp.maximum(found.error, gap) / _size(found)


def _direction(here: _Iterate, d: Derivatives, found: _Found, rules: InteriorPoint) -> _Iterate:
    """Mehrotra's predictor, then the corrector with its second-order term and centring."""
    stiffness = jax.tree.map(jnp.divide, here.multipliers, here.slacks)
    factor = factorise_arrow(newton_matrix(d, stiffness), here.slacks.coupling.shape[0])
    products = jax.tree.map(jnp.multiply, here.slacks, here.multipliers)
    ahead = _newton(here, d, factor, products)
    length = _room(here, ahead)
    reached: _Iterate = jax.tree.map(lambda x, dx: x + length * dx, here, ahead)
    left = _total(jax.tree.map(jnp.multiply, reached.slacks, reached.multipliers))
    share = jnp.clip(left / _total(products), 0.0, 1.0)
    # A barrier far below the residuals would only spoil Newton's matrix.
    least = 0.1 * rules.tolerance * _size(found) / _count(products)
    target = jnp.maximum(jnp.maximum(share**3, 1e-4) * found.barrier, least)
    bends = jax.tree.map(jnp.multiply, ahead.slacks, ahead.multipliers)
    aims = jax.tree.map(lambda p, b: p + length**2 * b - target, products, bends)
    return _refined(here, d, factor, _newton(here, d, factor, aims))


def _newton(here: _Iterate, d: Derivatives, factor: ArrowFactor, products: Rows) -> _Iterate:
    """Newton's direction that takes ``products`` off slack times multiplier."""
    at, t, z = here
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


def _refined(here: _Iterate, d: Derivatives, factor: ArrowFactor, step: _Iterate) -> _Iterate:
    """A direction less what the elimination's rounding has left of stationarity.

    Near the answer multiplier over slack is huge, and its digits push out the curvature's.
    """
    weights = jax.tree.map(jnp.add, here.multipliers, step.multipliers)
    left = pull_back(d, weights, jnp.ones_like(d.objective))
    right: Variables = jax.tree.map(lambda a, b: -a - b, left, curvature_along(d, step.at))
    count, rows = here.at.shared.shape[0], jnp.zeros_like(here.slacks.coupling)
    corner, blocks = substitute_arrow(factor, jnp.concatenate([right.shared, rows]), right.blocks)
    change = Variables(corner[:count], blocks)
    slacks = jax.tree.map(jnp.negative, push_forward(d, change))
    multipliers = jax.tree.map(lambda dt, t, z: -z * dt / t, slacks, here.slacks, here.multipliers)
    refined: _Iterate = jax.tree.map(jnp.add, step, _Iterate(change, slacks, multipliers))
    return refined


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


def _unscaled(
    end: _State, d: Derivatives, found: _Found, scales: Scales, rules: InteriorPoint
) -> KktPoint:
    f, best = scales.objective, end.best
    solved, broken = end.score <= rules.tolerance, ~jnp.isfinite(end.score)
    outcome = jnp.where(broken, Outcome.BROKEN.value, Outcome.INACCURATE.value)
    return KktPoint(
        variables=jax.tree.map(jnp.multiply, best.at, scales.variables),
        multipliers=jax.tree.map(lambda z, row: f * z / row, best.multipliers, scales.rows),
        objective=f * found.objective,
        residuals=jax.tree.map(jnp.multiply, d.residuals, scales.rows),
        gradient=jax.tree.map(lambda g, size: f * g / size, found.gradient, scales.variables),
        outcome=jnp.where(solved, Outcome.SOLVED.value, outcome),
        steps=end.steps,
    )
