"""Block-arrow problems in variables and rows of size 1, as seen from a starting point."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxedge.methods.arrow import ArrowProblem, Rows, Terms, Variables, evaluate, slopes


class Scales(NamedTuple):
    """Sizes of variables, rows and objective, in the problem's own units."""

    variables: Variables
    rows: Rows
    objective: Array


def scales_at(problem: ArrowProblem, params: Any, block_params: Any, start: Variables) -> Scales:
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
    return Scales(sizes, slope, jnp.where(objective == 0, 1.0, jnp.abs(objective)))


def in_scales(problem: ArrowProblem) -> ArrowProblem:
    """The problem in variables and rows of size 1; parameters carry the scales."""

    def shared(packed: tuple[Any, Scales], s: Array) -> Terms:
        params, scales = packed
        t = problem.shared(params, s * scales.variables.shared)
        return Terms(
            t.objective / scales.objective,
            t.coupling / scales.rows.coupling,
            t.residuals / scales.rows.shared,
        )

    def block(
        packed: tuple[Any, Scales], own: tuple[Any, Array, Array], v: Array, x: Array
    ) -> Terms:
        params, scales = packed
        mine, sizes, rows = own
        t = problem.block(params, mine, v, x * sizes)
        return Terms(
            t.objective / scales.objective, t.coupling / scales.rows.coupling, t.residuals / rows
        )

    def view(packed: tuple[Any, Scales], s: Array) -> Array:
        return problem.view(packed[0], s * packed[1].variables.shared)

    return ArrowProblem(shared=shared, block=block, view=view)
