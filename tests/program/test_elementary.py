"""Elementary functions against extended precision and NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.program.elementary import cube_root, polynomial, rest_of_exp


def relative(found, wanted):
    return np.max(np.abs(np.asarray(found).astype(np.longdouble) / wanted - 1))


def test_cube_root():
    x = np.geomspace(1e-200, 1e200, 10_001)
    assert relative(jax.jit(cube_root)(x), np.cbrt(x)) < 5e-14  # log x is 460 at the ends


def test_rest_keeps_its_digits_where_its_terms_cancel():
    x = np.concatenate([np.geomspace(1e-140, 1, 20_001), np.linspace(1, 600, 10_001)])
    wide = x.astype(np.longdouble)
    series = sum((-1) ** i * wide ** (i + 2) / math.factorial(i + 2) for i in range(18))
    wanted = np.where(wide < 0.3, series, wide - 1 + np.exp(-wide))
    power, rest = jax.jit(rest_of_exp)(x)
    assert relative(power, np.exp(-wide)) < 4.5e-16
    assert relative(rest, wanted) < 2e-13


@pytest.mark.parametrize("count", range(1, 12))
def test_polynomial(count):
    coefficients = tuple(np.random.default_rng(count).normal(size=count))
    x = np.linspace(-1.5, 1.5, 11)
    np.testing.assert_allclose(
        polynomial(coefficients, jnp.asarray(x)) + 0 * x,
        np.polynomial.polynomial.polyval(x, coefficients),
        rtol=1e-12,
        atol=1e-13,
    )
