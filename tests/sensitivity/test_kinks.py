"""Kinks by construction: each is found, told apart from smooth places, and has the right sides."""

import dataclasses

import numpy as np
import pytest

from jaxedge import presets
from jaxedge.bounds.batches import programs_of_each
from jaxedge.bounds.formulation import allocation_of
from jaxedge.bounds.two_stage import TwoStage
from jaxedge.machine.chunks import in_chunks
from jaxedge.machine.trees import take
from jaxedge.planning.rows import repeat
from jaxedge.scenario.fields import with_field
from jaxedge.scenario.scenario import FIELDS
from jaxedge.scenario.validation import validate, validate_batch
from jaxedge.sensitivity.gradients import elasticities, solve_for_gradients
from jaxedge.sensitivity.kinks import both_sides
from jaxedge.system.energy import energy

DISCREPANCY = next(item for item in FIELDS if item.path == "learning.discrepancy")


def _found(scenario, path, **options):
    return both_sides(scenario, paths=[path], **options)


@pytest.fixture(scope="module")
def scenario():
    """K = 3, inside a smooth piece."""
    return validate(presets.get("small"))


@pytest.fixture(scope="module")
def rich(scenario):
    """Energy is plenty: only the delay binds, and one stage wins outright."""
    return validate(dataclasses.replace(scenario, energy_budget=1e9))


def _design(scenario):
    batch = repeat(scenario, 1)
    relaxed, _ = solve_for_gradients(batch, TwoStage())
    program, design = take(
        (in_chunks(programs_of_each(TwoStage()), batch), relaxed.design), np.array(0)
    )
    return allocation_of(scenario, program, design)


@pytest.mark.every_python
def test_a_smooth_place_has_no_kink(scenario):
    sides = both_sides(scenario, paths=["energy_budget", "devices.max_clock"])
    assert [(s.path, s.device) for s in sides] == [
        ("energy_budget", None),
        *(("devices.max_clock", device) for device in (None, 0, 1, 2)),
    ]
    assert not any(s.kink or s.changes for s in sides)
    exact = elasticities(repeat(scenario, 1))
    assert sides[0].elasticity == pytest.approx(exact["energy_budget"][0], rel=1e-9)
    assert sides[1].elasticity == pytest.approx(sum(s.elasticity for s in sides[2:]), rel=1e-9)
    for s in sides[:2]:
        assert s.below == pytest.approx(s.elasticity, rel=1e-2)
        assert s.above == pytest.approx(s.elasticity, rel=1e-2)


def test_the_winning_stage_switches_where_both_cost_the_same(rich):
    low, high = 1e-6, 1e2
    for _ in range(4):  # each narrows the switch by a factor of 31
        grid = np.geomspace(low, high, 32)
        drawn = validate_batch(with_field(repeat(rich, 32), DISCREPANCY, grid))
        rounds = solve_for_gradients(drawn, TwoStage())[0].design.pretraining_rounds
        last = int(np.flatnonzero(rounds > 2)[-1])
        low, high = grid[last], grid[last + 1]
    tied = with_field(rich, DISCREPANCY, np.float64(np.sqrt(low * high)))
    (side,) = _found(tied, DISCREPANCY.path)
    assert side.kink
    assert "pre-training rounds at their minimum" in side.changes
    beyond = validate_batch(
        with_field(repeat(tied, 2), DISCREPANCY, tied.learning.discrepancy * np.array([0.99, 1.01]))
    )
    expected = elasticities(beyond)[DISCREPANCY.path]
    assert expected[0] > 10 * expected[1] >= 0
    assert side.below == pytest.approx(expected[0], rel=0.05)
    assert side.above == pytest.approx(expected[1], rel=0.05)


def test_the_energy_budget_has_a_kink_where_it_becomes_slack(rich):
    spent = float(energy(rich, _design(rich)))
    edge = dataclasses.replace(rich, energy_budget=np.float64(spent))
    (side,) = _found(edge, "energy_budget", reach=0.02)
    # Less must slow something down; more is of no use.
    assert side.kink and "energy budget" in side.changes
    assert side.below < -1e-3
    assert abs(side.above) < 1e-6


def test_a_clock_that_just_reaches_its_limit_leaves_the_bound_smooth(scenario):
    clock = np.float64(_design(scenario).server.clock)
    server = dataclasses.replace(scenario.server, max_clock=clock)
    (side,) = _found(dataclasses.replace(scenario, server=server), "server.max_clock")
    assert side.changes == ("server: clock at its maximum",)
    assert not side.kink
    assert -1e-2 < side.below < 0
    assert abs(side.above) < 1e-9


def test_equal_weakest_devices_are_a_kink_of_each_and_not_of_all(scenario):
    gain = np.full(3, np.min(scenario.devices.downlink_gain))
    devices = dataclasses.replace(scenario.devices, downlink_gain=gain)
    together, *alone = _found(
        dataclasses.replace(scenario, devices=devices), "devices.downlink_gain"
    )
    assert not together.kink
    for side in alone:
        assert side.kink and "the weakest downlink" in side.changes
        # A loss hurts as one of all; a gain leaves the others the weakest.
        assert side.below == pytest.approx(together.below, rel=1e-2)
        assert side.above == 0


def test_a_side_without_a_design_is_a_kink_with_one_side(scenario):
    gone = dataclasses.replace(scenario.devices, max_batch=scenario.devices.min_batch)
    (side, *_) = _found(dataclasses.replace(scenario, devices=gone), "devices.min_batch")
    assert side.kink and np.isnan(side.above) and np.isfinite(side.below)


def test_many_devices_are_moved_together_unless_asked_for(scenario):
    assert len(_found(scenario, "devices.gain", each_device=False)) == 1
