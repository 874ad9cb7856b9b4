"""Problems of block-arrow shape: many small blocks that meet in few shared variables and rows.

With shared variables s, their view v(s), and blocks x_1 ... x_K::

    minimise    f_0(s) + sum_k f_k(v(s), x_k)
    subject to  g_0(s) + sum_k g_k(v(s), x_k) <= 0      (m,) coupling rows
                h_0(s) <= 0,   h_k(v(s), x_k) <= 0      (r,) shared and (l,) local rows

Derivatives come from JAX on these functions, block by block. Newton's matrix has an arrow's shape,
and its elimination costs O(K).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxedge.methods.elimination import ArrowMatrix, gram, sum_product, transposed_product


class Terms(NamedTuple):
    """What a part of the problem contributes."""

    objective: Array
    """()"""
    coupling: Array
    """(m,) summed over all parts, then <= 0."""
    residuals: Array
    """(r,) or (l,), <= 0 each."""


def _whole(params: Any, shared: Array) -> Array:
    return shared


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArrowProblem:
    """Functions of a block-arrow problem; all numbers stand in their parameters."""

    shared: Callable[[Any, Array], Terms]
    """(params, s (n,)) -> f_0, g_0, h_0."""
    block: Callable[[Any, Any, Array, Array], Terms]
    """(params, parameters of block k, v (p,), x_k (b,)) -> f_k, g_k, h_k."""
    view: Callable[[Any, Array], Array] = _whole
    """(params, s) -> v (p,), what blocks see of s: the fewer numbers, the faster."""


class Rows(NamedTuple):
    """One number for each inequality."""

    coupling: Array
    """(m,)"""
    shared: Array
    """(r,)"""
    blocks: Array
    """(K, l)"""


class Variables(NamedTuple):
    """A point, or a direction."""

    shared: Array
    """(n,)"""
    blocks: Array
    """(K, b)"""


class Slopes(NamedTuple):
    """Jacobians at one point."""

    shared: Array
    """(1+m+r, n) of f_0, g_0, h_0."""
    view: Array
    """(p, n) of v(s)."""
    blocks: Array
    """(K, 1+m+l, p+b) of f_k, g_k, h_k."""


class Derivatives(NamedTuple):
    """A problem at one point and one set of multipliers."""

    objective: Array
    residuals: Rows
    """Left-hand sides of the inequalities."""
    jacobian: Array
    """(1+m+r, n) of f_0, g_0, h_0."""
    view: Array
    """(p, n) of v(s)."""
    block_jacobians: Array
    """(K, 1+m+l, p+b) of f_k, g_k, h_k."""
    hessian: Array
    """(n, n) of the Lagrangian's shared part, the view's curvature included."""
    block_hessians: Array
    """(K, p+b, p+b) of the Lagrangian's blocks."""


def _flat(terms: Terms) -> Array:
    return jnp.concatenate([terms.objective[None], terms.coupling, terms.residuals])


def _differentiate(
    function: Callable[[Array], Array], weights: Array, at: Array
) -> tuple[Array, Array, Array]:
    """Value (j,), Jacobian (j, i) and Hessian (i, i) of weights . function."""

    def with_gradient(u: Array) -> tuple[tuple[Array, Array], Array]:
        value, pull = jax.vjp(function, u)
        return (value, pull(weights)[0]), value

    (jacobian, hessian), value = jax.jacfwd(with_gradient, has_aux=True)(at)
    return value, jacobian, hessian


def differentiate(
    problem: ArrowProblem, params: Any, block_params: Any, at: Variables, multipliers: Rows
) -> Derivatives:
    """Values, Jacobians and the Lagrangian's Hessian, block by block."""
    view = problem.view(params, at.shared)
    size, one = view.shape[0], jnp.ones(1, at.shared.dtype)

    def block(own: Any, x: Array, local: Array) -> tuple[Array, Array, Array, Array]:
        def function(u: Array) -> Array:
            return _flat(problem.block(params, own, u[:size], u[size:]))

        weights = jnp.concatenate([one, multipliers.coupling, local])
        found = _differentiate(function, weights, jnp.concatenate([view, x]))
        return *found, transposed_product(found[1], weights)[:size]

    values, jacobians, hessians, pulls = jax.vmap(block)(
        block_params, at.blocks, multipliers.blocks
    )

    def common(s: Array) -> Array:
        return jnp.concatenate([_flat(problem.shared(params, s)), problem.view(params, s)])

    weights = [one, multipliers.coupling, multipliers.shared, jnp.sum(pulls, axis=0)]
    value, jacobian, hessian = _differentiate(common, jnp.concatenate(weights), at.shared)
    m, rows = multipliers.coupling.shape[0], value.shape[0] - size
    coupling = value[1 : 1 + m] + jnp.sum(values[:, 1 : 1 + m], axis=0)
    return Derivatives(
        objective=value[0] + jnp.sum(values[:, 0]),
        residuals=Rows(coupling, value[1 + m : rows], values[:, 1 + m :]),
        jacobian=jacobian[:rows],
        view=jacobian[rows:],
        block_jacobians=jacobians,
        hessian=hessian,
        block_hessians=hessians,
    )


