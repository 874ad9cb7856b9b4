"""Successive convex approximation, its search, and the baseline's design of the program."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.bounds.two_stage import two_stage_program
from jaxedge.methods.convex_approximation import ConvexApproximation, approximate, search
from jaxedge.methods.smooth_problem import SmoothProblem
from jaxedge.relaxation import by_augmented_lagrangian
from jaxedge.relaxation.by_convex_approximation import SURROGATE, AtRounds
from jaxedge.relaxation.driver import judged_by, solve_relaxed
from jaxedge.relaxation.solvers import SOLVERS
from jaxedge.scenario.presets import get
from jaxedge.scenario.sampling import sample_batch
from jaxedge.scenario.validation import validate, validate_batch


def test_a_sum_of_convex_and_concave_goes_to_its_minimum():
    # x^4 - 2 p x^2 with the second term linearised at x': minima at +-sqrt(p).
    surrogate = SmoothProblem(
        objective=lambda params, x: jnp.sum(x**4 - 4 * params[0] * params[1] * x)
    )
    settings = ConvexApproximation(approximations=30)
    for start in (0.3, -2.0):
        answer = approximate(surrogate, jnp.array(2.0), jnp.array([start]), settings)
        assert answer.x[0] == pytest.approx(np.sign(start) * np.sqrt(2), abs=1e-3)


@pytest.mark.parametrize("best", [(0.3, -1.2), (-3.0, 2.0), (0.0, 0.0)])
def test_the_search_finds_the_least_of_a_quasiconvex_function(best):
    def value(point, guess):
        away = point - jnp.array(best)
        kept = jnp.sum(point) <= 5.0
        bowl = jnp.sqrt(away[0] ** 2 + 3 * away[1] ** 2 + away[0] * away[1])
        return jnp.where(kept, bowl, jnp.inf), point

    lower, upper = jnp.array([-3.0, -4.0]), jnp.array([5.0, 4.0])
    point, guess = search(value, lower, upper, jnp.zeros(2), 25)
    np.testing.assert_allclose(point, best, atol=1e-3)
    np.testing.assert_array_equal(point, guess)


def test_the_search_finds_a_small_feasible_corner():
    def value(point, guess):
        return jnp.where(jnp.max(point) <= -0.9, -jnp.sum(point), jnp.inf), guess

    point, _ = search(value, jnp.full(2, -1.0), jnp.ones(2), None, 25)
    np.testing.assert_allclose(point, -0.9, atol=1e-2)


@pytest.fixture(scope="module")
def program():
    return two_stage_program(validate(get("small")))


def moved(z, size, seed):
    leaves, tree = jax.tree.flatten(z)
    rng = np.random.default_rng(seed)
    return jax.tree.unflatten(tree, [x + size * rng.uniform(-1, 1, x.shape) for x in leaves])


@pytest.mark.parametrize("seed", range(3))
def test_the_convex_functions_lie_above_and_touch(program, seed):
    near = moved(by_augmented_lagrangian.start(program), 0.3, seed)
    given = AtRounds(program, jnp.stack([near.pretraining_rounds, near.finetuning_rounds]))

    def above(z):
        return SURROGATE.residuals((given, near), z)

    def true(z):
        return by_augmented_lagrangian.residuals(program, z)

    np.testing.assert_allclose(above(near), true(near), rtol=1e-12, atol=1e-12)
    fixed = ("pretraining_rounds", "finetuning_rounds")
    for name in {field.name for field in dataclasses.fields(near)} - set(fixed):
        slopes = [getattr(jax.jacfwd(f)(near), name) for f in (above, true)]
        np.testing.assert_allclose(*slopes, rtol=1e-9, atol=1e-12)
    far = dataclasses.replace(
        moved(near, 1.0, seed + 10), **{name: getattr(near, name) for name in fixed}
    )
    assert np.all(above(far) >= true(far) - 1e-12)
    assert np.any(above(far) > true(far) + 1e-3)


@pytest.fixture
def optimised(monkeypatch):
    """LLVM optimises: worth it where running takes longer than compiling."""
    hard = {"xla_backend_optimization_level": 2}
    monkeypatch.setattr(jax, "jit", partial(jax.jit, compiler_options=hard))
    judged_by.cache_clear()
    yield
    judged_by.cache_clear()


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
def test_the_baseline_comes_near_the_certified_optimum():
    scenarios = validate_batch(sample_batch(jax.random.key(2), 3, 2, tightness=0.3))
    batch = jax.tree.map(np.asarray, jax.jit(jax.vmap(two_stage_program))(scenarios))
    best = solve_relaxed(batch).lower_bound
    found = solve_relaxed(batch, solver="convex-approximation")
    assert np.all(found.design.value >= best * (1 - 1e-12))
    np.testing.assert_array_less(found.design.value / best - 1, 1e-2)
    assert np.median(found.design.value / best - 1) <= 1e-3
    # Its own multipliers certify it.
    assert np.all(found.lower_bound <= best * (1 + 1e-6))
    np.testing.assert_array_less(found.gap, SOLVERS["convex-approximation"].gap)
