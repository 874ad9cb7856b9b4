"""The problem type: flattening, limits, projection, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.methods.smooth_problem import SmoothProblem, flatten, stationarity


def objective(params, x):
    return params * jnp.sum(x["a"] ** 2) + jnp.sum(x["b"])


START = {"a": jnp.array([1.0, 2.0]), "b": jnp.array(3.0)}


def test_a_pytree_becomes_one_vector_and_comes_back():
    flat = flatten(SmoothProblem(objective=objective), jnp.array(2.0), START)
    np.testing.assert_array_equal(flat.start, [1.0, 2.0, 3.0])
    assert flat.objective(flat.start) == objective(2.0, START)
    back = flat.unravel(flat.start)
    np.testing.assert_array_equal(back["a"], START["a"])
    assert np.all(np.isinf(flat.lower)) and np.all(np.isinf(flat.upper))
    assert flat.residuals(flat.start).shape == (0,)


@pytest.mark.parametrize("low", [0.5, {"a": 0.5, "b": 0.5}, {"a": jnp.full(2, 0.5), "b": 0.5}])
def test_a_limit_serves_all_below_it(low):
    problem = SmoothProblem(objective=objective, limits=lambda p: (low, {"a": jnp.inf, "b": p}))
    flat = flatten(problem, jnp.array(2.0), START)
    np.testing.assert_array_equal(flat.lower, [0.5, 0.5, 0.5])
    np.testing.assert_array_equal(flat.upper, [np.inf, np.inf, 2.0])
    np.testing.assert_array_equal(flat.start, [1.0, 2.0, 2.0])


@pytest.mark.parametrize("low", [{"a": jnp.zeros(3), "b": 0.0}, {"c": 0.0}, {"a": 0.0}])
def test_limits_that_do_not_fit_are_refused(low):
    problem = SmoothProblem(objective=objective, limits=lambda p: (low, jnp.inf))
    with pytest.raises(ValueError, match="limits: they do not fit"):
        flatten(problem, 2.0, START)


def test_whole_numbers_are_no_variables():
    with pytest.raises(ValueError, match=r"start: \['a'\] is int"):
        flatten(SmoothProblem(objective=objective), 2.0, {"a": jnp.arange(2), "b": jnp.array(1.0)})


def test_stationarity_is_the_projected_gradient():
    lower, upper = jnp.zeros(4), jnp.ones(4)
    x = jnp.array([0.0, 1.0, 0.5, 0.25])
    gradient = jnp.array([3.0, -2.0, 0.0, 0.1])
    assert stationarity(x, gradient, lower, upper) == pytest.approx(0.1)
    assert stationarity(x, -gradient, lower, upper) == pytest.approx(1.0)


def test_params_are_batched_by_vmap():
    problem = SmoothProblem(objective=objective)
    values = jax.vmap(lambda p: flatten(problem, p, START).objective(jnp.ones(3)))(jnp.arange(3.0))
    np.testing.assert_allclose(values, [1.0, 3.0, 5.0])
