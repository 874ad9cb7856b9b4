"""A bound whose rounds are its program's own variables: one class and one registry line."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import jaxedge
from jaxedge.bounds.base import Bound
from jaxedge.bounds.registry import BOUNDS
from jaxedge.bounds.two_stage import TwoStage
from jaxedge.commands.cli import main
from jaxedge.planning.entry import plan
from jaxedge.planning.schemes import SCHEMES
from jaxedge.scenario import presets
from jaxedge.scenario.stacking import stack
from jaxedge.sensitivity.analysis import analyse
from jaxedge.sensitivity.gradients import elasticities, optimal_bound, value_and_grad

NOISE = 3.0
"""How much larger the noise of the devices is."""


def _noisier(scenario):
    task = scenario.learning
    louder = dataclasses.replace(task, device_variance=NOISE * task.device_variance)
    return dataclasses.replace(scenario, learning=louder)


@dataclasses.dataclass(frozen=True)
class Noisier(Bound):
    """The two-stage average of a scenario whose devices are noisier."""

    name = "noisier"
    unit = "squared gradient norm"
    differentiable = True

    def value(self, scenario, allocation):
        return TwoStage().value(_noisier(scenario), allocation)

    def program(self, scenario, outer):
        return TwoStage().program(_noisier(scenario), outer)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(BOUNDS, Noisier.name, Noisier())


@pytest.fixture(scope="module")
def small():
    return jaxedge.validate(presets.get("small"))


@pytest.mark.parametrize("relaxed", [False, True])
def test_it_is_planned_with_its_own_program(small, relaxed):
    """The oracle is the two-stage plan of a scenario with that much more noise."""
    found = plan(small, bound="noisier", relaxed=relaxed, schemes=True)
    true = plan(_noisier(small), relaxed=relaxed, schemes=True)
    assert found.status == "optimal"
    assert found.bound_name == "noisier"
    assert found.bound == true.bound
    assert found.lower_bound == true.lower_bound
    assert found.bound > 1.001 * plan(small, relaxed=relaxed).bound
    assert list(found.schemes) == list(SCHEMES)
    for name, scheme in found.schemes.items():
        assert (scheme.status, scheme.bound) == (
            true.schemes[name].status,
            true.schemes[name].bound,
        )


def test_stacked_scenarios_and_other_solvers_are_planned_alike(small):
    true = plan(_noisier(small), relaxed=True)
    for solver in ("dual-decomposition", "interior-point"):
        found = jaxedge.plan_batch(stack([small]), bound="noisier", relaxed=True, solver=solver)
        assert found.bound[0] == pytest.approx(true.bound, rel=3e-6)


def test_what_is_compiled_ahead_is_its_own_program():
    from jaxedge.bounds.batches import programs_of_each
    from jaxedge.planning.compile_ahead import compile_ahead
    from jaxedge.planning.question import question
    from jaxedge.planning.rows import repeat
    from jaxedge.scenario.sampling import sample

    scenario = repeat(jaxedge.validate(sample(jax.random.key(0), 7)), 1)
    compiled = programs_of_each(Noisier())
    before = compiled._cache_size()
    compile_ahead(scenario, question("noisier", "dual-decomposition", True, None))
    assert compiled._cache_size() == before + 1


def test_it_is_differentiated(small):
    """Of the gradients those of the noise are NOISE times the two-stage ones, the rest the same."""
    value, gradient = value_and_grad(small, bound="noisier")
    true, of_true = value_and_grad(_noisier(small))
    assert value == true
    np.testing.assert_allclose(gradient.energy_budget, of_true.energy_budget, rtol=1e-12)
    np.testing.assert_allclose(
        gradient.learning.device_variance, NOISE * of_true.learning.device_variance, rtol=1e-12
    )
    with jax.enable_x64(True):
        traced, slope = jax.value_and_grad(lambda s: optimal_bound(s, bound="noisier"))(small)
    assert traced == pytest.approx(float(value), rel=1e-6)
    assert slope.delay_budget == pytest.approx(float(gradient.delay_budget), rel=1e-4)


def test_its_derivative_is_the_slope_of_its_plans(small):
    def bound(budget):
        changed = dataclasses.replace(small, energy_budget=budget)
        return plan(changed, bound="noisier", relaxed=True, gap=1e-9).bound

    at, step = float(small.energy_budget), 1e-3
    slope = np.log(bound(at * (1 + step)) / bound(at * (1 - step))) / (2 * step)
    found = elasticities(small, bound="noisier")["energy_budget"]
    assert found == pytest.approx(slope, rel=1e-4)


def test_its_sensitivities_are_told_under_its_name(small, capsys):
    found = analyse(small, bound="noisier", replanned=1)
    noise = {item.field.path: item for item in found.parameters}["learning.device_variance"]
    true = elasticities(_noisier(small))["learning.device_variance"]
    assert noise.elasticity == pytest.approx(float(true), rel=1e-6)
    assert found.parameters[0].finite[0].bound > 0
    arguments = ["sensitivity", "--preset", "small", "--bound", "noisier", "--json"]
    assert main([*arguments, "--no-replanning"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bound_name"] == "noisier"
    assert told["bound"] == pytest.approx(found.bound, rel=1e-12)
