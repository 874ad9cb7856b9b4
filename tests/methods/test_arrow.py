"""Block-arrow problems: their derivatives, and their elimination against a dense solve."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.methods.arrow import (
    ArrowProblem,
    Rows,
    Terms,
    Variables,
    curvature_along,
    differentiate,
    newton_matrix,
    pull_back,
    push_forward,
)
from jaxedge.methods.elimination import (
    ArrowMatrix,
    factorise,
    factorise_arrow,
    substitute,
    substitute_arrow,
)


def _definite(rng, size):
    root = rng.normal(size=(size, size))
    return root @ root.T + 0.1 * np.eye(size)


def _arrow(rng, count, block, shared, seen, rows):
    """A random quasidefinite arrow matrix, and the same as a dense array."""
    blocks = np.stack([_definite(rng, block) for _ in range(count)])
    border = rng.normal(size=(count, block, seen + rows))
    spread = np.zeros((seen + rows, shared + rows))
    spread[:seen, :shared] = rng.normal(size=(seen, shared))
    spread[seen:, shared:] = np.eye(rows)
    lost = sum(b.T @ np.linalg.solve(w, b) for b, w in zip(border, blocks, strict=True))
    met = rng.normal(size=(rows, shared))
    corner = np.block([[_definite(rng, shared), met.T], [met, -np.diag(rng.uniform(0.1, 1, rows))]])
    view = spread[:seen, :shared]
    corner[:shared, :shared] += view.T @ lost[:seen, :seen] @ view
    matrix = ArrowMatrix(*map(jnp.asarray, (corner, spread, border, blocks)))
    return matrix, _dense(corner, spread, border, blocks)


def _dense(corner, spread, border, blocks):
    size, (count, block, _) = len(corner), blocks.shape
    dense = np.zeros((size + count * block,) * 2)
    dense[:size, :size] = corner
    for k in range(count):
        own = slice(size + k * block, size + (k + 1) * block)
        dense[own, own] = blocks[k]
        dense[own, :size] = border[k] @ spread
        dense[:size, own] = dense[own, :size].T
    return dense


@pytest.mark.every_python
@pytest.mark.parametrize(
    ("count", "block", "shared", "seen", "rows"),
    [(1, 1, 1, 1, 1), (2, 3, 4, 2, 1), (7, 3, 5, 2, 2), (40, 5, 3, 3, 0)],
)
def test_elimination_agrees_with_a_dense_solve(count, block, shared, seen, rows):
    rng = np.random.default_rng(count)
    matrix, dense = _arrow(rng, count, block, shared, seen, rows)
    corner, blocks = rng.normal(size=shared + rows), rng.normal(size=(count, block))
    found = substitute_arrow(factorise_arrow(matrix, rows), jnp.asarray(corner), blocks)
    expected = np.linalg.solve(dense, np.concatenate([corner, blocks.ravel()]))
    got = np.concatenate([np.asarray(part).ravel() for part in found])
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize("size", [1, 3, 4, 5, 9, 12, 13, 20])  # in a loop from 13 on
def test_dense_elimination_agrees_with_lapack(size):
    rng = np.random.default_rng(size)
    matrix, right = _definite(rng, size), rng.normal(size=size)
    found = substitute(factorise(jnp.asarray(matrix)), jnp.asarray(right))
    np.testing.assert_allclose(found, np.linalg.solve(matrix, right), rtol=1e-10)


def test_pivots_of_a_singular_or_indefinite_matrix_keep_their_signs():
    large = np.diag([*np.ones(12), -2.0, 3.0])
    for matrix in (np.ones((3, 3)), np.diag([1.0, -2.0, 3.0]), np.ones((14, 14)), large):
        size = len(matrix)
        factor = factorise(jnp.asarray(matrix), negative=1)
        assert np.all(np.sign(factor.pivots) == [1] * (size - 1) + [-1])
        assert np.all(np.isfinite(substitute(factor, jnp.ones(size))))


def _shared(params, s):
    rows = jnp.stack([s[0] * s[1] - 3, jnp.exp(s[2])])
    return Terms(jnp.sum(params * s**3), jnp.sum(s**2)[None], rows)


def _block(params, own, v, x):
    rows = jnp.stack([x[0] * v[1] ** 2 - own, x[1] - x[0]])
    coupling = x[0] ** 2 * jnp.sin(v[0])
    return Terms(own * jnp.sum(x**2 * v) + params[0] * x[0], coupling[None], rows)


def _view(params, s):
    return jnp.stack([s[0] * s[2], s[1] + params[1] * s[0] ** 2])


CURVED = ArrowProblem(shared=_shared, block=_block, view=_view)
PARAMS, OWN = jnp.array([0.5, -1.0, 2.0]), jnp.array([1.0, 2.0, -0.5, 0.3])
AT = Variables(jnp.array([0.7, -0.4, 1.1]), jnp.arange(8.0).reshape(4, 2) / 5 - 0.6)
WEIGHTS = Rows(jnp.array([0.8]), jnp.array([0.2, 1.5]), jnp.arange(1.0, 9.0).reshape(4, 2) / 7)


def _join(parts):
    return jnp.concatenate([jnp.ravel(part) for part in parts])


def _apart(flat):
    return Variables(flat[:3], flat[3:].reshape(4, 2))


def _rows(flat):
    at = _apart(flat)
    view, own = _view(PARAMS, at.shared), _shared(PARAMS, at.shared)
    each = [_block(PARAMS, OWN[k], view, at.blocks[k]) for k in range(4)]
    coupling = own.coupling + sum(term.coupling for term in each)
    return _join([coupling, own.residuals, *(term.residuals for term in each)])


def _objective(flat):
    at = _apart(flat)
    each = jax.vmap(lambda q, x: _block(PARAMS, q, _view(PARAMS, at.shared), x).objective)
    return _shared(PARAMS, at.shared).objective + jnp.sum(each(OWN, at.blocks))


def _lagrangian(flat):
    return _objective(flat) + jnp.sum(_join(WEIGHTS) * _rows(flat))


def test_derivatives_of_a_curved_problem_are_those_of_the_whole():
    d = differentiate(CURVED, PARAMS, OWN, AT, WEIGHTS)
    flat, direction = _join(AT), jnp.sin(jnp.arange(11.0))
    assert d.objective == pytest.approx(float(_objective(flat)), rel=1e-14)
    np.testing.assert_allclose(_join(d.residuals), _rows(flat), atol=1e-14)
    gradient = _join(pull_back(d, WEIGHTS, jnp.ones(())))
    np.testing.assert_allclose(gradient, jax.grad(_lagrangian)(flat), atol=1e-13)
    change = _join(push_forward(d, _apart(direction)))
    np.testing.assert_allclose(change, jax.jvp(_rows, (flat,), (direction,))[1], atol=1e-13)


def test_curvature_along_a_direction_is_the_lagrangians_hessian_times_it():
    d = differentiate(CURVED, PARAMS, OWN, AT, WEIGHTS)
    step = jax.tree.map(lambda x: jnp.cos(3 * x), AT)
    expected = jax.hessian(_lagrangian)(_join(AT)) @ _join(step)
    np.testing.assert_allclose(_join(curvature_along(d, step)), expected, atol=1e-12)


def test_newtons_matrix_is_the_lagrangians_hessian_with_its_rows():
    d = differentiate(CURVED, PARAMS, OWN, AT, WEIGHTS)
    stiffness = jax.tree.map(lambda z: 3 * z, WEIGHTS)
    matrix = newton_matrix(d, stiffness)
    dense = _dense(*(np.asarray(x) for x in matrix))
    flat = _join(AT)
    rows = jax.jacfwd(_rows)(flat)
    expected = jax.hessian(_lagrangian)(flat)
    expected = expected + rows[1:].T @ (rows[1:] * _join(stiffness)[1:, None])
    keep = [0, 1, 2, *range(4, 12)]  # the coupling row's multiplier stands after the shared part
    np.testing.assert_allclose(dense[np.ix_(keep, keep)], expected, atol=1e-12)
    np.testing.assert_allclose(dense[3, keep], rows[0], atol=1e-13)
    assert dense[3, 3] == pytest.approx(-1 / float(stiffness.coupling[0]))
