"""The noise's variance is found along the modes where it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.training.calibration.noise_spectrum import (
    NoiseMeter,
    curvature_grid,
    ritz,
    tridiagonal,
)
from tests.training.calibration.quadratic_tasks import quadratic_task

RNG = np.random.default_rng(3)
SIZES = np.array([40, 25, 30])
WEIGHT = np.array([0.5, 0.2, 0.3])
CURVATURE = np.array([0.02, 0.3, 1.0, 6.0])
GRID = curvature_grid(0.1, 0.05)


def symmetric(values):
    basis = np.linalg.qr(RNG.normal(size=(len(values), len(values))))[0]
    return (basis * values) @ basis.T


def quadrature(matrix, start, steps):
    with jax.enable_x64(True):
        rows = tridiagonal(lambda v: jnp.asarray(matrix) @ v, jnp.asarray(start), steps)
    nodes, weights = ritz(np.asarray(rows)[None], np.array([start @ start]))
    return nodes[0], weights[0]


def test_quadrature_is_exact_for_polynomials_up_to_twice_the_steps():
    matrix, start = symmetric(np.linspace(-1, 3, 9)), RNG.normal(size=9)
    nodes, weights = quadrature(matrix, start, 4)
    for power in range(8):
        exact = start @ np.linalg.matrix_power(matrix, power) @ start
        assert weights @ nodes**power == pytest.approx(exact, rel=1e-10)
    exact = start @ np.linalg.matrix_power(matrix, 8) @ start
    assert weights @ nodes**8 != pytest.approx(exact, rel=1e-6)


def test_an_exhausted_space_leaves_nodes_without_weight():
    values = np.array([1.0, 1.0, 1.0, 2.0, 2.0, 5.0])
    matrix, start = symmetric(values), RNG.normal(size=6)
    nodes, weights = quadrature(matrix, start, 6)
    real = weights > 1e-12
    np.testing.assert_allclose(np.sort(nodes[real]), [1, 2, 5], rtol=1e-10)
    assert weights.sum() == pytest.approx(start @ start)


@pytest.fixture(scope="module")
def quadratic():
    """The owners' noise differs in size and in direction."""
    server = RNG.normal(size=(200, 4)) * [3.0, 1.0, 0.5, 0.2]
    devices = RNG.normal(size=(SIZES.sum(), 4)) * np.repeat([[1.0], [4.0], [0.5]], SIZES, axis=0)
    return quadratic_task(CURVATURE, server, devices, SIZES, np.ones(4))


def variances(x):
    """Of one sample's gradient along each mode, the samples drawn from those that there are."""
    return CURVATURE**2 * x.var(axis=0)


def at_modes(spectrum):
    """What stands at the two curvatures around each mode."""
    place = np.searchsorted(GRID, CURVATURE)
    return spectrum[place - 1] + spectrum[place]


def test_the_noise_of_a_quadratic_is_its_samples_covariance(quadratic):
    draws = 3000
    server, devices = NoiseMeter(quadratic, WEIGHT, seed=1, draws=draws)(quadratic.weights, GRID)
    own = [variances(x) for x in np.split(quadratic.devices.x, np.cumsum(SIZES)[:-1])]
    pooled = WEIGHT**2 @ np.stack(own) / np.sum(WEIGHT**2)
    for found, true in ((server, variances(quadratic.general.x)), (devices, pooled)):
        # A draw's z_i^2 has a variance of at most 2 Sigma_ii^2.
        np.testing.assert_allclose(at_modes(found), true, rtol=4 * np.sqrt(2 / draws))
        assert found.sum() == pytest.approx(at_modes(found).sum(), rel=1e-5)


def test_devices_make_no_noise_in_what_they_do_not_train(quadratic):
    partly = quadratic_task(
        CURVATURE, quadratic.general.x, quadratic.devices.x, SIZES, np.ones(4), (False, True)
    )
    server, devices = NoiseMeter(partly, WEIGHT, seed=1)(partly.weights, GRID)
    assert (at_modes(server) > 0).all()
    np.testing.assert_allclose(at_modes(devices)[:2], 0, atol=1e-9 * devices.sum())
    assert (at_modes(devices)[2:] > 0).all()


def test_curvatures_beyond_the_grid_count_at_its_ends(quadratic):
    grid = np.array([0.5, 2.0, 3.0])
    server, _ = NoiseMeter(quadratic, WEIGHT, seed=1)(quadratic.weights, grid)
    whole, _ = NoiseMeter(quadratic, WEIGHT, seed=1)(quadratic.weights, GRID)
    slow, _, middle, fast = at_modes(whole)
    above = np.log(1.0 / 0.5) / np.log(2.0 / 0.5)
    assert server[2] == pytest.approx(fast, rel=1e-4)
    assert server[1] == pytest.approx(above * middle, rel=1e-4)
    assert server[0] == pytest.approx(slow + at_modes(whole)[1] + (1 - above) * middle, rel=1e-4)


def test_the_grid_moves_with_the_faster_stage():
    grid = curvature_grid(0.02, 0.5)
    assert len(grid) == 30
    assert grid[0] == pytest.approx(5e-5)
    assert grid[-1] * 0.5 == pytest.approx(0.95)
