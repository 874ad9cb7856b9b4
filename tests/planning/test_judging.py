"""The judge believes no row: what breaks a limit or contradicts its certificate is not claimed."""

import dataclasses
from functools import cache

import jax
import numpy as np
import pytest

from jaxedge.answers.status import Status
from jaxedge.bounds.two_stage import TwoStage
from jaxedge.planning.judging import plans_of
from jaxedge.planning.program_rows import program_rows
from jaxedge.planning.question import Asked
from jaxedge.relaxation.solvers import DUAL_DECOMPOSITION
from jaxedge.scenario.sampling import sample_batch
from jaxedge.scenario.validation import validate_batch
from jaxedge.words.progress import no_progress
from tests.plain_model import broken_limits, plain, two_stage_bound

COUNT = 6
SLIGHT = 1e-6
"""Relative size of the offences, far below what anyone would see in a table."""


@cache
def asked(relaxed):
    return Asked(
        bound=TwoStage(),
        solver=DUAL_DECOMPOSITION,
        relaxed=relaxed,
        gap=1e-6 if relaxed else 1e-3,
        max_nodes=0,
        progress=no_progress,
    )


@cache
def rows(relaxed):
    scenarios = validate_batch(sample_batch(jax.random.key(5), COUNT, 3, tightness=0.4))
    return program_rows(scenarios, asked(relaxed))


def judged(relaxed, design=None, **changes):
    """Plans of the true rows with the outcome, and the design in it, changed."""
    true = rows(relaxed)
    changed = dataclasses.replace(true.outcome.design, **(design or {}))
    outcome = dataclasses.replace(true.outcome, design=changed, **changes)
    return plans_of(dataclasses.replace(true, outcome=outcome), asked(relaxed))


def true_design(relaxed):
    return rows(relaxed).outcome.design


def value_and_lower(relaxed):
    outcome = rows(relaxed).outcome
    return outcome.design.value, outcome.lower_bound


def assert_nothing_is_claimed(plans):
    for answer in plans:
        assert answer.status is Status.FAILED
        assert answer.bound is None
        assert answer.lower_bound is None
        assert answer.allocation is None
        assert answer.energy is None
        assert answer.delay is None


@pytest.mark.parametrize("relaxed", [True, False])
def test_true_rows_stand(relaxed):
    scenarios = rows(relaxed).scenarios
    for i, answer in enumerate(judged(relaxed)):
        scenario = jax.tree.map(lambda x, i=i: x[i], scenarios)
        assert answer.status in (Status.OPTIMAL, Status.FEASIBLE)
        assert broken_limits(scenario, answer.allocation, integer=not relaxed) == []
        again = two_stage_bound(plain(scenario), plain(answer.allocation))
        assert answer.bound == pytest.approx(again, rel=1e-12)
        assert answer.lower_bound <= answer.bound


def test_whole_designs_are_given_in_whole_numbers():
    for answer in judged(relaxed=False):
        chosen = answer.allocation
        assert isinstance(chosen.pretraining_rounds, int)
        assert isinstance(chosen.finetuning_rounds, int)
        assert isinstance(chosen.server.batch, int)
        assert chosen.devices.batch.dtype == np.int64


@pytest.mark.parametrize(
    "offence",
    ["both rounds", "server batch", "device batch", "longer samples", "fewer rounds than least"],
)
def test_a_design_slightly_beyond_a_limit_is_not_claimed(offence):
    """Relaxed optima spend the budgets, so a millionth more of anything breaks one."""
    d, limits = true_design(relaxed=True), rows(relaxed=True).scenarios
    more = 1 + SLIGHT
    changes = {
        "both rounds": {
            "pretraining_rounds": d.pretraining_rounds * more,
            "finetuning_rounds": d.finetuning_rounds * more,
        },
        "server batch": {"server_batch": limits.server.max_batch * more},
        "device batch": {"device_batch": limits.devices.min_batch * (1 - SLIGHT)},
        "longer samples": {
            "server_sample_time": d.server_sample_time * more,
            "device_sample_time": d.device_sample_time * (1 + 10 * SLIGHT),
            "upload_exponent": d.upload_exponent * (1 - 10 * SLIGHT),
        },
        "fewer rounds than least": {
            "finetuning_rounds": limits.min_finetuning_rounds * (1 - SLIGHT)
        },
    }[offence]
    assert_nothing_is_claimed(judged(relaxed=True, design=changes))


