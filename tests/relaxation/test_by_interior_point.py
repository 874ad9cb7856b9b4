"""The interior point on problems of known answers, on SciPy's, and on the built-in program."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from jaxedge.bounds.two_stage import two_stage_program
from jaxedge.methods.arrow import ArrowProblem, Rows, Terms, Variables
from jaxedge.methods.interior_point import InteriorPoint, Outcome, solve
from jaxedge.relaxation.by_interior_point import solve_program
from jaxedge.relaxation.driver import solve_relaxed
from jaxedge.scenario.sampling import sample_batch


def _joined(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def _known_shared(params, s):
    power, target, limits = params["power"], params["shared"], params["limits"]
    gradient = params["shared_gradient"]
    bowl = jnp.sum(jnp.exp(s - target) - (s - target)) + jnp.sum(gradient * (s - target))
    coupling = jnp.sum(s**2) - jnp.sum(target**2) - limits[0]
    local = jnp.sum(s) - jnp.sum(target) - limits[1]
    return Terms(power * bowl, coupling[None], local[None])


def _known_block(params, own, v, x):
    target, gradient, limit = own
    bowl = jnp.sum((x - target) ** 4 + (x - target) ** 2) + jnp.sum(gradient * (x - target))
    coupling = jnp.sum(jnp.exp(x)) - jnp.sum(jnp.exp(target))
    pull = jnp.sum(v) - jnp.sum(params["shared"])
    local = x[0] ** 2 - x[1] + pull - (target[0] ** 2 - target[1]) - limit
    return Terms(params["power"] * bowl, coupling[None], local[None])


def _known_answer(seed, count):
    """A convex problem built backwards from its answer: gradients cancel the multipliers'."""
    rng = np.random.default_rng(seed)
    shared, blocks = rng.normal(size=3), rng.normal(size=(count, 2))
    active = rng.random(count) < 0.5
    local, limits = np.where(active, rng.uniform(0.1, 3, count), 0.0), np.where(active, 0.0, 1.0)
    coupling, own = rng.uniform(0.1, 3), rng.uniform(0.1, 3)
    pull = np.stack([2 * blocks[:, 0], -np.ones(count)], axis=1)
    params = {
        "power": jnp.asarray(1.0),
        "shared": jnp.asarray(shared),
        "limits": jnp.zeros(2),
        "shared_gradient": jnp.asarray(-2 * coupling * shared - own - np.sum(local)),
    }
    gradient = -coupling * np.exp(blocks) - local[:, None] * pull
    each = (jnp.asarray(blocks), jnp.asarray(gradient), jnp.asarray(limits))
    answer = Variables(shared, blocks)
    return params, each, answer, Rows(np.array([coupling]), np.array([own]), local[:, None])


KNOWN = ArrowProblem(shared=_known_shared, block=_known_block)
_solve_known = jax.jit(lambda p, b, s, o: solve(KNOWN, p, b, s, o))


@pytest.mark.parametrize(("seed", "count"), [(0, 1), (1, 3), (2, 10), (3, 100)])
def test_problems_built_backwards_from_their_answers(seed, count):
    params, each, answer, multipliers = _known_answer(seed, count)
    start = Variables(jnp.full(3, 0.5), jnp.full((count, 2), -0.3))
    found = _solve_known(params, each, start, InteriorPoint())
    assert found.outcome == Outcome.SOLVED
    np.testing.assert_allclose(_joined(found.variables), _joined(answer), atol=1e-6)
    np.testing.assert_allclose(_joined(found.multipliers), _joined(multipliers), atol=1e-5)
    assert max(np.max(rows) for rows in found.residuals) <= 1e-9


def test_multipliers_are_in_the_units_of_the_problem():
    params, each, _, multipliers = _known_answer(1, 3)
    params = params | {"power": jnp.asarray(1e6)}
    start = Variables(jnp.full(3, 0.5), jnp.full((3, 2), -0.3))
    found = _solve_known(params, each, start, InteriorPoint())
    np.testing.assert_allclose(
        _joined(found.multipliers), 1e6 * _joined(multipliers), rtol=1e-4, atol=10
    )


