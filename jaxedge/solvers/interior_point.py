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
    Terms,
    Variables,
    differentiate,
    evaluate,
    newton_matrix,
    pull_back,
    push_forward,
    slopes,
)
from jaxedge.solvers.elimination import ArrowFactor, factorise_arrow, substitute_arrow

_SHORTEST = 1e-8
"""Reach at which an element is given up."""
_LEAST_SLACK = 1e-2
"""Slack that a row is given at the start where it has less."""


class Outcome(enum.IntEnum):
    """How an element ended."""

    SOLVED = 0
    OUT_OF_STEPS = 1
    BROKEN = 2
    """No finite step could be found."""


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


class _Scales(NamedTuple):
    variables: Variables
    rows: Rows
    objective: Array


class _Iterate(NamedTuple):
    at: Variables
    slacks: Rows
    multipliers: Rows


class _State(NamedTuple):
    """The best-known iterate with its derivatives, and the one to be looked at next."""

    here: _Iterate
    derivatives: Derivatives
    error: Array
    """() norm of the residuals."""
    barrier: Array
    """() mean of slack times multiplier."""
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
        The last iterate, with multipliers and residuals in the problem's own units.
    """
    rules = InteriorPoint() if settings is None else settings
    scales = _scales(problem, params, block_params, start)
    scaled = _scaled(problem)
    packed = params, scales
    packed_blocks = block_params, scales.variables.blocks, scales.rows.blocks

    def look(s: _State) -> _State:
        """Take the trial if it is fit, else shorten the reach."""
        at, _, z = s.trial
        d = differentiate(scaled, packed, packed_blocks, at, z)
        new = _assess(s, d)
        fit = jnp.isfinite(new.error) & (new.error <= rules.growth * _merit(s))
        kept = s._replace(reach=0.25 * s.reach)
        return jax.tree.map(lambda a, b: jnp.where(fit, a, b), new, kept)

    def advance(s: _State) -> _State:
        s = look(s)
        return s._replace(trial=_next(s, rules), steps=s.steps + 1)

    def alive(s: _State) -> Array:
        trying = (s.steps <= rules.max_steps) & (s.reach > _SHORTEST)
        return trying & ~_solved(s, rules)

    residuals = evaluate(problem, params, block_params, start)[1]
    first = _first(jax.tree.map(jnp.divide, residuals, scales.rows), start, scales, rules)
    empty = jax.eval_shape(
        lambda: differentiate(scaled, packed, packed_blocks, first.at, first.multipliers)
    )
    blank: Derivatives = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), empty)
    never = jnp.full_like(scales.objective, jnp.inf)
    reach, steps = jnp.ones_like(scales.objective), jnp.zeros((), int)
    begun = _State(first, blank, never, never, first, reach, steps)
    return _unscaled(jax.lax.while_loop(alive, advance, begun), scales, rules)


def _scales(problem: ArrowProblem, params: Any, block_params: Any, start: Variables) -> _Scales:
    """Sizes of variables, rows and objective at the start; each scaled row has slope 1."""
    objective, rows = evaluate(problem, params, block_params, start)
    sizes = jax.tree.map(lambda x: jnp.where(x == 0, 1.0, jnp.abs(x)), start)
    d = slopes(problem, params, block_params, start)
    m, size = rows.coupling.shape[0], d.view.shape[0]
    view = d.view * sizes.shared[None, :]
    own = jnp.max(jnp.abs(d.shared) * sizes.shared[None, :], axis=1)
    through = d.blocks[:, :, :size, None] * view[None, None]
    through = jnp.max(jnp.abs(jnp.sum(through, axis=2)), axis=2)
    inside = jnp.abs(d.blocks[:, :, size:]) * sizes.blocks[:, None, :]
    each = jnp.maximum(through, jnp.max(inside, axis=2))
    coupling = jnp.maximum(own[1 : 1 + m], jnp.max(each[:, 1 : 1 + m], axis=0))
    slope = Rows(coupling, own[1 + m :], each[:, 1 + m :])
    slope = jax.tree.map(lambda x: jnp.where(x > 0, x, 1.0), slope)
    return _Scales(sizes, slope, jnp.where(objective == 0, 1.0, jnp.abs(objective)))


def _scaled(problem: ArrowProblem) -> ArrowProblem:
    """The problem in variables and rows of size 1; parameters carry the scales."""

    def shared(packed: tuple[Any, _Scales], s: Array) -> Terms:
        params, scales = packed
        t = problem.shared(params, s * scales.variables.shared)
        return Terms(
            t.objective / scales.objective,
            t.coupling / scales.rows.coupling,
            t.residuals / scales.rows.shared,
        )

    def block(
        packed: tuple[Any, _Scales], own: tuple[Any, Array, Array], v: Array, x: Array
    ) -> Terms:
        params, scales = packed
        mine, sizes, rows = own
        t = problem.block(params, mine, v, x * sizes)
        return Terms(
            t.objective / scales.objective, t.coupling / scales.rows.coupling, t.residuals / rows
        )

    def view(packed: tuple[Any, _Scales], s: Array) -> Array:
        return problem.view(packed[0], s * packed[1].variables.shared)

    return ArrowProblem(shared=shared, block=block, view=view)


def _first(residuals: Rows, start: Variables, scales: _Scales, rules: InteriorPoint) -> _Iterate:
    """The start with slacks that the rows have, where they have some, and one product for all."""
    at = jax.tree.map(jnp.divide, start, scales.variables)
    slacks = jax.tree.map(lambda g: jnp.maximum(-g, _LEAST_SLACK), residuals)
    barrier = rules.first_gap / _count(slacks)
    return _Iterate(at, slacks, jax.tree.map(lambda t: barrier / t, slacks))


def _assess(s: _State, d: Derivatives) -> _State:
    """The trial as the iterate, with its residuals."""
    gradient = pull_back(d, s.trial.multipliers, jnp.ones_like(d.objective))
    unmet = jax.tree.map(jnp.add, d.residuals, s.trial.slacks)
    error = jnp.maximum(_largest(gradient), _largest(unmet))
    products = jax.tree.map(jnp.multiply, s.trial.slacks, s.trial.multipliers)
    barrier = _total(products) / _count(products)
    return _State(s.trial, d, error, barrier, s.trial, jnp.minimum(2 * s.reach, 1.0), s.steps)


def _merit(s: _State) -> Array:
    return jnp.maximum(s.error, s.barrier)


def _solved(s: _State, rules: InteriorPoint) -> Array:
    limit = _limit(s, rules)
    return (s.error <= limit) & (s.barrier * _count(s.here.slacks) <= limit)


def _limit(s: _State, rules: InteriorPoint) -> Array:
    return rules.tolerance * jnp.maximum(jnp.abs(s.derivatives.objective), 1e-6)


def _next(s: _State, rules: InteriorPoint) -> _Iterate:
    """The iterate after a step along Mehrotra's direction."""
    step = _direction(s, rules)
    length = jnp.minimum(jnp.minimum(rules.fraction * _room(s.here, step), 1.0), s.reach)
    moved: _Iterate = jax.tree.map(lambda x, dx: x + length * dx, s.here, step)
    return moved


