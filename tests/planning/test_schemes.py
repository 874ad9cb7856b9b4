"""Every benchmark design keeps its restriction, is legal, and never beats what it restricts."""

import dataclasses
import math
from functools import cache, partial

import jax
import numpy as np
import pytest

from jaxedge import presets
from jaxedge.answers.status import Status
from jaxedge.bounds.fine_tuning import FineTuning
from jaxedge.planning import schemes
from jaxedge.planning.entry import plan, plan_batch
from jaxedge.scenario.sampling import sample
from jaxedge.scenario.stacking import stack
from jaxedge.scenario.validation import validate
from tests.plain_model import (
    BOUNDS,
    broken_limits,
    finetuning_round,
    plain,
    pretraining_round,
)

SCENARIOS = {
    "small": presets.get("small"),
    "loose": sample(jax.random.key(1), 3),
    "tight": sample(jax.random.key(2), 3, tightness=0.5),
    # Fixed batches and full power do not fit in here.
    "starved": sample(jax.random.key(3), 3, tightness=0.9),
}
TWO_STAGE = [*list(schemes.RESTRICTIONS)[1:], schemes.SEPARATE]
FINE_TUNING = [name for name in TWO_STAGE if name != schemes.PRETRAINING_ONLY]
ANSWERS = [
    (bound, relaxed, name)
    for bound in ("two-stage", "fine-tuning")
    for relaxed in (True, False)
    for name in SCENARIOS
    if bound == "two-stage" or (name in ("small", "tight") and relaxed)
]
"""The fine-tuning bound searches anew for every scheme: fewer of its cases are tried."""


@cache
def answered(bound, relaxed, name):
    return plan(SCENARIOS[name], bound=bound, relaxed=relaxed, schemes=True)


def _without_least(scenario, stage):
    return dataclasses.replace(scenario, **{f"min_{stage}_rounds": 0})


def _judged_by(scenario, scheme):
    """The scenario whose limits a scheme must keep: the stage left out has no least rounds."""
    if scheme == schemes.PRETRAINING_ONLY:
        return _without_least(scenario, "finetuning")
    if scheme == schemes.FINETUNING_ONLY:
        return _without_least(scenario, "pretraining")
    return scenario


def _halves(scenario, chosen):
    """Shares of the budgets that the stages take, (2 stages, 2 budgets)."""
    scenario, chosen = plain(scenario), plain(chosen)
    used = np.array([pretraining_round(scenario, chosen), finetuning_round(scenario, chosen)])
    rounds = np.array([chosen["pretraining_rounds"], chosen["finetuning_rounds"]])
    budgets = np.array([scenario["energy_budget"], scenario["delay_budget"]])
    return rounds[:, None] * used / budgets[None]


def _fixed(part):
    return np.clip(schemes.FIXED_BATCH, part.min_batch, part.max_batch)


def _same(chosen, expected):
    np.testing.assert_allclose(chosen, expected, rtol=1e-12)


def keeps_its_restriction(scenario, scheme, chosen):
    """Assert what the scheme's name says of its design."""
    scenario = validate(scenario)
    both = ((chosen.server, scenario.server), (chosen.devices, scenario.devices))
    if scheme == schemes.PRETRAINING_ONLY:
        assert chosen.finetuning_rounds == 0
        assert chosen.pretraining_rounds >= 1
    elif scheme == schemes.FINETUNING_ONLY:
        assert chosen.pretraining_rounds == 0
        assert chosen.finetuning_rounds >= 1
    elif scheme == schemes.EQUAL_ROUNDS:
        _same(chosen.pretraining_rounds, chosen.finetuning_rounds)
    elif scheme == schemes.SEPARATE:
        assert np.all(_halves(scenario, chosen) <= 0.5 * (1 + 1e-9))
    elif scheme == "fixed batches":
        for own, limits in both:
            np.testing.assert_array_equal(own.batch, _fixed(limits))
    elif scheme == "maximum clocks":
        for own, limits in both:
            _same(own.clock, limits.max_clock)
    elif scheme == "maximum power":
        for own, limits in both:
            _same(own.power, limits.max_power)
    else:
        pytest.fail(f"no restriction is known for {scheme!r}: add it here")


