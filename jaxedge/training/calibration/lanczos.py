"""The largest eigenvalue of a symmetric operator by Lanczos, from its products with vectors alone.

After j steps with the orthonormal basis V_j, V_j' H V_j is tridiagonal. Its largest eigenvalue
theta with eigenvector s is a lower bound of the operator's, and an eigenvalue of H lies within
|beta_j s_j| of it (Parlett, The Symmetric Eigenvalue Problem, 1998, chapter 13). In floating point
the basis loses its orthogonality as theta converges, so all of it is cleared at every step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

STEPS = 60
"""Most products taken; converged at the top of a spectrum long before."""
TOLERANCE = 1e-4
"""Residual at which to stop, relative to theta; the error of theta falls with its square."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ritz:
    """An approximate eigenpair."""

    value: float
    """theta, at most the operator's largest eigenvalue."""
    residual: float
    """|H v - theta v|; an eigenvalue lies within it of theta."""
    vector: Array
    """(n,) v, of norm 1."""
    steps: int


@partial(jax.jit, donate_argnums=0)
def _kept(basis: Array, vector: Array, row: int) -> Array:
    return basis.at[row].set(vector)


@jax.jit
def _orthogonal(product: Array, basis: Array, row: int) -> tuple[Array, Array, Array]:
    """The part of H q orthogonal to the basis, its norm, and q' H q; twice is enough (Kahan)."""
    first = basis @ product
    rest = product - first @ basis
    rest = rest - (basis @ rest) @ basis
    return rest, jnp.linalg.norm(rest), first[row]


def largest_eigenvalue(
    product: Callable[[Array], Array],
    start: Array,
    *,
    steps: int = STEPS,
    tolerance: float = TOLERANCE,
) -> Ritz:
    """The algebraically largest eigenvalue of a symmetric operator.

    Args:
        product: v (n,) -> H v (n,), best compiled.
        start: (n,) a random vector; what is orthogonal to it is never found.
        steps: most products taken; n are always enough.
        tolerance: of the residual, relative to theta.

    Raises:
        ValueError: if a product is not finite.
    """
    most = min(steps, start.size)
    basis = jnp.zeros((most, start.size), start.dtype)
    vector = start / jnp.linalg.norm(start)
    diagonal: list[float] = []
    beside: list[float] = []
    for row in range(most):
        basis = _kept(basis, vector, row)
        rest, norm, alpha = _orthogonal(product(vector), basis, row)
        diagonal.append(float(alpha))
        beside.append(float(norm))
        if not np.isfinite([diagonal[-1], beside[-1]]).all():
            raise ValueError("a product with the operator is not finite: check loss and weights")
        values, vectors = _tridiagonal(diagonal, beside[:-1])
        size = float(np.abs(values).max())
        residual = beside[-1] * abs(vectors[-1, -1])
        # Where nothing is left beside the basis, it holds an eigenvector of every eigenvalue.
        exhausted = beside[-1] <= 10 * jnp.finfo(start.dtype).eps * size
        if residual <= tolerance * abs(values[-1]) or exhausted:
            break
        vector = rest / norm
    shares = jnp.asarray(vectors[:, -1], start.dtype)
    return Ritz(
        value=float(values[-1]),
        residual=float(residual),
        vector=shares @ basis[: len(diagonal)],
        steps=len(diagonal),
    )


def _tridiagonal(diagonal: list[float], beside: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Ascending eigenvalues, and eigenvectors in columns."""
    matrix = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
    values, vectors = np.linalg.eigh(matrix)
    return values, vectors
