"""Elimination of block-arrow matrices, and of small dense ones, without pivoting or LAPACK.

Every block is factorised on its own, then the small Schur complement that is left for the corner:
O(K) for K blocks. Both are LDL' whose pivots keep the signs of a convex problem, for which the
complement is quasidefinite, so that any order of elimination is sound. Written as sums of products:
a batch stays elementwise.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


def sum_product(a: Array, b: Array) -> Array:
    """Matrix (..., i, j) times vector (..., j) as a fused sum, without a call for tiny matrices."""
    return jnp.sum(a * b[..., None, :], axis=-1)


def transposed_product(a: Array, b: Array) -> Array:
    """A' b over (..., j, i) and (..., j)."""
    return jnp.sum(a * b[..., :, None], axis=-2)


def gram(a: Array, b: Array) -> Array:
    """A' b over (..., j, i) and (..., j, k)."""
    return jnp.sum(a[..., :, :, None] * b[..., :, None, :], axis=-3)


class Ldl(NamedTuple):
    """L D L' with unit lower L, whose columns (below the diagonal) and pivots these are."""

    columns: Array
    """(n, n), column j in row j."""
    pivots: Array
    """(n,)"""


def factorise(matrix: Array, negative: int = 0) -> Ldl:
    """LDL' without pivoting of a quasidefinite matrix (n, n).

    Args:
        matrix: symmetric; its last ``negative`` pivots should be negative, the others positive.
        negative: how many. A pivot of the wrong sign, or lost in rounding, is replaced.
    """
    size = matrix.shape[0]
    epsilon = jnp.finfo(matrix.dtype).eps
    floor = epsilon * jnp.abs(jnp.diagonal(matrix)) + jnp.finfo(matrix.dtype).tiny
    if size > _UNROLLED:
        return _factorise_in_a_loop(matrix, floor, negative)
    columns, pivots = [], []
    for j in range(size):
        pivot = jnp.maximum(jnp.abs(matrix[0, 0]), floor[j])
        pivot = -pivot if j >= size - negative else pivot
        column = matrix[0, 1:] / pivot
        matrix = matrix[1:, 1:] - matrix[0, 1:, None] * column[None, :]
        columns.append(jnp.concatenate([jnp.zeros(j + 1, matrix.dtype), column]))
        pivots.append(pivot)
    return Ldl(jnp.stack(columns), jnp.stack(pivots))


def _factorise_in_a_loop(matrix: Array, floor: Array, negative: int) -> Ldl:
    size, index = matrix.shape[0], jnp.arange(matrix.shape[0])

    def eliminate(j: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        matrix, columns, pivots = carry
        here = index == j
        row = _pick(matrix, here)
        pivot = jnp.maximum(jnp.abs(_pick(row, here)), _pick(floor, here))
        pivot = jnp.where(j >= size - negative, -pivot, pivot)
        column = jnp.where(index > j, row / pivot, 0.0)
        matrix = matrix - pivot * column[:, None] * column[None, :]
        columns = jnp.where(here[:, None], column[None, :], columns)
        return matrix, columns, jnp.where(here, pivot, pivots)

    start = matrix, jnp.zeros_like(matrix), floor
    _, columns, pivots = jax.lax.fori_loop(0, size, eliminate, start)
    return Ldl(columns, pivots)


def substitute(factor: Ldl, right: Array) -> Array:
    """Solve for a right-hand side (n,)."""
    size = right.shape[0]
    if size > _UNROLLED:
        return _substitute_in_a_loop(factor, right)
    steps = []
    for j in range(size):
        steps.append(right[0] / factor.pivots[j])
        right = right[1:] - factor.columns[j, j + 1 :] * right[0]
    found = jnp.zeros(0, right.dtype)
    for j in reversed(range(size)):
        own = steps[j] - jnp.sum(factor.columns[j, j + 1 :] * found)
        found = jnp.concatenate([own[None], found])
    return found


def _substitute_in_a_loop(factor: Ldl, right: Array) -> Array:
    size, index = right.shape[0], jnp.arange(right.shape[0])

    def forward(j: Array, x: Array) -> Array:
        here = index == j
        return x - _pick(factor.columns, here) * _pick(x, here)

    def backward(i: Array, x: Array) -> Array:
        here = index == size - 1 - i
        return jnp.where(here, x - jnp.sum(_pick(factor.columns, here) * x), x)

    right = jax.lax.fori_loop(0, size, forward, right) / factor.pivots
    return jax.lax.fori_loop(0, size, backward, right)


_UNROLLED = 12
"""Largest matrix whose elimination is written out."""


def _pick(x: Array, here: Array) -> Array:
    """The row marked True, as a sum that stays elementwise in a batch."""
    return jnp.sum(jnp.where(here if x.ndim == 1 else here[:, None], x, 0.0), axis=0)


class ArrowMatrix(NamedTuple):
    """The symmetric matrix [[corner, spread' border'], [border spread, blocks]]."""

    corner: Array
    """(n+m, n+m): the shared variables, then the coupling rows' multipliers."""
    spread: Array
    """(p+m, n+m): what blocks see of the corner."""
    border: Array
    """(K, b, p+m)"""
    blocks: Array
    """(K, b, b)"""


class ArrowFactor(NamedTuple):
    """A factorised ArrowMatrix."""

    blocks: Ldl
    response: Array
    """(K, b, p+m) blocks^-1 border."""
    corner: Ldl
    spread: Array
    border: Array


def factorise_arrow(matrix: ArrowMatrix, negative: int) -> ArrowFactor:
    """Eliminate the blocks, then the corner, whose last ``negative`` rows are multipliers."""
    blocks = jax.vmap(factorise)(matrix.blocks)
    solve = jax.vmap(jax.vmap(substitute, in_axes=(None, 1), out_axes=1))
    response = solve(blocks, matrix.border)
    lost = jnp.sum(gram(matrix.border, response), axis=0)
    corner = matrix.corner - gram(matrix.spread, gram(lost, matrix.spread))
    return ArrowFactor(blocks, response, factorise(corner, negative), matrix.spread, matrix.border)


def substitute_arrow(factor: ArrowFactor, corner: Array, blocks: Array) -> tuple[Array, Array]:
    """Solve for right-hand sides (n+m,) and (K, b)."""
    own = jax.vmap(substitute)(factor.blocks, blocks)
    pulled = jnp.sum(transposed_product(factor.border, own), axis=0)
    found = substitute(factor.corner, corner - transposed_product(factor.spread, pulled))
    seen = sum_product(factor.spread, found)
    return found, own - jnp.sum(factor.response * seen[None, None, :], axis=-1)