def _direction(s: _State, rules: InteriorPoint) -> _Iterate:
    """Mehrotra's predictor, then the corrector with its second-order term and centring."""
    here = s.here
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
    least = 0.1 * _limit(s, rules) / _count(products)
    target = jnp.maximum(jnp.maximum(share**3, 1e-4) * s.barrier, least)
    bends = jax.tree.map(jnp.multiply, ahead.slacks, ahead.multipliers)
    return _newton(
        s, factor, jax.tree.map(lambda p, b: p + length**2 * b - target, products, bends)
    )


def _newton(s: _State, factor: ArrowFactor, products: Rows) -> _Iterate:
    """Newton's direction that takes ``products`` off slack times multiplier."""
    d, (at, t, z) = s.derivatives, s.here
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


def _unscaled(s: _State, scales: _Scales, rules: InteriorPoint) -> KktPoint:
    d, f = s.derivatives, scales.objective
    at, _, z = s.here
    gradient = pull_back(d, z, jnp.ones_like(f))
    stuck = ~jnp.isfinite(s.error) | (s.reach <= _SHORTEST)
    outcome = jnp.where(stuck, Outcome.BROKEN.value, Outcome.OUT_OF_STEPS.value)
    return KktPoint(
        variables=jax.tree.map(jnp.multiply, at, scales.variables),
        multipliers=jax.tree.map(lambda z, row: f * z / row, z, scales.rows),
        objective=f * d.objective,
        residuals=jax.tree.map(jnp.multiply, d.residuals, scales.rows),
        gradient=jax.tree.map(lambda g, size: f * g / size, gradient, scales.variables),
        outcome=jnp.where(_solved(s, rules), Outcome.SOLVED.value, outcome),
        steps=s.steps,
    )
