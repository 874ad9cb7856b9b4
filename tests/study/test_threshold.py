"""The closed-form threshold of pre-training is where the optimiser itself switches."""

import dataclasses

import numpy as np
import pytest

from jaxedge import presets
from jaxedge.planning.entry import plan_batch
from jaxedge.planning.schemes import FINETUNING_ONLY
from jaxedge.study import phase
from jaxedge.study.threshold import discrepancy_threshold

DELAYS = np.geomspace(20.0, 400.0, 5)
"""s, from where both budgets bind to where the deadline is long."""


@pytest.fixture(scope="module")
def base():
    return dataclasses.replace(presets.get("small"), min_pretraining_rounds=0)


def at(base, d2, energy=60.0):
    return phase.stacked(base, d2, DELAYS, np.full_like(DELAYS, energy))


@pytest.mark.parametrize("energy", [20.0, 60.0, 2000.0])
def test_it_is_where_the_optimiser_switches(base, energy):
    closed = phase.thresholds(at(base, np.ones_like(DELAYS), energy))
    assert (closed > 0).any()
    own = phase.switches(base, DELAYS, energy)
    np.testing.assert_allclose(own[closed > 0], closed[closed > 0], rtol=0.01)
    assert (own[closed <= 0] < 1e-3).all()


def test_below_it_pretraining_lowers_the_bound_and_above_it_does_not(base):
    closed = phase.thresholds(at(base, np.ones_like(DELAYS)))
    for factor, pays in ((0.9, True), (1.1, False)):
        scenarios = at(base, factor * closed)
        both = plan_batch(scenarios, relaxed=True).bound
        alone = plan_batch(scenarios, relaxed=True, schemes=[FINETUNING_ONLY])[
            FINETUNING_ONLY
        ].bound
        assert (both < (1 - 1e-5) * alone).all() == pays
        assert (both < (1 + 1e-5) * alone).all()


def test_it_does_not_depend_on_the_discrepancy_at_which_it_is_asked(base):
    some = [phase.thresholds(at(base, np.full_like(DELAYS, d2))) for d2 in (0.0, 3.0)]
    np.testing.assert_allclose(*some, rtol=1e-3)


def test_without_noise_only_the_time_of_the_least_batch_is_paid(base):
    quiet = dataclasses.replace(
        base, learning=dataclasses.replace(base.learning, server_variance=0.0)
    )
    scenarios = at(quiet, np.ones_like(DELAYS))
    answers = plan_batch(scenarios, relaxed=True, schemes=[FINETUNING_ONLY])[FINETUNING_ONLY]
    found = discrepancy_threshold(scenarios, answers)
    noisy = phase.thresholds(at(base, np.ones_like(DELAYS)))
    assert (found > noisy).all()
    assert (found < answers.bound).all()
