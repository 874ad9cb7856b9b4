"""What is compiled ahead is what a plan then runs."""

import jax
import pytest

from jaxedge.bounds.batches import programs_of_each
from jaxedge.bounds.two_stage import TwoStage
from jaxedge.integers import boxes, local_search
from jaxedge.planning import compile_ahead, entry, judging
from jaxedge.planning.program_rows import programs_of_schemes
from jaxedge.planning.question import question
from jaxedge.planning.rows import repeat
from jaxedge.relaxation import driver
from jaxedge.relaxation.cheapest import cheapest_of_each
from jaxedge.relaxation.solvers import DUAL_DECOMPOSITION, SOLVERS
from jaxedge.scenario.sampling import sample
from jaxedge.scenario.validation import validate

OTHER = SOLVERS["interior-point"]
RELAXED = (driver.decompose, cheapest_of_each, judging.assess)
WHOLE = (
    local_search.integer_prices,
    local_search.promising_moves,
    local_search.neighbouring_rounds,
    local_search.first_candidates,
    local_search.floored,
    judging.assess_naive,
    boxes.look,
    boxes.within,
)
CASES = [
    (7, {"relaxed": True}, (*RELAXED, programs_of_each(TwoStage()))),
    (7, {}, (*RELAXED, *WHOLE, programs_of_each(TwoStage()))),
    (7, {"relaxed": True, "schemes": True}, (*RELAXED, programs_of_schemes(TwoStage()))),
    (7, {"relaxed": True, "solver": OTHER.name}, (driver.judged_by(OTHER), cheapest_of_each)),
]
"""Devices (a number that no other test plans), options, and what may not be compiled again."""


def _sizes(functions):
    compiled = [getattr(function, "fn", function) for function in functions]
    return {function.__name__: function._cache_size() for function in compiled}


@pytest.mark.parametrize(("devices", "options", "functions"), CASES)
def test_a_plan_compiles_none_of_it_again(devices, options, functions):
    scenario = validate(sample(jax.random.key(0), devices))
    solver = options.get("solver", DUAL_DECOMPOSITION.name)
    asked = question(
        "two-stage", solver, options.get("relaxed", False), None, options.get("schemes", False)
    )
    compile_ahead.compile_ahead(repeat(scenario, 1), asked)
    before = _sizes(functions)
    answer = entry.plan(scenario, **options)
    assert answer.status == "optimal"
    assert _sizes(functions) == before
    assert all(size > 0 for size in before.values())


def test_what_another_solver_never_runs_is_not_compiled():
    scenario = repeat(validate(sample(jax.random.key(0), 9)), 1)
    before = driver.decompose.fn._cache_size()
    compile_ahead.compile_ahead(scenario, question("two-stage", OTHER.name, True, None))
    assert driver.decompose.fn._cache_size() == before
