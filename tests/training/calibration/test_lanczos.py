"""Lanczos finds the top of spectra that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.training.calibration.lanczos import largest_eigenvalue

RNG = np.random.default_rng(3)


def symmetric(eigenvalues):
    """A matrix with these eigenvalues, and its eigenvectors in columns."""
    vectors = np.linalg.qr(RNG.normal(size=(len(eigenvalues),) * 2))[0]
    return vectors * eigenvalues @ vectors.T, vectors


SPECTRA = {
    "spread": np.linspace(-1, 3, 40),
    "negative": -np.linspace(1, 3, 30),
    "one large": np.r_[100.0, np.full(30, 0.1)],
    "the largest in size is negative": np.r_[-100.0, np.linspace(0, 1, 30)],
    "a pair at the top": np.r_[5.0, 5.0, np.linspace(0, 1, 20)],
    "close at the top": np.r_[5.0, 4.99, np.linspace(0, 4, 20)],
    "a multiple of one": np.full(12, 2.5),
    "one number": np.array([-0.7]),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_the_largest_eigenvalue_is_found(name):
    matrix, _ = symmetric(SPECTRA[name])
    start = jnp.asarray(RNG.normal(size=len(matrix)))
    found = largest_eigenvalue(lambda v: jnp.asarray(matrix) @ v, start)
    assert found.value == pytest.approx(np.linalg.eigvalsh(matrix)[-1], rel=1e-7)
    vector = np.asarray(found.vector)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-12)
    residual = np.linalg.norm(matrix @ vector - found.value * vector)
    assert residual == pytest.approx(found.residual, abs=1e-9)


@pytest.mark.every_python
def test_it_stops_as_soon_as_the_residual_is_small():
    matrix, _ = symmetric(np.linspace(0, 1, 200) ** 8)
    start = jnp.asarray(RNG.normal(size=200))
    rough = largest_eigenvalue(lambda v: jnp.asarray(matrix) @ v, start, tolerance=1e-2)
    fine = largest_eigenvalue(lambda v: jnp.asarray(matrix) @ v, start, tolerance=1e-10)
    assert rough.steps < fine.steps < 60
    assert rough.value < 1
    assert fine.value == pytest.approx(1, rel=1e-12)
    assert rough.value + rough.residual > 1
    short = largest_eigenvalue(lambda v: jnp.asarray(matrix) @ v, start, steps=3)
    assert short.steps == 3
    assert short.value < rough.value


def test_orthogonality_survives_single_precision():
    """A basis that is not orthogonalised whole finds the top again and again."""
    matrix, _ = symmetric(np.r_[1e4, np.linspace(0, 1, 99)])
    matrix = jnp.asarray(matrix, jnp.float32)
    start = jnp.asarray(RNG.normal(size=100), jnp.float32)
    found = largest_eigenvalue(lambda v: matrix @ v, start, tolerance=0.0)
    assert found.value == pytest.approx(1e4, rel=1e-5)
    assert found.value + found.residual < 1.001e4


def test_products_that_are_not_finite_are_named():
    with pytest.raises(ValueError, match="not finite"):
        largest_eigenvalue(lambda v: v * jnp.nan, jnp.ones(3))


def test_it_is_the_same_for_the_hessian_of_a_network():
    keys = jax.random.split(jax.random.key(0), 3)
    x, y = jax.random.normal(keys[0], (20, 3)), jax.random.normal(keys[1], (20,))

    def loss(w):
        return jnp.mean((jnp.tanh(x @ w[:12].reshape(3, 4)) @ w[12:] - y) ** 2)

    w = jax.random.normal(keys[2], (16,))

    def product(v):
        return jax.jvp(jax.grad(loss), (w,), (v,))[1]

    found = largest_eigenvalue(product, jnp.asarray(RNG.normal(size=16)))
    explicit = np.linalg.eigvalsh(np.asarray(jax.hessian(loss)(w)))[-1]
    assert found.value == pytest.approx(explicit, rel=1e-8)
