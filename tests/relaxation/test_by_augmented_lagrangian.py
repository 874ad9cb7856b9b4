"""The augmented Lagrangian: known optima and multipliers, SciPy, and the relaxed program."""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from jaxedge.bounds.fine_tuning import fine_tuning_program
from jaxedge.bounds.two_stage import two_stage_program
from jaxedge.methods.augmented_lagrangian import AugmentedLagrangian, solve
from jaxedge.methods.smooth_problem import SmoothProblem
from jaxedge.program.certificates import lower_bound
from jaxedge.relaxation import by_augmented_lagrangian
from jaxedge.relaxation.by_augmented_lagrangian import LOG_PROGRAM, settings_for_logs
from jaxedge.relaxation.driver import solve_relaxed
from jaxedge.scenario.presets import get
from jaxedge.scenario.sampling import sample_batch
from jaxedge.scenario.validation import validate, validate_batch


def problem(objective, *residuals, lower=-jnp.inf, upper=jnp.inf):
    return SmoothProblem(
        objective=lambda p, x: objective(x),
        residuals=lambda p, x: jnp.stack([r(x) for r in residuals]),
        limits=lambda p: (lower, upper),
    )


# Numbers of Hock and Schittkowski's collection; each optimum satisfies grad f + y·grad r = 0.
KNOWN = {
    # grad f = (1, -1), grad r = (2, -2)·... at (0, 1): r' = (6x - 2y, 2y - 2x) = (-2, 2).
    "HS10": (
        problem(lambda x: x[0] - x[1], lambda x: 3 * x[0] ** 2 - 2 * x[0] * x[1] + x[1] ** 2 - 1),
        [-2.0, 2.0],
        [0.0, 1.0],
        [0.5],
    ),
    # grad f = (2 - 3 - 7, 6 - 2 - 7) = (-8, -3), grad r = (16, 6).
    "HS12": (
        problem(
            lambda x: x[0] ** 2 / 2 + x[1] ** 2 - x[0] * x[1] - 7 * x[0] - 7 * x[1],
            lambda x: 4 * x[0] ** 2 + x[1] ** 2 - 25,
        ),
        [0.0, 0.0],
        [2.0, 3.0],
        [0.5],
    ),
    # grad f = (-2, 0), grads r = (1, 1) and (2, -1).
    "HS22": (
        problem(
            lambda x: (x[0] - 2) ** 2 + (x[1] - 1) ** 2,
            lambda x: x[0] + x[1] - 2,
            lambda x: x[0] ** 2 - x[1],
        ),
        [2.0, 2.0],
        [1.0, 1.0],
        [2 / 3, 2 / 3],
    ),
    # df/dx3 = -4 + 2 x3 + 2 x1 = -4/9 against dr/dx3 = 2.
    "HS35": (
        problem(
            lambda x: 9
            - (8 * x[0] + 6 * x[1] + 4 * x[2])
            + 2 * (x[0] ** 2 + x[1] ** 2 + x[0] * x[1] + x[0] * x[2])
            + x[2] ** 2,
            lambda x: x[0] + x[1] + 2 * x[2] - 3,
            lower=0.0,
        ),
        [0.5, 0.5, 0.5],
        [4 / 3, 7 / 9, 4 / 9],
        [2 / 9],
    ),
    # Rosen and Suzuki's; the second limit is slack by 1.
    "HS43": (
        problem(
            lambda x: x[0] ** 2 + x[1] ** 2 + 2 * x[2] ** 2 + x[3] ** 2
            - (5 * x[0] + 5 * x[1] + 21 * x[2] - 7 * x[3]),
            lambda x: jnp.sum(x**2) + x[0] - x[1] + x[2] - x[3] - 8,
            lambda x: jnp.sum(x**2) + x[1] ** 2 + x[3] ** 2 - x[0] - x[3] - 10,
            lambda x: 2 * x[0] ** 2 + x[1] ** 2 + x[2] ** 2 + 2 * x[0] - x[1] - x[3] - 5,
        ),
        [0.0, 0.0, 0.0, 0.0],
        [0.0, 1.0, 2.0, -1.0],
        [1.0, 0.0, 2.0],
    ),
    # A limit on the box's corner: the residual is slack there, and the box takes the slope.
    "slack": (
        problem(lambda x: jnp.sum(x), lambda x: -1 - jnp.sum(x), lower=0.0, upper=1.0),
        [0.5, 0.5],
        [0.0, 0.0],
        [0.0],
    ),
    # exp(-x) + exp(-y)/1e6 with a budget: a limit a million times softer than the other.
    "two scales": (
        problem(
            lambda x: jnp.exp(-x[0]) + 1e-6 * jnp.exp(-x[1]),
            lambda x: x[0] - 1,
            lambda x: x[1] - 1,
        ),
        [0.0, 0.0],
        [1.0, 1.0],
        [np.exp(-1), 1e-6 * np.exp(-1)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_known_optima_and_multipliers(name):
    given, start, x, multipliers = KNOWN[name]
    answer = solve(given, None, jnp.array(start), AugmentedLagrangian(tolerance=1e-9))
    assert answer.converged
    np.testing.assert_allclose(answer.x, x, atol=2e-5)
    np.testing.assert_allclose(answer.multipliers, multipliers, rtol=1e-3, atol=1e-9)
    assert answer.violation <= 1e-5


@pytest.mark.parametrize("direction", ["quasi-newton", "lbfgs"])
def test_the_penalty_method_comes_near(direction):
    settings = AugmentedLagrangian(
        multipliers=False, tolerance=1e-4, feasibility=1e-4, direction=direction
    )
    given, start, x, multipliers = KNOWN["HS22"]
    with jax.numpy_dtype_promotion("strict"):
        answer = solve(given, None, jnp.array(start), settings)
    np.testing.assert_allclose(answer.x, x, atol=1e-3)
    np.testing.assert_allclose(answer.multipliers, multipliers, rtol=1e-2)


def random_convex(seed, count=6, limits=3):
    """Parameters of a log-sum-exp problem with linear and quadratic limits."""
    rng = np.random.default_rng(seed)
    return {
        "slopes": rng.normal(size=(4, count)),
        "normals": rng.normal(size=(limits, count)),
        "levels": rng.uniform(0.1, 0.5, limits),
    }


CONVEX = SmoothProblem(
    objective=lambda p, x: jax.nn.logsumexp(jnp.sum(p["slopes"] * x[None], 1)) - 0.3 * jnp.sum(x),
    residuals=lambda p, x: jnp.append(
        jnp.sum(p["normals"] * x[None], 1) - p["levels"], jnp.sum(x**2) - 4
    ),
    limits=lambda p: (-1.0, 1.5),
)


@pytest.mark.parametrize("seed", range(4))
def test_convex_problems_agree_with_scipy(seed):
    params = random_convex(seed)
    settings = AugmentedLagrangian(tolerance=1e-8, feasibility=1e-8)
    answer = solve(CONVEX, params, jnp.zeros(6), settings)
    best = minimize(
        jax.jit(lambda x: CONVEX.objective(params, x)),
        np.zeros(6),
        jac=jax.jit(jax.grad(lambda x: CONVEX.objective(params, x))),
        method="SLSQP",
        bounds=[(-1.0, 1.5)] * 6,
        constraints={
            "type": "ineq",
            "fun": jax.jit(lambda x: -CONVEX.residuals(params, x)),
            "jac": jax.jit(jax.jacrev(lambda x: -CONVEX.residuals(params, x))),
        },
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert best.success
    assert answer.converged
    assert answer.objective == pytest.approx(best.fun, abs=1e-7)
    np.testing.assert_allclose(answer.x, best.x, atol=1e-4)


def test_vmap_equals_a_loop_and_isolates_what_is_no_number():
    many = [random_convex(seed) for seed in range(4)]
    many[1] = {**many[1], "levels": np.full(3, np.nan)}
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *many)
    together = jax.vmap(lambda p: solve(CONVEX, p, jnp.zeros(6)))(params)
    for i in (0, 2, 3):
        alone = solve(CONVEX, many[i], jnp.zeros(6))
        np.testing.assert_allclose(together.objective[i], alone.objective, rtol=1e-6)
        np.testing.assert_allclose(together.x[i], alone.x, atol=1e-4)
    np.testing.assert_array_equal(together.converged, [True, False, True, True])
    assert together.steps[1] < together.steps[0]


def test_what_has_no_answer_is_not_called_one():
    impossible = problem(lambda x: jnp.sum(x), lambda x: 1 - x[0], lambda x: x[0] + 1)
    answer = solve(impossible, None, jnp.zeros(1), AugmentedLagrangian(max_steps=300))
    assert not answer.converged
    assert answer.violation >= 0.9
    assert answer.steps <= 300


def test_an_unknown_direction_is_refused():
    with pytest.raises(ValueError, match="unknown direction 'newton': did you mean quasi-newton"):
        solve(KNOWN["HS10"][0], None, jnp.zeros(2), AugmentedLagrangian(direction="newton"))


# The relaxed program in logarithms.


COUNT = 48


@cache
def solved(tightness):
    """Programs of ten devices, what was found, and its lower bound."""
    batch = programs(COUNT, 10, tightness)
    return batch, *found_and_bounded(batch)


def programs(count, devices, tightness):
    scenarios = validate_batch(sample_batch(jax.random.key(5), count, devices, tightness=tightness))
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(two_stage_program))(scenarios))


@jax.jit
def found_and_bounded(batch):
    def one(program):
        found = by_augmented_lagrangian.find(program)
        return found, lower_bound(program, found.prices)

    return jax.vmap(one)(batch)


@pytest.mark.parametrize("tightness", [0.0, 0.5])
def test_the_relaxed_optimum_is_certified_within_a_ten_thousandth(tightness):
    batch, found, bound = solved(tightness)
    best = solve_relaxed(batch)
    gap = found.design.value / bound - 1
    assert np.mean(gap <= 1e-4) >= 0.98
    assert np.all(found.design.value >= best.lower_bound * (1 - 1e-12))
    assert np.all(bound <= best.design.value * (1 + 1e-12))


def test_optax_descends_to_the_relaxed_optimum():
    """Though it must be told that the function changes, and what scale each variable has."""
    batch = programs(16, 3, 0.5)
    settings = settings_for_logs(direction="lbfgs")
    found = jax.jit(jax.vmap(lambda p: by_augmented_lagrangian.find(p, settings)))(batch)
    assert np.all(found.answer.converged)
    assert np.all(found.design.value <= solve_relaxed(batch).lower_bound * (1 + 1e-4))


def test_prices_are_those_of_the_dual_decomposition():
    batch, found, _ = solved(0.5)
    best = solve_relaxed(batch).prices
    np.testing.assert_allclose(found.prices.energy, best.energy, rtol=1e-3)
    np.testing.assert_allclose(
        np.sum(found.prices.device_time, 1), np.sum(best.device_time, 1), rtol=1e-3
    )


def test_the_logarithms_of_a_design_have_its_value_and_its_use():
    program = two_stage_program(validate(get("default")))
    z = by_augmented_lagrangian.start(program)
    residuals = by_augmented_lagrangian.residuals(program, z)
    assert np.all(residuals <= 1e-12)
    better = by_augmented_lagrangian.design(program, z)
    assert better.value <= jnp.exp(by_augmented_lagrangian.objective(program, z))


def test_unlimited_and_fixed_rounds():
    scenario = validate(get("default"))
    scenario = dataclasses.replace(scenario, min_pretraining_rounds=0.0 * scenario.energy_budget)
    free = two_stage_program(scenario)
    fixed = fine_tuning_program(scenario, jnp.asarray(50.0))
    half = COUNT // 2
    batch = jax.tree.map(lambda *xs: np.stack([x for x in xs for _ in range(half)]), free, fixed)
    found, bound = found_and_bounded(batch)
    assert np.all(found.design.value <= bound * (1 + 1e-4))


def test_the_point_keeps_its_box():
    program = two_stage_program(validate(get("small")))
    settings = settings_for_logs(max_steps=40)
    answer = solve(LOG_PROGRAM, program, by_augmented_lagrangian.start(program), settings)
    lower, upper = by_augmented_lagrangian.limits(program)
    jax.tree.map(np.testing.assert_array_less, lower, jax.tree.map(lambda x: x + 1e-15, answer.x))
    assert jax.tree.all(jax.tree.map(lambda a, b: jnp.all(a <= b), answer.x, upper))
    assert not answer.converged
