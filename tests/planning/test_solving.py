"""The one call for every problem and solver."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxedge
from jaxedge.answers.batch import STATUSES
from jaxedge.custom.limits import Limit, OwnProblem
from jaxedge.scenario.sampling import sample_batch

OPTIMAL, INFEASIBLE = (STATUSES.index(name) for name in ("optimal", "infeasible"))


def drawn(count=4, devices=3, seed=3):
    return jax.tree.map(np.array, sample_batch(jax.random.key(seed), count, devices, tightness=0.4))


def equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.fixture(scope="module")
def scenarios():
    return drawn()


@pytest.fixture(scope="module")
def answers(scenarios):
    return jaxedge.solve(scenarios)


@pytest.mark.every_python
def test_a_batch_is_certified_element_by_element(scenarios, answers):
    assert np.all(answers.status == OPTIMAL) and np.all(answers.gap <= 1e-6)
    alone = jaxedge.solve(jax.tree.map(lambda x: x[:1], scenarios))
    equal(alone.take(np.zeros(1, int)), answers.take(np.zeros(1, int)))
    assert answers.allocation.devices.batch.shape == (4, 3)
    assert np.all(answers.shadow_prices["delay_budget"] < 0)


def test_an_impossible_element_changes_nothing_for_the_others(scenarios, answers):
    energy = np.where(np.arange(4) == 1, 1e-9, scenarios.energy_budget)
    spoilt = jaxedge.solve(dataclasses.replace(scenarios, energy_budget=energy))
    assert spoilt.status[1] == INFEASIBLE and np.isnan(spoilt.bound[1])
    others = np.array([0, 2, 3])
    equal(spoilt.take(others), answers.take(others))


def test_neighbours_are_a_good_start_and_change_no_claim(scenarios, answers):
    richer = dataclasses.replace(scenarios, energy_budget=1.01 * scenarios.energy_budget)
    cold, warm = jaxedge.solve(richer), jaxedge.solve(richer, warm_start=answers)
    equal(cold.status, warm.status)
    assert np.all(warm.gap <= 1e-6)
    np.testing.assert_allclose(warm.bound, cold.bound, rtol=2e-6)
    # One answer may serve many, whatever it says of them.
    one = jaxedge.solve(richer, warm_start=answers.take(np.zeros(4, int)))
    np.testing.assert_allclose(one.bound, cold.bound, rtol=2e-6)


@pytest.mark.slow
def test_own_problems_get_the_same_kind_of_answer(scenarios):
    """A delay budget of one's own at 80 % of the built-in one is that smaller budget."""
    cap = OwnProblem(
        limits=(Limit(name="cap", plan=lambda case, plan: plan.delay / case.own["cap"] - 1),),
        convex=True,
    )
    own = jaxedge.solve(cap.on(scenarios, {"cap": 0.8 * scenarios.delay_budget}))
    smaller = jaxedge.solve(
        dataclasses.replace(scenarios, delay_budget=0.8 * scenarios.delay_budget)
    )
    equal(own.status, smaller.status)
    assert np.all(own.gap <= 1e-6)
    np.testing.assert_allclose(own.bound, smaller.bound, rtol=2e-6)
    # d bound / d residual in units of the budget.
    in_budgets = own.shadow_prices["cap"] / (0.8 * scenarios.delay_budget)
    np.testing.assert_allclose(in_budgets, smaller.shadow_prices["delay_budget"], rtol=1e-3)
    told = cap.solve_batch(scenarios, {"cap": 0.8 * scenarios.delay_budget})
    assert [answer.bound for answer in told] == list(own.bound)
    unsaid = dataclasses.replace(cap, convex=False)
    open_gap = jaxedge.solve(unsaid.on(scenarios, {"cap": 0.8 * scenarios.delay_budget}))
    assert np.all(np.isnan(open_gap.lower_bound)) and not np.any(open_gap.status == OPTIMAL)


def test_single_precision_and_integers_are_promoted(scenarios, answers):
    single = jax.tree.map(lambda x: x.astype(np.float32), scenarios)
    double = jax.tree.map(lambda x: x.astype(np.float64), single)
    equal(jaxedge.solve(single), jaxedge.solve(double))


def of_devices(scenarios, **changes):
    return dataclasses.replace(scenarios, devices=dataclasses.replace(scenarios.devices, **changes))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: jax.tree.map(lambda x: x[0], s), r"leading axes \(\): must be one, \(B,\)"),
        (lambda s: jax.tree.map(lambda x: x[None], s), r"leading axes \(1, 4\)"),
        (lambda s: jax.tree.map(lambda x: x[:0], s), r"holds no scenario"),
        (lambda s: of_devices(s, gain=s.devices.gain[:, :2]), r"devices\..*3.*2|2.*3"),
        (lambda s: of_devices(s, gain=s.devices.gain[:3]), r"leading batch shapes do not agree"),
        (lambda s: dataclasses.replace(s, energy_budget=-s.energy_budget), r"energy_budget"),
        (lambda s: {"energy_budget": 1.0}, r"problem: dict must be a Scenario"),
    ],
)
def test_a_batch_that_does_not_fit_is_named(scenarios, change, told):
    with pytest.raises(ValueError, match=told):
        jaxedge.solve(change(scenarios))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"solver": "interior-piont"}, "did you mean '?interior-point"),
        ({"gap": 0.0}, "gap: 0.0 must be a number between 0 and 1"),
        ({"solver": "interior-point", "warm_start": True}, "only 'dual-decomposition'"),
        ({"warm_start": 2}, r"shape \(2, 3\), but must have \(B, K\) = \(4, 3\)"),
    ],
)
def test_an_option_that_does_not_fit_is_named(scenarios, answers, options, told):
    if "warm_start" in options:
        options = options | {"warm_start": answers.take(np.arange(int(options["warm_start"])))}
    with pytest.raises(ValueError, match=told):
        jaxedge.solve(scenarios, **options)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"solver": "interior-piont"}, "did you mean '?interior-point"),
        ({"solver": "dual-decomposition"}, "own problems are solved by 'interior-point'"),
        ({"warm_start": True}, "own problems do not begin from prices"),
        ({"gap": 2}, "gap: 2 must be a number between 0 and 1"),
    ],
)
def test_own_problems_name_options_that_do_not_fit(scenarios, answers, options, told):
    if "warm_start" in options:
        options = options | {"warm_start": answers}
    with pytest.raises(ValueError, match=told):
        jaxedge.solve(OwnProblem().on(scenarios), **options)