@pytest.mark.parametrize(
    "name",
    [
        "pretraining_rounds",
        "finetuning_rounds",
        "server_batch",
        "server_sample_time",
        "broadcast_exponent",
        "device_batch",
        "device_sample_time",
        "upload_exponent",
    ],
)
def test_what_is_not_a_number_is_not_claimed(name):
    number = np.full_like(getattr(true_design(relaxed=True), name), np.nan)
    assert_nothing_is_claimed(judged(relaxed=True, design={name: number}))


def test_what_a_row_says_of_its_value_does_not_matter():
    boast = true_design(relaxed=False).value * 0.5
    for true, answer in zip(judged(False), judged(False, design={"value": boast}), strict=True):
        assert answer.bound == true.bound
        assert answer.status is true.status


@pytest.mark.parametrize("relaxed", [True, False])
def test_a_lower_bound_above_the_bound_is_not_claimed(relaxed):
    value, _ = value_and_lower(relaxed)
    assert_nothing_is_claimed(judged(relaxed, lower_bound=value * (1 + SLIGHT)))


@pytest.mark.parametrize("relaxed", [True, False])
def test_a_lower_bound_above_by_rounding_errors_is_cut_to_the_bound(relaxed):
    value, _ = value_and_lower(relaxed)
    for answer in judged(relaxed, lower_bound=value * (1 + 1e-12)):
        assert answer.status is Status.OPTIMAL
        assert answer.lower_bound == answer.bound
        assert answer.gap == 0


@pytest.mark.parametrize("nothing", [np.nan, -np.inf, 0.0, -1.0])
def test_what_nothing_certifies_is_only_feasible(nothing):
    value, _ = value_and_lower(relaxed=False)
    for answer in judged(False, lower_bound=np.full_like(value, nothing)):
        assert answer.status is Status.FEASIBLE
        assert answer.bound > 0
        assert answer.lower_bound is None
        assert answer.gap is None


def test_the_status_is_the_gap_asked_for():
    value, _ = value_and_lower(relaxed=False)
    for gap, status in ((0.9e-3, Status.OPTIMAL), (1.1e-3, Status.FEASIBLE)):
        for answer in judged(False, lower_bound=value / (1 + gap)):
            assert answer.status is status
            assert answer.gap == pytest.approx(gap, rel=1e-6)


def test_a_relaxed_answer_that_is_not_certified_has_failed():
    """The relaxation is solved exactly or not at all: its gap is no property of the scenario."""
    value, _ = value_and_lower(relaxed=True)
    assert_nothing_is_claimed(judged(True, lower_bound=value / (1 + 2e-6)))


@pytest.mark.parametrize(
    ("least_energy", "least_delay", "budget"),
    [
        (2.0, 3.0, "either"),
        (2.0, np.inf, "energy_budget"),
        (np.inf, 3.0, "delay_budget"),
        (np.inf, np.inf, "both"),
    ],
)
def test_an_infeasible_row_says_what_is_short(least_energy, least_delay, budget):
    feasible = np.ones(COUNT, bool)
    feasible[2] = False
    plans = judged(
        False,
        feasible=feasible,
        least_energy=np.full(COUNT, least_energy),
        least_delay=np.full(COUNT, least_delay),
    )
    others = judged(False)
    for i, answer in enumerate(plans):
        if i != 2:
            assert answer.bound == others[i].bound
            continue
        assert answer.status is Status.INFEASIBLE
        assert answer.bound is answer.allocation is answer.lower_bound is None
        reason = answer.infeasible_because
        assert reason.budget == budget
        assert reason.least_energy == (least_energy if np.isfinite(least_energy) else None)
        assert reason.least_delay == (least_delay if np.isfinite(least_delay) else None)


def test_an_offender_disturbs_no_neighbour():
    rounds = np.array(true_design(relaxed=True).finetuning_rounds)
    rounds[1] *= 2
    others = judged(True)
    for i, answer in enumerate(judged(True, design={"finetuning_rounds": rounds})):
        assert answer.status is (Status.FAILED if i == 1 else Status.OPTIMAL)
        assert i == 1 or answer.bound == others[i].bound
