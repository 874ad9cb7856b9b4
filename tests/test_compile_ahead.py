"""What is compiled ahead is what a plan then runs."""

import jax
import pytest

from jaxedge import boxes, compile_ahead, designs, driver, integers, judging, pipeline, planning
from jaxedge.cheapest import cheapest_of_each
from jaxedge.sampling import sample
from jaxedge.validation import validate

RELAXED = (driver.decompose, cheapest_of_each, judging.assess)
WHOLE = (
    integers.integer_prices,
    integers.promising_moves,
    integers.neighbouring_rounds,
    integers.first_candidates,
    integers.floored,
    judging.assess_naive,
    boxes.look,
    boxes.within,
)
CASES = [
    (7, {"relaxed": True}, (*RELAXED, designs.programs_of_each)),
    (7, {}, (*RELAXED, *WHOLE, designs.programs_of_each)),
    (7, {"relaxed": True, "schemes": True}, (*RELAXED, designs.scheme_programs)),
]
"""Devices (a number that no other test plans), options, and what may not be compiled again."""


def _sizes(functions):
    compiled = [getattr(function, "fn", function) for function in functions]
    return {function.__name__: function._cache_size() for function in compiled}


@pytest.mark.parametrize(("devices", "options", "functions"), CASES)
def test_a_plan_compiles_none_of_it_again(devices, options, functions):
    scenario = validate(sample(jax.random.key(0), devices))
    asked = pipeline.Asked(
        bound="two-stage",
        solver="dual-decomposition",
        relaxed=options.get("relaxed", False),
        gap=1e-3,
        max_nodes=0 if options.get("relaxed") else 300,
        progress=pipeline.no_progress,
    )
    compile_ahead.compile_ahead(
        designs.repeated(scenario, 1), asked, schemes=options.get("schemes", False)
    )
    before = _sizes(functions)
    answer = planning.plan(scenario, **options)
    assert answer.status == "optimal"
    assert _sizes(functions) == before
    assert all(size > 0 for size in before.values())
