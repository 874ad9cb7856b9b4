"""Projected gradient on problems with known answers, in boxes and in batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from jaxedge.methods.directions import NAMES
from jaxedge.methods.projected_gradient import ProjectedGradient, solve
from jaxedge.methods.smooth_problem import SmoothProblem


def rosenbrock(params, x):
    return jnp.sum(params * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def boxed(lower, upper):
    return SmoothProblem(objective=rosenbrock, limits=lambda p: (lower, upper))


FREE = SmoothProblem(objective=rosenbrock)
BOXES = {
    "free": (-np.inf, np.inf),
    "optimum on a corner": (1.1, 3.0),
    "optimum on a side": (-2.0, 0.5),
    "a point": (0.3, 0.3),
    "half open": (-np.inf, 0.8),
}


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("count", [2, 6])
def test_rosenbrock_in_a_box_agrees_with_scipy(box, count):
    lower, upper = BOXES[box]
    start = jnp.clip(jnp.linspace(-1.2, 0.9, count), lower, upper)
    answer = solve(boxed(lower, upper), 100.0, start)
    value_and_slope = jax.jit(jax.value_and_grad(lambda x: rosenbrock(100.0, x)))
    best = minimize(
        lambda x: tuple(map(np.asarray, value_and_slope(x))),
        np.asarray(start),
        jac=True,
        method="L-BFGS-B",
        bounds=[(lower, upper)] * count,
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 5000},
    )
    assert answer.converged
    assert answer.objective <= best.fun + 1e-10
    assert np.all((answer.x >= lower) & (answer.x <= upper))


def quadratic_with_answer(seed, count=8):
    """A convex quadratic in [0, 1]^n built backwards from its optimum and multipliers."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(count, count))
    matrix = root @ root.T + 0.1 * np.eye(count)
    place = rng.integers(0, 3, count)
    x = np.where(place == 0, 0.0, np.where(place == 1, 1.0, rng.uniform(0.2, 0.8, count)))
    slope = np.where(place == 0, 1.0, np.where(place == 1, -1.0, 0.0)) * rng.uniform(0.5, 2, count)
    return {"matrix": matrix, "offset": slope - matrix @ x}, x


QUADRATIC = SmoothProblem(
    objective=lambda p, x: (
        0.5 * jnp.sum(x * jnp.sum(p["matrix"] * x[None], 1)) + jnp.sum(p["offset"] * x)
    ),
    limits=lambda p: (0.0, 1.0),
)


@pytest.mark.parametrize("direction", NAMES)
@pytest.mark.parametrize("seed", range(3))
def test_a_quadratic_built_from_its_optimum(direction, seed):
    params, expected = quadratic_with_answer(seed)
    settings = ProjectedGradient(direction=direction, tolerance=1e-7, max_steps=20_000)
    with jax.numpy_dtype_promotion("strict"):
        answer = solve(QUADRATIC, params, jnp.full(8, 0.5), settings)
    assert answer.converged
    np.testing.assert_allclose(answer.x, expected, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(answer.x)[expected == 1.0], 1.0)
    np.testing.assert_array_equal(np.asarray(answer.x)[expected == 0.0], 0.0)


def test_badly_scaled_variables_are_learned():
    scales = jnp.logspace(-6, 0, 20)
    problem = SmoothProblem(objective=lambda p, x: jnp.sum(p * jnp.cosh(x - 1)))
    answer = solve(problem, scales, jnp.zeros(20), ProjectedGradient(tolerance=1e-11))
    np.testing.assert_allclose(answer.x, 1.0, atol=1e-4)
    assert answer.steps < 200


def test_a_step_is_no_longer_than_allowed():
    problem = SmoothProblem(objective=lambda p, x: jnp.sum((x - p) ** 2))
    slow = solve(problem, 100.0, jnp.zeros(1), ProjectedGradient(max_move=1.0, max_steps=50))
    assert not slow.converged
    assert 1.0 < slow.x[0] <= 50.0


def test_vmap_equals_a_loop_and_isolates_what_is_no_number():
    weights = jnp.array([1.0, 100.0, jnp.nan, 10.0])
    start = jnp.array([-1.2, 1.0])
    together = jax.vmap(lambda p: solve(FREE, p, start))(weights)
    for i in (0, 1, 3):
        alone = solve(FREE, weights[i], start)
        assert together.steps[i] == alone.steps
        np.testing.assert_allclose(together.x[i], alone.x, rtol=1e-9)
        np.testing.assert_allclose(together.x[i], 1.0, atol=1e-6)
    np.testing.assert_array_equal(together.converged, [True, True, False, True])


def test_an_undefined_region_is_backed_out_of():
    problem = SmoothProblem(objective=lambda p, x: jnp.sum(p * x - jnp.log(x)))
    answer = solve(problem, 1e-3, jnp.array([1.0]))
    assert answer.converged
    assert answer.x[0] == pytest.approx(1e3, rel=1e-3)


def test_work_is_bounded():
    answer = solve(FREE, 100.0, jnp.array([-1.2, 1.0]), ProjectedGradient(max_steps=7))
    assert answer.steps == 7
    assert not answer.converged


def test_what_it_cannot_do_is_refused():
    problem = SmoothProblem(objective=rosenbrock, residuals=lambda p, x: x)
    with pytest.raises(ValueError, match="has 2 residuals"):
        solve(problem, 1.0, jnp.zeros(2))
    with pytest.raises(ValueError, match="did you mean adam"):
        solve(FREE, 1.0, jnp.zeros(2), ProjectedGradient(direction="adams"))
