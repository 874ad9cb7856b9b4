"""A proof that no design keeps all limits, where there is none: the elastic problem's multipliers.

Every budget and own limit c_i <= 0 is loosened to c_i <= w_i v with one shared v >= 0, and v is
minimised: that problem has an inner point at once. Where its optimum is positive, its multipliers z
make sum z_i c_i positive over all designs, which `certify` proves from one point by convexity.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxedge.custom.relaxation import Functions, arrow_problem, certify, initial_point
from jaxedge.custom.totals import Case, device_cases
from jaxedge.methods.arrow import ArrowProblem, Rows, Terms, Variables, evaluate
from jaxedge.methods.interior_point import InteriorPoint, solve
from jaxedge.program.program import Program

_FIRST = 2.0
"""v at the start, where c_i <= w_i."""


class _Loose(NamedTuple):
    """Parameters of a problem and the weights w of its rows, 0 for those that stay."""

    params: Any
    coupling: Array
    residuals: Array


def _elastic(problem: ArrowProblem) -> ArrowProblem:
    """The problem with v as its last shared variable."""

    def shared(loose: _Loose, s: Array) -> Terms:
        base, v = problem.shared(loose.params, s[:-1]), s[-1]
        return Terms(
            objective=v,
            coupling=base.coupling - loose.coupling * v,
            residuals=jnp.concatenate([base.residuals - loose.residuals * v, -v[None]]),
        )

    def view(loose: _Loose, s: Array) -> Array:
        return jnp.concatenate([problem.view(loose.params, s[:-1]), s[-1:]])

    def block(loose: _Loose, own: tuple[Any, Array], v: Array, x: Array) -> Terms:
        base = problem.block(loose.params, own[0], v[:-1], x)
        return Terms(jnp.zeros_like(v[0]), base.coupling, base.residuals - own[1] * v[-1])

    return ArrowProblem(shared=shared, block=block, view=view)


def _weights(functions: Functions, rows: Rows) -> Rows:
    """Sizes at the start of the rows that are loosened: both budgets and the user's limits."""
    whole = sum(summed is None for _, summed in functions.sums)
    own = jnp.arange(rows.shared.shape[0])
    loose = (own == 0) | (own >= own.size - whole)
    column = jnp.arange(rows.blocks.shape[1])
    each = jnp.broadcast_to(column >= column.size - len(functions.each), rows.blocks.shape)
    kept = Rows(jnp.ones_like(rows.coupling, bool), loose, each)
    tiny = jnp.finfo(rows.shared.dtype).tiny
    sizes: Rows = jax.tree.map(lambda c, w: jnp.where(w, jnp.abs(c) + tiny, 0), rows, kept)
    return sizes


def proves_infeasible(functions: Functions, program: Program, case: Case) -> Array:
    """() bool, whether multipliers prove that no design keeps all limits, if all are convex."""
    problem = arrow_problem(functions)
    params, devices = (program, case), ((program.devices, program.uploads), device_cases(case))
    first = initial_point(program)
    sizes = _weights(functions, evaluate(problem, params, devices, first)[1])
    loose = _Loose(params, sizes.coupling, sizes.shared)
    start = Variables(
        jnp.concatenate([first.shared, jnp.full_like(first.shared[:1], _FIRST)]), first.blocks
    )
    settings = InteriorPoint(tolerance=1e-7)
    answer = solve(_elastic(problem), loose, (devices, sizes.blocks), start, settings)
    at = Variables(answer.variables.shared[:-1], answer.variables.blocks)
    z = answer.multipliers
    multipliers = Rows(z.coupling, z.shared[:-1], z.blocks)
    everything = jnp.full_like(answer.objective, jnp.inf)
    return certify(functions, program, case, at, multipliers, objective=0.0, most=everything) > 0