def evaluate(
    problem: ArrowProblem, params: Any, block_params: Any, at: Variables
) -> tuple[Array, Rows]:
    """The objective () and the left-hand sides of all rows."""
    view = problem.view(params, at.shared)
    own = problem.shared(params, at.shared)
    each = jax.vmap(lambda q, x: problem.block(params, q, view, x))(block_params, at.blocks)
    coupling = own.coupling + jnp.sum(each.coupling, axis=0)
    return own.objective + jnp.sum(each.objective), Rows(coupling, own.residuals, each.residuals)


def slopes(problem: ArrowProblem, params: Any, block_params: Any, at: Variables) -> Slopes:
    """Jacobians of all functions."""
    view = problem.view(params, at.shared)
    size = view.shape[0]

    def block(own: Any, x: Array) -> Array:
        def function(u: Array) -> Array:
            return _flat(problem.block(params, own, u[:size], u[size:]))

        return jax.jacfwd(function)(jnp.concatenate([view, x]))

    return Slopes(
        shared=jax.jacfwd(lambda s: _flat(problem.shared(params, s)))(at.shared),
        view=jax.jacfwd(lambda s: problem.view(params, s))(at.shared),
        blocks=jax.vmap(block)(block_params, at.blocks),
    )


def pull_back(d: Derivatives, weights: Rows, objective: Array) -> Variables:
    """Gradient of objective . f + weights . rows."""
    head = jnp.concatenate([objective[None], weights.coupling])
    own = jnp.concatenate([head, weights.shared])
    heads = jnp.broadcast_to(head, (weights.blocks.shape[0], *head.shape))
    pulled = transposed_product(d.block_jacobians, jnp.concatenate([heads, weights.blocks], axis=1))
    size = d.view.shape[0]
    seen = jnp.sum(pulled[:, :size], axis=0)
    shared = transposed_product(d.jacobian, own) + transposed_product(d.view, seen)
    return Variables(shared, pulled[:, size:])


def push_forward(d: Derivatives, step: Variables) -> Rows:
    """Change of every row along a direction, to first order."""
    m = d.residuals.coupling.shape[0]
    own = sum_product(d.jacobian, step.shared)
    seen = sum_product(d.view, step.shared)
    seen = jnp.broadcast_to(seen, (step.blocks.shape[0], *seen.shape))
    each = sum_product(d.block_jacobians, jnp.concatenate([seen, step.blocks], axis=1))
    coupling = own[1 : 1 + m] + jnp.sum(each[:, 1 : 1 + m], axis=0)
    return Rows(coupling, own[1 + m :], each[:, 1 + m :])


def curvature_along(d: Derivatives, step: Variables) -> Variables:
    """The Lagrangian's Hessian times a direction."""
    size = d.view.shape[0]
    seen = sum_product(d.view, step.shared)
    seen = jnp.broadcast_to(seen, (step.blocks.shape[0], *seen.shape))
    each = sum_product(d.block_hessians, jnp.concatenate([seen, step.blocks], axis=1))
    pulled = transposed_product(d.view, jnp.sum(each[:, :size], axis=0))
    return Variables(sum_product(d.hessian, step.shared) + pulled, each[:, size:])


def newton_matrix(d: Derivatives, stiffness: Rows) -> ArrowMatrix:
    """Newton's matrix with the shared and local rows eliminated.

    Args:
        d: the derivatives.
        stiffness: multiplier over slack of every row; coupling rows stay, with -1/stiffness.
    """
    m, size = d.residuals.coupling.shape[0], d.view.shape[0]
    rows, local = d.jacobian[1 + m :], d.block_jacobians[:, 1 + m :]
    whole = d.block_hessians + gram(local, local * stiffness.blocks[..., None])
    coupling = d.block_jacobians[:, 1 : 1 + m]
    seen = jnp.sum(whole[:, :size, :size], axis=0)
    met = d.jacobian[1 : 1 + m] + gram(
        jnp.swapaxes(jnp.sum(coupling[:, :, :size], axis=0), 0, 1), d.view
    )
    corner = d.hessian + gram(rows, rows * stiffness.shared[:, None])
    corner = corner + gram(d.view, gram(seen, d.view))
    below = -jnp.eye(m, dtype=corner.dtype) / stiffness.coupling[:, None]
    spread = jnp.zeros((size + m, corner.shape[0] + m), corner.dtype)
    spread = spread.at[:size, : corner.shape[0]].set(d.view)
    return ArrowMatrix(
        corner=jnp.block([[corner, met.T], [met, below]]),
        spread=spread.at[size:, corner.shape[0] :].set(jnp.eye(m, dtype=corner.dtype)),
        border=jnp.concatenate(
            [whole[:, size:, :size], jnp.swapaxes(coupling[:, :, size:], 1, 2)], axis=2
        ),
        blocks=whole[:, size:, size:],
    )