@pytest.mark.parametrize(("bound", "relaxed", "name"), ANSWERS)
def test_each_scheme_keeps_its_restriction_and_every_limit(bound, relaxed, name):
    answer, scenario = answered(bound, relaxed, name), validate(SCENARIOS[name])
    assert list(answer.schemes) == (TWO_STAGE if bound == "two-stage" else FINE_TUNING)
    designed = 0
    for scheme, found in answer.schemes.items():
        assert found.status is not Status.FAILED, scheme
        if found.status is Status.INFEASIBLE:
            assert found.infeasible_because is not None
            continue
        designed += 1
        keeps_its_restriction(scenario, scheme, found.allocation)
        limits = _judged_by(scenario, scheme)
        broken = broken_limits(limits, found.allocation, integer=not relaxed)
        assert broken == [], scheme
        again = BOUNDS[bound](plain(scenario), plain(found.allocation))
        assert found.bound == pytest.approx(again, rel=1e-12)
    assert designed >= 4


@pytest.mark.parametrize(("bound", "relaxed", "name"), ANSWERS)
def test_no_restriction_beats_the_joint_design(bound, relaxed, name):
    answer = answered(bound, relaxed, name)
    for scheme, found in answer.schemes.items():
        # The one-stage designs leave out limits of the joint design, too: see below.
        if found.bound is not None and "only" not in scheme:
            assert found.bound >= answer.lower_bound * (1 - 1e-12), scheme


@pytest.mark.parametrize("relaxed", [True, False])
@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize(
    ("scheme", "without"),
    [(schemes.PRETRAINING_ONLY, "finetuning"), (schemes.FINETUNING_ONLY, "pretraining")],
)
def test_one_stage_does_not_beat_both_where_both_are_free(name, scheme, without, relaxed):
    free = _without_least(SCENARIOS[name], without)
    joint = plan(free, relaxed=relaxed)
    alone = answered("two-stage", relaxed, name).schemes[scheme]
    assert alone.bound >= joint.lower_bound * (1 - 1e-12)


@pytest.mark.parametrize("name", SCENARIOS)
def test_relaxed_schemes_are_certified_but_for_the_separate_stages(name):
    for scheme, found in answered("two-stage", True, name).schemes.items():
        expected = Status.FEASIBLE if scheme == schemes.SEPARATE else Status.OPTIMAL
        assert found.status in (expected, Status.INFEASIBLE)


def test_what_does_not_fit_is_infeasible_and_the_rest_stands():
    starved = answered("two-stage", True, "starved").schemes
    assert starved["fixed batches"].status is Status.INFEASIBLE
    assert starved["maximum clocks"].status is Status.OPTIMAL
    assert starved[schemes.PRETRAINING_ONLY].status is Status.OPTIMAL


def _long_pretraining():
    """The least pre-training takes 0.7 of the delay at least, which leaves fine-tuning enough."""
    scenario = validate(presets.get("small"))
    server = scenario.server
    sample = server.cycles_per_sample / server.max_clock
    rounds = np.ceil(0.7 * scenario.delay_budget / (sample * server.min_batch))
    joules = server.capacitance * server.cycles_per_sample * server.max_clock**2
    energy = scenario.energy_budget + 2 * rounds * server.min_batch * joules
    return dataclasses.replace(scenario, min_pretraining_rounds=rounds, energy_budget=energy)


@pytest.mark.parametrize("bound", ["two-stage", "fine-tuning"])
def test_separate_stages_are_infeasible_where_one_half_does_not_fit(bound):
    """The half of pre-training is too short, which names the delay that would do."""
    scenario = _long_pretraining()
    answer = plan(scenario, bound=bound, relaxed=True, schemes=[schemes.SEPARATE])
    found = answer.schemes[schemes.SEPARATE]
    assert answer.status is Status.OPTIMAL
    assert found.status is Status.INFEASIBLE
    least = found.infeasible_because.least_delay
    assert least >= 1.4 * float(scenario.delay_budget) * (1 - 1e-9)
    longer = dataclasses.replace(scenario, delay_budget=least * (1 + 1e-6))
    again = plan(longer, bound=bound, relaxed=True, schemes=[schemes.SEPARATE])
    assert again.schemes[schemes.SEPARATE].status is Status.FEASIBLE


@pytest.mark.parametrize(
    ("bound", "relaxed"), sorted({(bound, relaxed) for bound, relaxed, _ in ANSWERS})
)
def test_schemes_of_a_batch_are_those_of_each_plan(bound, relaxed):
    names = [n for b, r, n in ANSWERS if (b, r) == (bound, relaxed)]
    stacked = stack([validate(SCENARIOS[n]) for n in names])
    found = plan_batch(stacked, bound=bound, relaxed=relaxed, schemes=True)
    alone = [answered(bound, relaxed, name) for name in names]
    assert list(found) == [schemes.JOINT, *alone[0].schemes]
    # A whole design depends on its relaxed optimum, which is the same to 1e-6 only.
    for scheme, answers in found.items():
        for i, one in enumerate(alone):
            expected = one if scheme == schemes.JOINT else one.schemes[scheme]
            again = answers.plan(i, bound_name=bound, relaxed=relaxed, requested_gap=1e-3)
            assert again.status is expected.status
            for number in ("bound", "lower_bound", "energy", "delay"):
                one_by_one = getattr(expected, number)
                assert getattr(again, number) == (
                    None if one_by_one is None else pytest.approx(one_by_one, rel=2e-6)
                ), (scheme, number)


