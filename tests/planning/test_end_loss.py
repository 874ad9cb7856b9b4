"""Plans of the end loss: optima of an independent program, exhaustive ones, and what is refused."""

import json
from functools import cache
from pathlib import Path

import pytest

from jaxedge.answers.status import Status
from jaxedge.planning.entry import plan
from jaxedge.scenario import files

CHECKS = json.loads((Path(__file__).parents[1] / "data" / "end_loss.json").read_text("utf-8"))


def scenario_of(case):
    return files.from_tree(case["scenario"])


@cache
def tiny(index):
    return plan(scenario_of(CHECKS["tiny_integer_cases"][index]), bound="end-loss")


@pytest.mark.parametrize("index", range(len(CHECKS["tiny_integer_cases"])))
def test_tiny_whole_designs_are_those_of_enumeration(index):
    found, exact = tiny(index), CHECKS["tiny_integer_cases"][index]["optimum"]
    assert found.bound == pytest.approx(exact["end_loss"], rel=1e-9)
    assert found.lower_bound <= exact["end_loss"] * (1 + 1e-9)
    assert found.status == (Status.OPTIMAL if found.gap <= 1e-3 else Status.FEASIBLE)
