"""A bound whose rounds are its program's own variables: one class and one registry line."""

import dataclasses

import jax
import pytest

import jaxedge
from jaxedge.bounds.base import Bound
from jaxedge.bounds.registry import BOUNDS
from jaxedge.bounds.two_stage import TwoStage
from jaxedge.planning.entry import plan
from jaxedge.planning.schemes import SCHEMES
from jaxedge.scenario import presets
from jaxedge.scenario.stacking import stack

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
    from jaxedge.planning.rows import repeated
    from jaxedge.scenario.sampling import sample

    scenario = repeated(jaxedge.validate(sample(jax.random.key(0), 7)), 1)
    compiled = programs_of_each(Noisier())
    before = compiled._cache_size()
    compile_ahead(scenario, question("noisier", "dual-decomposition", True, None))
    assert compiled._cache_size() == before + 1