def affordable_samples(scenario, share=1.0):
    """Samples X that pre-training alone can process within a share of both budgets.

    X samples at tau seconds each take X tau <= T and X kappa c³/tau² <= E. Both are spent at
    tau = (kappa c³ T/E)^(1/3); where the clock does not reach that, time alone limits X = T/tau.
    """
    server = plain(scenario)["server"]
    energy, delay = share * float(scenario.energy_budget), share * float(scenario.delay_budget)
    work = server["capacitance"] * server["cycles_per_sample"] ** 3
    pace = (work * delay / energy) ** (1 / 3)
    return delay / max(pace, server["cycles_per_sample"] / server["max_clock"])


def pretraining_value(scenario, rounds, batch):
    task = plain(scenario)["learning"]
    noise = task["smoothness"] * task["server_learning_rate"] * task["server_variance"] / batch
    start = 2 * task["initial_gap"] / (rounds * task["server_learning_rate"])
    return start + task["discrepancy"] + noise


@pytest.mark.parametrize("name", SCENARIOS)
def test_pretraining_only_is_its_closed_form(name):
    """With M b = X, 2 Delta b/(X eta0) + d2 + L eta0 s0/b is least at b² = L eta0² s0 X/(2 Delta).

    Cut to the batch's limits it stays optimal, since the bound is convex in b.
    """
    scenario = validate(SCENARIOS[name])
    task, server = scenario.learning, scenario.server
    samples = affordable_samples(scenario)
    noise = task.smoothness * task.server_learning_rate**2 * task.server_variance
    batch = math.sqrt(noise * samples / (2 * task.initial_gap))
    batch = min(max(batch, server.min_batch), server.max_batch)
    found = answered("two-stage", True, name).schemes[schemes.PRETRAINING_ONLY]
    exact = pretraining_value(scenario, samples / batch, batch)
    assert found.bound == pytest.approx(exact, rel=1e-6)
    assert found.lower_bound <= exact * (1 + 1e-12)
    assert found.allocation.server.batch == pytest.approx(batch, rel=1e-6)
    assert found.allocation.pretraining_rounds == pytest.approx(samples / batch, rel=1e-6)


@pytest.mark.parametrize("name", SCENARIOS)
def test_whole_pretraining_only_brackets_the_best_of_all_pairs(name):
    """All whole (M, b0) that are worth it: at b0 samples a round, as many rounds as fit."""
    scenario = validate(SCENARIOS[name])
    server, samples = scenario.server, affordable_samples(scenario)
    batches = np.arange(server.min_batch, server.max_batch + 1)
    rounds = np.floor(samples * (1 + 1e-12) / batches)
    batches, rounds = batches[rounds >= 1], rounds[rounds >= 1]
    exact = np.min(pretraining_value(scenario, rounds, batches))
    found = answered("two-stage", False, name).schemes[schemes.PRETRAINING_ONLY]
    assert found.lower_bound <= exact * (1 + 1e-9)
    assert exact * (1 - 1e-9) <= found.bound <= exact * (1 + found.gap + 1e-9)


def handed_gap(scenario, rounds, batch):
    task = plain(scenario)["learning"]
    kept = (1 - task["pl_constant"] * task["server_learning_rate"]) ** rounds
    noise = task["smoothness"] * task["server_learning_rate"] * task["server_variance"] / batch
    floor = (task["discrepancy"] + noise) / (2 * task["pl_constant"])
    return kept * task["initial_gap"] + (1 - kept) * floor


def test_separate_pretraining_hands_over_the_least_gap():
    """Every whole M with the largest batch that its half of the budgets affords."""
    for seed in range(20):
        scenario = validate(sample(jax.random.key(seed), 2, tightness=0.3))
        samples = affordable_samples(scenario, schemes.STAGE_SHARE)
        every = np.arange(1.0, math.floor(samples) + 1)
        largest = np.minimum(np.floor(samples / every), scenario.server.max_batch)
        rounds, batch = schemes.separate_pretraining(
            scenario, partial(FineTuning().handed_over, scenario)
        )
        assert rounds * batch <= samples * (1 + 1e-12)
        best = np.min(handed_gap(scenario, every, largest))
        assert handed_gap(scenario, rounds, batch) <= best * (1 + 1e-9)
