"""The course of a run: what the budgets pay for, and planning the rest again."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxedge.bounds.two_stage import two_stage_bound
from jaxedge.training.runs.courses import Leg, course, course_of, course_tree, rest_of
from jaxedge.training.runs.ledgers import ledger
from tests.short_runs import design, scenario

SCENARIO = scenario()


def within(share):
    """The scenario with budgets that are a share of what the design needs."""
    energy, delay = ledger(SCENARIO, design()).spent
    return dataclasses.replace(SCENARIO, energy_budget=energy * share, delay_budget=delay)


def test_a_design_within_its_budgets_runs_whole():
    found = course(SCENARIO, design())
    assert found.rounds == found.wanted == (25, 35)
    assert found.short_of is None
    assert found.ledger.spent == pytest.approx(found.planned, rel=1e-12)


def test_the_guard_stops_before_the_round_that_would_overdraw():
    poor = within(0.98)
    found = course(poor, design())
    assert found.short_of == "energy"
    assert found.rounds[0] == 25
    assert 0 < found.rounds[1] < 35
    one_more = ledger(SCENARIO, design()).first(len(found.ledger) + 1).spent
    assert found.ledger.spent[0] <= poor.energy_budget < one_more[0]
    late = dataclasses.replace(SCENARIO, delay_budget=found.planned[1] / 2)
    assert course(late, design()).short_of == "delay"


def halved(rest):
    """A planner that halves the batches' work, for 20 rounds more."""
    asked.append(rest)
    return design(0, 20, batch=(1, 1, 1))


asked = []


def test_what_is_left_is_planned_again_where_the_channel_departs():
    asked.clear()
    options = {"channel": "rayleigh", "seed": 1, "replan": halved, "replan_every": 10}
    rich = dataclasses.replace(SCENARIO, energy_budget=1e4, delay_budget=10.0)
    found = course(rich, design(), **options)
    assert [(leg.fine_tuning, leg.start) for leg in found.legs][:3] == [
        (False, 0),
        (True, 0),
        (True, 10),
    ]
    spent = found.ledger.first(35).spent
    assert asked[0].energy_budget == pytest.approx(rich.energy_budget - spent[0], rel=1e-12)
    assert asked[0].delay_budget == pytest.approx(rich.delay_budget - spent[1], rel=1e-12)
    assert asked[0].min_pretraining_rounds == 0
    # Causal: what was decided first does not depend on the channel of later rounds.
    again = course(rich, design(25, 12), **options)
    assert again.legs[1].rounds == 10
    # Every round is charged under its own leg's design, with its own number's fading.
    leg = found.legs[2]
    alone = ledger(rich, leg.alone, channel="rayleigh", seed=1, start=35)
    np.testing.assert_array_equal(found.ledger.energy[35 : 35 + leg.rounds], alone.energy)
    assert np.all(found.legs[2].design.devices.batch == 1)


def test_nothing_is_planned_again_under_the_planned_channel():
    asked.clear()
    found = course(SCENARIO, design(), replan=halved, replan_every=10)
    assert not asked
    assert [leg.rounds for leg in found.legs] == [25, 35]


def test_where_no_rest_can_be_planned_the_design_is_kept():
    def refuse(rest):
        asked.append(rest)

    asked.clear()
    tight = dataclasses.replace(SCENARIO, delay_budget=10.0)
    found = course(tight, design(), channel="rayleigh", seed=1, replan=refuse, replan_every=10)
    assert asked
    assert [leg.rounds for leg in found.legs] == [25, 35]


@pytest.mark.parametrize("done", [0, 10, 30])
def test_the_rest_of_a_plan_keeps_what_the_whole_promised(done):
    """Bound of the rest with its gap = bound of the whole, whatever has been done."""
    promised = float(two_stage_bound(SCENARIO, design()))
    legs = (
        Leg(fine_tuning=False, start=0, rounds=25, design=design()),
        Leg(fine_tuning=True, start=0, rounds=done, design=design()),
    )
    rest = rest_of(SCENARIO, legs, promised, (1.0, 2.0))
    assert float(two_stage_bound(rest, design(0, 35 - done))) == pytest.approx(promised, rel=1e-12)
    assert rest.energy_budget == SCENARIO.energy_budget - 1


def test_a_course_is_written_and_read_bit_for_bit():
    tight = dataclasses.replace(SCENARIO, delay_budget=10.0)
    found = course(tight, design(), channel="rayleigh", seed=1, replan=halved, replan_every=10)
    assert len(found.legs) > 2
    tree = json.loads(json.dumps(course_tree(found)))
    again = course_of(tree, tight, channel="rayleigh", seed=1)
    jax.tree.map(np.testing.assert_array_equal, again.ledger, found.ledger)
    assert [leg.rounds for leg in again.legs] == [leg.rounds for leg in found.legs]
    assert (again.planned, again.short_of) == (found.planned, found.short_of)
