"""A pilot's legs are the runs that they say they are, and what they cost is counted."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxedge import presets
from jaxedge.training.calibration.pilot import PilotPlan, PilotRefused, run_pilot
from jaxedge.training.runs.ledgers import ledger
from jaxedge.training.runs.many import train_many
from tests.short_runs import design
from tests.training.calibration.quadratic_tasks import quadratic_task

RNG = np.random.default_rng(8)
SIZES = np.array([20, 15, 30])
WEIGHT = np.array([0.5, 0.2, 0.3])
PLAN = PilotPlan(rounds=48, server_batch=6, device_batch=4, seed=3)


def scenario(**learning):
    """The preset of three devices, with weights and rates of its own."""
    found = presets.get("small")
    rates = {"server_learning_rate": 0.05, "device_learning_rate": 0.1, **learning}
    changed = dataclasses.replace(found.learning, device_weight=WEIGHT, **rates)
    return dataclasses.replace(found, learning=changed)


@pytest.fixture(scope="module")
def task():
    server = RNG.normal(size=(50, 4)) + np.array([1.0, 0.0, 0.0, 0.5])
    return quadratic_task(
        np.array([0.1, 0.5, 2.0, 5.0]),
        server,
        RNG.normal(size=(SIZES.sum(), 4)),
        SIZES,
        np.full(4, 3.0),
    )


@pytest.fixture(scope="module")
def pilot(task):
    return run_pilot(task, scenario(), PLAN)


def test_legs_have_the_rounds_and_batches_of_the_plan(pilot):
    ends = [(leg.pretraining_rounds[-1], leg.finetuning_rounds[-1]) for leg in pilot.legs]
    assert ends == [(48, 0), (48, 0), (48, 16), (12, 16), (0, 48), (0, 16)]
    assert [leg.server_batch for leg in pilot.legs[:4]] == [6, 2, 6, 6]
    assert [leg.device_batch.tolist() for leg in pilot.legs[2:]] == [[4] * 3] * 3 + [[1] * 3]
    assert pilot.longest(0.05, 0.1) == pytest.approx(48)
    assert pilot.longest(0.2, 0.1) == pytest.approx(112)
    for leg in pilot.legs:
        counted = leg.pretraining_rounds + leg.finetuning_rounds
        assert (np.diff(counted) >= 1).all()
        assert len(leg.loss) == len(counted)


def test_branches_start_where_pre_training_stood(pilot):
    first = pilot.legs[0]
    (at,) = np.flatnonzero(first.pretraining_rounds == 12)
    assert pilot.legs[2].loss[0] == first.loss[-1]
    assert pilot.legs[3].loss[0] == first.loss[at]
    assert all(leg.loss[0] == first.loss[0] for leg in (*pilot.legs[1:2], *pilot.legs[4:]))


def test_a_leg_is_the_run_of_that_design_and_seed(task, pilot):
    """F after pre-training and along the fine-tuning from there."""
    server = dataclasses.replace(design(48, 16, [4] * 3).server, batch=6.0)
    own = dataclasses.replace(design(48, 16, [4] * 3), server=server)
    curve = train_many(task, scenario(), [own], [3], every=8, lanes=1).curves[0][0]
    np.testing.assert_allclose(curve["training_loss"][6], pilot.legs[0].loss[-1], rtol=1e-5)
    np.testing.assert_allclose(curve["training_loss"][[6, 7, 8]], pilot.legs[2].loss[::8])


def test_what_a_pilot_spends_is_what_its_rounds_cost_at_full_clocks_and_powers(task, pilot):
    given = scenario()
    total = np.zeros(2)
    for first, second, server, devices in (
        (48, 0, 6, 1),
        (48, 0, 2, 1),
        (0, 16 + 16 + 48, 6, 4),
        (0, 16, 6, 1),
    ):
        one = design(first, second, [devices] * 3)
        full = {
            "server": dataclasses.replace(
                one.server,
                batch=server,
                clock=given.server.max_clock,
                power=given.server.max_power,
            ),
            "devices": dataclasses.replace(
                one.devices, clock=given.devices.max_clock, power=given.devices.max_power
            ),
        }
        total += ledger(given, dataclasses.replace(one, **full)).spent
    assert (pilot.energy, pilot.delay) == pytest.approx(tuple(total), rel=1e-9)


def test_small_owners_give_all_that_they_have(task):
    few = dataclasses.replace(task, general=task.general.take(np.arange(5)))
    found = run_pilot(few, scenario(), dataclasses.replace(PLAN, server_batch=16, device_batch=20))
    assert found.legs[0].server_batch == 5
    assert found.legs[2].device_batch.tolist() == [20, 15, 20]
    assert "b_k = 15-20" in found.legs[2].label


@pytest.mark.parametrize(
    ("rates", "stage", "legs"),
    [
        ({"server_learning_rate": 30.0}, "server", 1),
        ({"device_learning_rate": 30.0}, "device", 3),
    ],
)
def test_a_pilot_that_diverges_says_where_and_keeps_what_it_has(task, rates, stage, legs):
    message = rf"diverged .* lower learning\.{stage}_learning_rate"
    with pytest.raises(PilotRefused, match=message) as caught:
        run_pilot(task, scenario(**rates), PLAN)
    assert len(caught.value.legs) == legs
    assert np.isfinite(caught.value.legs[0].loss[0])


def test_a_pilot_that_learns_nothing_is_refused(task):
    still = dataclasses.replace(task, loss=lambda w, x, y: jax.numpy.ones(len(x)) + 0 * w[0].sum())
    with pytest.raises(PilotRefused, match="no leg of the pilot lowered the loss F = 1 within 48"):
        run_pilot(still, scenario(), PLAN)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rounds": 39}, "rounds = 39: must be a whole number >= 40"),
        ({"device_batch": 0}, "device_batch = 0: must be a whole number >= 1"),
        ({"seed": -1}, "seed = -1"),
    ],
)
def test_a_plan_too_short_to_say_anything_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        PilotPlan(**wrong)
