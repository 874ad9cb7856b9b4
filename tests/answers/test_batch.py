"""Answers as arrays say what the plans of the same scenarios say, each element by itself."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxedge
from jaxedge.answers.status import Status
from jaxedge.scenario.sampling import sample_batch
from jaxedge.scenario.stacking import unstack

COUNT = 24


@pytest.fixture(scope="module")
def scenarios():
    """Some of them infeasible."""
    return sample_batch(jax.random.key(3), COUNT, 3, tightness=1.1)


@pytest.mark.parametrize("relaxed", [True, False])
def test_answers_are_the_plans_as_arrays(scenarios, relaxed):
    answers = jaxedge.plan_batch(scenarios, relaxed=relaxed)
    plans = jaxedge.plan_batch(unstack(scenarios), relaxed=relaxed)
    assert {p.status for p in plans} >= {Status.OPTIMAL, Status.INFEASIBLE}
    for i, plan in enumerate(plans):
        assert answers.is_(plan.status)[i]
        for name in ("bound", "lower_bound", "energy", "delay", "naive_rounding", "gap"):
            told, array = getattr(plan, name), getattr(answers, name)
            assert np.isnan(array[i]) if told is None else array[i] == told, name
        for name, price in plan.shadow_prices.items():
            told = answers.shadow_prices[name][i]
            assert np.isnan(told) if price is None else told == price
        if plan.allocation is not None:
            np.testing.assert_array_equal(
                answers.allocation.devices.batch[i], plan.allocation.devices.batch
            )
        if plan.infeasible_because is not None:
            least = plan.infeasible_because.least_energy
            assert answers.least_energy[i] == (np.inf if least is None else least)


def test_an_infeasible_element_has_no_design(scenarios):
    answers = jaxedge.plan_batch(scenarios, relaxed=True)
    short = answers.is_(Status.INFEASIBLE)
    for leaf in jax.tree.leaves((answers.allocation, answers.bound, answers.shadow_prices)):
        assert np.isnan(leaf[short]).all()
        assert np.isfinite(leaf[~short]).all()


def test_the_fine_tuning_bound_is_answered_too():
    scenarios = sample_batch(jax.random.key(0), 2, 2)
    answers = jaxedge.plan_batch(scenarios, bound="fine-tuning", relaxed=True)
    plans = jaxedge.plan_batch(unstack(scenarios), bound="fine-tuning", relaxed=True)
    assert [p.bound for p in plans] == answers.bound.tolist()


def test_unusable_input_is_refused(scenarios):
    with pytest.raises(ValueError, match=r"leading axes \(\): must be one, \(B,\)"):
        jaxedge.plan_batch(unstack(scenarios)[0])
    bad = np.array(scenarios.energy_budget)
    bad[2] = -1.0
    with pytest.raises(ValueError, match="energy_budget"):
        jaxedge.plan_batch(dataclasses.replace(scenarios, energy_budget=bad))
    with pytest.raises(ValueError, match=r"did you mean '?interior-point"):
        jaxedge.plan_batch(scenarios, solver="interior-pont")