def _valley_shared(params, s):
    return Terms((s[0] - params) ** 2, jnp.zeros(0), jnp.stack([s[0] - 3, -3 - s[0]]))


def _valley_block(params, own, v, x):
    # Not convex: a double well, tilted by the shared variable.
    bowl = x[0] ** 4 - 2 * x[0] ** 2 + own * x[0] * v[0]
    return Terms(bowl, jnp.zeros(0), jnp.stack([x[0] - 2, -2 - x[0]]))


def test_a_problem_that_is_not_convex_ends_in_a_local_minimum_as_scipy_does():
    problem = ArrowProblem(shared=_valley_shared, block=_valley_block)
    own, start = jnp.array([0.3, 0.8]), Variables(jnp.array([0.5]), jnp.array([[0.2], [-0.1]]))
    found = jax.jit(lambda: solve(problem, jnp.asarray(1.0), own, start))()
    assert found.outcome == Outcome.SOLVED

    def whole(y):
        wells = y[1:] ** 4 - 2 * y[1:] ** 2 + np.asarray(own) * y[1:] * y[0]
        return (y[0] - 1) ** 2 + np.sum(wells)

    near = minimize(whole, _joined(found.variables), bounds=[(-3, 3), (-2, 2), (-2, 2)], tol=1e-12)
    assert float(found.objective) == pytest.approx(near.fun, rel=1e-8)


def test_functions_that_are_not_finite_say_so_and_disturb_no_neighbour():
    params, each, answer, _ = _known_answer(0, 1)
    stacked = jax.tree.map(lambda x: jnp.stack([x] * 3), (params, each))
    stacked[0]["power"] = jnp.array([1.0, jnp.nan, 1.0])
    start = Variables(jnp.full(3, 0.5), jnp.full((1, 2), -0.3))
    found = jax.jit(jax.vmap(lambda p, b: solve(KNOWN, p, b, start)))(*stacked)
    assert list(found.outcome) == [Outcome.SOLVED, Outcome.BROKEN, Outcome.SOLVED]
    np.testing.assert_allclose(found.variables.shared[2], answer.shared, atol=1e-6)


def _programs(count, size, tightness):
    scenarios = sample_batch(jax.random.key(3), size, count, tightness=tightness)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(two_stage_program))(scenarios))


@pytest.mark.parametrize(("count", "size"), [(10, 32), pytest.param(50, 8, marks=pytest.mark.slow)])
def test_sampled_programs_are_certified_near_infeasible_or_slack(count, size):
    parts = [_programs(count, size, tightness) for tightness in (0.0, 1.0)]
    programs = jax.tree.map(lambda *xs: np.concatenate(xs), *parts)
    best, found = solve_relaxed(programs), solve_relaxed(programs, solver="interior-point")
    known = best.gap <= 1e-6
    assert np.mean(known) >= 0.9
    assert np.all(found.gap[known] <= 1e-6)


@pytest.mark.slow
def test_the_primal_optimum_is_that_of_the_dual_decomposition():
    programs = _programs(10, 64, 0.5)
    found = jax.jit(jax.vmap(solve_program))(programs)
    expected = solve_relaxed(programs)
    assert np.all(found.outcome == Outcome.SOLVED)
    np.testing.assert_allclose(found.objective, expected.lower_bound, rtol=1e-6)


def test_fixed_batches_and_a_broken_neighbour():
    programs = _programs(10, 64, 0.5)
    devices = dataclasses.replace(programs.devices, max_batch=programs.devices.min_batch)
    gap = np.array(programs.gap)
    gap[1] = np.nan
    programs = dataclasses.replace(programs, devices=devices, gap=gap)
    answer = solve_relaxed(programs, solver="interior-point")
    np.testing.assert_array_equal(answer.gap <= 1e-6, np.arange(64) != 1)
