"""The problem in both coordinate systems: equal, two-way, and convex where it is said to be."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from jaxedge.bounds.base import Effort
from jaxedge.bounds.fine_tuning import fine_tuning_bound, fine_tuning_fraction
from jaxedge.bounds.two_stage import two_stage_bound, two_stage_fraction
from jaxedge.system.constraints import (
    constraints,
    constraints_in_totals,
    energy_in_totals,
    feasible,
    ratio,
    violation,
)
from jaxedge.system.delay import delay
from jaxedge.system.energy import energy
from jaxedge.system.round_costs import round_costs
from jaxedge.system.totals import Totals, from_totals, to_totals
from tests import plain_dual, plain_model
from tests.plain_model import plain
from tests.random_cases import random_allocation, random_case, random_scenario

SEEDS = range(24)
BOUNDS = {"two-stage": two_stage_bound, "fine-tuning": fine_tuning_bound}
FRACTIONS = {"two-stage": two_stage_fraction, "fine-tuning": fine_tuning_fraction}


def objective_in_totals(scenario, totals, name="two-stage"):
    """A bound in totals, as its convex numerator (at each fixed M) over its linear denominator."""
    first, second = jnp.asarray(totals.pretraining_rounds), jnp.asarray(totals.finetuning_rounds)
    effort = Effort(
        pretraining_rounds=first,
        finetuning_rounds=second,
        inverse_server_batch=ratio(first, totals.server_samples),
        inverse_device_batch=ratio(second, totals.device_samples),
    )
    return FRACTIONS[name](scenario.learning, effort)


def assert_close(found, expected, rtol=1e-12, atol=0.0):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), found, expected
    )


# --- the change of variables ------------------------------------------------------------------


def test_round_trips():
    for seed in SEEDS:
        scenario, allocation = random_case(seed)
        totals = to_totals(scenario, allocation)
        assert_close(from_totals(scenario, totals), allocation)
        assert_close(to_totals(scenario, from_totals(scenario, totals)), totals)


def test_the_change_of_variables_is_a_diffeomorphism():
    scenario, allocation = random_case(1)

    def there_and_back(design):
        return from_totals(scenario, to_totals(scenario, design))

    tangent = jax.tree.map(lambda x: x * np.cos(np.arange(np.size(x))).reshape(x.shape), allocation)
    assert_close(jax.jvp(there_and_back, (allocation,), (tangent,))[1], tangent, rtol=1e-10)


@pytest.mark.parametrize("idle", ["pretraining_rounds", "finetuning_rounds"])
def test_a_stage_without_rounds_is_legal_and_free_in_both_coordinates(idle):
    scenario, allocation = random_case(3)
    allocation = dataclasses.replace(allocation, **{idle: jnp.asarray(0.0)})
    totals = to_totals(scenario, allocation)
    back = from_totals(scenario, totals)
    assert_close(energy(scenario, back), energy(scenario, allocation))
    assert_close(delay(scenario, back), delay(scenario, allocation))
    terms, pull = jax.vjp(lambda t: energy_in_totals(scenario, t), totals)
    assert_close(sum(map(jnp.sum, jax.tree.leaves(terms))), energy(scenario, allocation))
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves((totals, back, pull(terms))))
    limits = constraints(scenario, back)
    for boxes in (limits.clocks, limits.powers, limits.batches):
        assert np.all(boxes <= 1e-12)
    for name in BOUNDS:
        value = objective_in_totals(scenario, totals, name).value
        assert_close(value, BOUNDS[name](scenario, allocation))


# --- the same problem in both -----------------------------------------------------------------


def test_objectives_are_equal_in_both_coordinates():
    for seed in SEEDS:
        scenario, allocation = random_case(seed)
        totals = to_totals(scenario, allocation)
        for name, bound in BOUNDS.items():
            found = objective_in_totals(scenario, totals, name).value
            assert_close(found, bound(scenario, allocation))


def test_energies_are_equal_in_both_coordinates():
    for seed in SEEDS:
        scenario, allocation = random_case(seed)
        terms = energy_in_totals(scenario, to_totals(scenario, allocation))
        rounds, spent = allocation.finetuning_rounds, round_costs(scenario, allocation)
        assert_close(terms.devices, rounds * spent.devices.energy)
        assert_close(terms.uploads, rounds * spent.uploads.energy)
        assert_close(terms.broadcast, rounds * spent.broadcast.energy)
        assert_close(sum(map(jnp.sum, jax.tree.leaves(terms))), energy(scenario, allocation))


def stretched(rng, scenario):
    """An allocation that may lie a factor of two outside its boxes and rounds."""
    allocation = random_allocation(rng, scenario)
    return jax.tree.map(lambda x: x * np.exp(rng.uniform(-1.5, 0.7, np.shape(x))), allocation)


def test_constraints_have_the_same_signs_in_both_coordinates():
    seen = set()
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        scenario = random_scenario(rng, 3)
        allocation = stretched(rng, scenario)
        first = constraints(scenario, allocation)
        second = constraints_in_totals(scenario, to_totals(scenario, allocation))
        pairs = [
            (first.energy, second.energy),
            (first.delay, second.delay),
            (first.clocks[1], second.clocks),
            (first.powers[1], second.powers),
            (first.batches, second.batches),
            (first.rounds, second.rounds),
        ]
        for number, (one, other) in enumerate(pairs):
            assert np.array_equal(one > 0, other > 0), (seed, number)
            seen |= {(number, bool(x)) for x in np.ravel(one > 0)}
        np.testing.assert_allclose(first.energy, second.energy, rtol=1e-11)
        np.testing.assert_allclose(first.delay, second.delay, rtol=1e-11)
        # T_1 is at its least: the slowest device meets it exactly, no device is later.
        np.testing.assert_allclose(np.max(second.devices), 0.0, atol=1e-12 * (1 + first.delay))
    budgets_boxes = {(number, sign) for number in range(5) for sign in (True, False)}
    assert budgets_boxes <= seen  # Each kind was seen kept and broken.


def test_constraints_carry_over_in_size():
    scenario, allocation = random_case(3)
    totals = to_totals(scenario, allocation)
    first, second = constraints(scenario, allocation), constraints_in_totals(scenario, totals)
    times = np.append(totals.server_time, totals.device_time) / scenario.delay_budget
    np.testing.assert_allclose(second.clocks, first.clocks[1] * times, rtol=1e-9)
    rounds = np.append(totals.pretraining_rounds, np.full(10, totals.finetuning_rounds))
    np.testing.assert_allclose(second.batches, np.asarray(first.batches) * rounds, rtol=1e-9)


def test_feasibility_agrees_with_the_plain_judge():
    verdicts = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        scenario = random_scenario(rng, 3)
        allocation = random_allocation(rng, scenario) if seed % 2 else stretched(rng, scenario)
        broken = plain_model.broken_limits(scenario, allocation, integer=False)
        verdicts.append(bool(feasible(scenario, allocation)))
        assert verdicts[-1] == (not broken), broken
    assert {True, False} == set(verdicts)


def comfortable():
    """A feasible case with room in every limit."""
    scenario, allocation = random_case(3)
    allocation = jax.tree.map(lambda x: 0.9 * x + 0.0, allocation)
    batch = dataclasses.replace(allocation.devices, batch=jnp.full(10, 4.0))
    server = dataclasses.replace(allocation.server, batch=jnp.asarray(4.0))
    allocation = dataclasses.replace(
        allocation, devices=batch, server=server, pretraining_rounds=3.0, finetuning_rounds=3.0
    )
    return dataclasses.replace(scenario, energy_budget=1e9, delay_budget=1e9), allocation


def device(allocation, **fields):
    return dataclasses.replace(
        allocation, devices=dataclasses.replace(allocation.devices, **fields)
    )


def server(allocation, **fields):
    return dataclasses.replace(allocation, server=dataclasses.replace(allocation.server, **fields))


BREAKS = {
    "clock above": lambda s, a: server(a, clock=s.server.max_clock * 1.01),
    "device clock above": lambda s, a: device(a, clock=s.devices.max_clock * 1.01),
    "negative clock": lambda s, a: server(a, clock=-a.server.clock),
    "zero clock": lambda s, a: server(a, clock=0.0 * a.server.clock),
    "power above": lambda s, a: server(a, power=s.server.max_power * 1.01),
    "device power above": lambda s, a: device(a, power=a.devices.power.at[3].set(9.0)),
    "zero power": lambda s, a: device(a, power=a.devices.power.at[3].set(0.0)),
    "batch below": lambda s, a: server(a, batch=0.99),
    "device batch above": lambda s, a: device(a, batch=a.devices.batch.at[9].set(129.0)),
    "too few rounds": lambda s, a: dataclasses.replace(a, finetuning_rounds=0.99),
    "not a number": lambda s, a: dataclasses.replace(a, pretraining_rounds=jnp.nan),
}


@pytest.mark.parametrize("name", BREAKS)
def test_each_broken_limit_is_seen(name):
    scenario, allocation = comfortable()
    assert violation(scenario, allocation) <= 0
    assert not plain_model.broken_limits(scenario, allocation, integer=False)
    broken = BREAKS[name](scenario, allocation)
    assert violation(scenario, broken) > 5e-3
    assert not feasible(scenario, broken)


@pytest.mark.parametrize("budget", ["energy_budget", "delay_budget"])
def test_violation_is_relative_to_the_budget(budget):
    scenario, allocation = comfortable()
    used = energy if budget == "energy_budget" else delay
    scenario = dataclasses.replace(scenario, **{budget: used(scenario, allocation) / 1.25})
    np.testing.assert_allclose(violation(scenario, allocation), 0.25, rtol=1e-12)
    assert plain_model.broken_limits(scenario, allocation, integer=False)


def test_the_plain_judge_asks_for_whole_numbers():
    scenario, allocation = comfortable()
    assert not plain_model.broken_limits(scenario, allocation)
    for broken in (
        dataclasses.replace(allocation, pretraining_rounds=3.5),
        server(allocation, batch=2.5),
        device(allocation, batch=allocation.devices.batch.at[1].set(2.5)),
    ):
        assert len(plain_model.broken_limits(scenario, broken)) == 1
        assert not plain_model.broken_limits(scenario, broken, integer=False)


# --- convexity --------------------------------------------------------------------------------

MIX = np.linspace(0.0, 1.0, 9)


def segment(start: Totals, end: Totals):
    """The totals at the fractions ``MIX`` of the way."""

    def along(x, y):
        mix = MIX.reshape((-1,) + (1,) * np.ndim(x))
        return (1 - mix) * np.asarray(x) + mix * np.asarray(y)

    return jax.tree.map(along, start, end)


def segments(fixed_rounds=False):
    """Random scenarios, each with a segment of totals far apart."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        scenario = random_scenario(rng, 3)
        ends = [random_allocation(rng, scenario) for _ in range(2)]
        if fixed_rounds:
            first = ends[0].pretraining_rounds
            ends[1] = dataclasses.replace(ends[1], pretraining_rounds=first)
        totals = [to_totals(scenario, end) for end in ends]
        yield scenario, segment(*totals)


def assert_below_chord(values):
    values = np.asarray(values)
    mix = MIX.reshape((-1,) + (1,) * (values.ndim - 1))
    chord = (1 - mix) * values[0] + mix * values[-1]
    assert np.all(values <= chord + 1e-10 * np.max(np.abs(values), axis=0) + 1e-13)


def test_each_energy_term_is_convex_in_totals():
    curved = 0.0
    for scenario, path in segments():
        terms = jax.vmap(energy_in_totals, in_axes=(None, 0))(scenario, path)
        for term in jax.tree.leaves(terms):
            assert_below_chord(term)
            curved = max(curved, float(np.max((term[0] + term[-1]) / 2 / term[4])))
    assert curved > 1.5  # The segments are long enough to tell convex from linear.


def test_every_constraint_is_convex_and_all_but_energy_are_linear_in_totals():
    for scenario, path in segments():
        residuals = jax.vmap(constraints_in_totals, in_axes=(None, 0))(scenario, path)
        assert_below_chord(residuals.energy)
        for leaf in jax.tree.leaves(dataclasses.replace(residuals, energy=0.0 * residuals.energy)):
            assert_below_chord(leaf)
            assert_below_chord(-leaf)


def quasiconvexity_slack(values):
    values = np.asarray(values)
    return np.max(values[1:-1]) / max(values[0], values[-1])


@pytest.mark.parametrize("name", FRACTIONS)
def test_the_bound_is_convex_over_linear_and_quasiconvex_in_totals(name):
    for scenario, path in segments(fixed_rounds=name == "fine-tuning"):
        found = jax.vmap(objective_in_totals, in_axes=(None, 0, None))(scenario, path, name)
        assert_below_chord(found.numerator)
        assert_below_chord(found.denominator)
        assert_below_chord(-found.denominator)
        assert quasiconvexity_slack(found.value) <= 1 + 1e-12


def test_the_fine_tuning_bound_needs_its_pretraining_rounds_fixed():
    """Why the search over M stands outside: where pre-training hurts, quasiconvexity fails."""
    scenario, short = random_case(1)
    learning = scenario.learning
    learning = dataclasses.replace(
        learning,
        discrepancy=200 * learning.pl_constant * learning.initial_gap,
        server_variance=0.0,
        device_variance=0.0 * learning.device_variance,
    )
    scenario = dataclasses.replace(scenario, learning=learning)
    many = 10 / (learning.pl_constant * learning.server_learning_rate)
    short = dataclasses.replace(short, pretraining_rounds=jnp.asarray(1.0))
    long = dataclasses.replace(short, pretraining_rounds=many)
    worse = BOUNDS["fine-tuning"](scenario, long) / BOUNDS["fine-tuning"](scenario, short)
    long = dataclasses.replace(long, finetuning_rounds=worse * short.finetuning_rounds)
    path = segment(to_totals(scenario, short), to_totals(scenario, long))
    along = jax.vmap(objective_in_totals, in_axes=(None, 0, None))(scenario, path, "fine-tuning")
    np.testing.assert_allclose(along.value[0], along.value[-1], rtol=1e-9)
    assert quasiconvexity_slack(along.value) > 1.5


def test_energy_is_not_convex_in_original_units():
    """Why the totals are worth the trouble."""
    broken = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        scenario = random_scenario(rng, 2)
        path = segment(random_allocation(rng, scenario), random_allocation(rng, scenario))
        values = np.asarray(jax.vmap(energy, in_axes=(None, 0))(scenario, path))
        chord = (1 - MIX) * values[0] + MIX * values[-1]
        broken += bool(np.any(values > chord * (1 + 1e-6)))
    assert broken > 5


def test_the_program_is_homogeneous():
    """Scaling all totals scales every energy and time: the Charnes-Cooper step needs it."""
    for seed in range(8):
        scenario, allocation = random_case(seed)
        totals = to_totals(scenario, allocation)
        twice = jax.tree.map(lambda x: 2 * x, totals)
        assert_close(
            energy_in_totals(scenario, twice),
            jax.tree.map(lambda x: 2 * x, energy_in_totals(scenario, totals)),
        )
        one, two = (objective_in_totals(scenario, t) for t in (totals, twice))
        gap = 2 * scenario.learning.initial_gap
        assert_close(two.numerator - gap, 2 * (one.numerator - gap))
        assert_close(two.denominator, 2 * one.denominator)


# --- duality ----------------------------------------------------------------------------------


def test_any_prices_bound_every_feasible_design_from_below():
    """Weak duality of docs/theory.md, in plain floats, for real and for whole numbers."""
    ratios = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        scenario, design = random_case(seed, int(rng.integers(1, 4)))
        if whole := bool(seed % 2):
            design = device(design, batch=np.round(design.devices.batch))
            design = server(design, batch=np.round(design.server.batch))
            design = jax.tree.map(np.asarray, design)
        spent = {"energy_budget": energy, "delay_budget": delay}
        scenario = dataclasses.replace(
            scenario, **{n: f(scenario, design) for n, f in spent.items()}
        )
        gap = 2 * float(scenario.learning.initial_gap)
        for _ in range(10):
            lam = gap / float(scenario.energy_budget) * rng.choice([0.0, 0.1, 0.5, 1.0])
            split = rng.dirichlet(np.ones(len(design.devices.batch)))
            nus = gap / float(scenario.delay_budget) * split * rng.choice([0.0, 0.1, 0.5, 1.0])
            bounds = {
                "two-stage": plain_dual.two_stage_lower_bound(
                    scenario, lam, nus.tolist(), integer=whole
                ),
                "fine-tuning": plain_dual.fine_tuning_lower_bound(
                    scenario, float(design.pretraining_rounds), lam, nus.tolist(), integer=whole
                ),
            }
            for name, lower in bounds.items():
                upper = plain_model.BOUNDS[name](plain(scenario), plain(design))
                assert lower <= upper * (1 + 1e-9), (seed, name)
                ratios.append(lower / upper)
    assert max(ratios) > 0.3  # The bounds are not merely very low.


def test_whole_batches_raise_the_lower_bound():
    raised = []
    for seed in range(20):
        scenario, _ = random_case(seed, 2)
        lam = float(scenario.learning.initial_gap / scenario.energy_budget)
        nus = [float(scenario.learning.initial_gap / scenario.delay_budget / 2)] * 2
        real, whole = (
            plain_dual.two_stage_lower_bound(scenario, lam, nus, integer=kind)
            for kind in (False, True)
        )
        assert whole >= real * (1 - 1e-12)
        raised.append(whole > real)
    assert any(raised)


def reference_answers(data_dir):
    """Optima of the relaxation with one device: (scenario, M or None, optimum)."""
    for case in json.loads((data_dir / "relaxation.json").read_text())["cases"]:
        if len(case["scenario"]["devices"]["gain"]) == 1:
            yield case["scenario"], None, case["relaxation"]["bound"]
    for case in json.loads((data_dir / "fine_tuning.json").read_text())["cases"]:
        if len(case["scenario"]["devices"]["gain"]) == 1:
            for answer in case["at_fixed_pretraining_rounds"][:2]:
                yield case["scenario"], answer["pretraining_rounds"], answer["bound"]


def highest(function, low, high):
    """Greatest value of a quasiconcave function on an interval."""
    options = {"xatol": 1e-11 * (high - low), "maxiter": 200}
    found = minimize_scalar(
        lambda x: -function(x), bounds=(low, high), method="bounded", options=options
    )
    return -found.fun


def test_the_best_prices_attain_the_reference_optimum(data_dir):
    """Strong duality: the plain lower bound, maximised, is the optimum that others found."""
    answers = list(reference_answers(data_dir))
    assert len(answers) > 3
    for scenario, rounds, expected in answers:
        scale = 2 * scenario["learning"]["initial_gap"]
        scale /= 1 if rounds is None else scenario["learning"]["device_learning_rate"]

        def lower(share, log_total, scenario=scenario, rounds=rounds, scale=scale):
            total = scale * np.exp(log_total)
            lam = float(share * total / scenario["energy_budget"])
            nus = [float((1 - share) * total / scenario["delay_budget"])]
            if rounds is None:
                return plain_dual.two_stage_lower_bound(scenario, lam, nus)
            return plain_dual.fine_tuning_lower_bound(scenario, rounds, lam, nus)

        # Concave in the prices, hence quasiconcave along each ray and across the rays.
        best = highest(lambda share, f=lower: highest(lambda x: f(share, x), -3.0, 3.0), 0.0, 1.0)
        np.testing.assert_allclose(best, expected, rtol=1e-6)


def test_the_theory_names_tests_that_exist():
    root = Path(__file__).parents[2]
    names = set(re.findall(r"::(test_\w+)", (root / "docs" / "theory.md").read_text()))
    defined = "".join(path.read_text() for path in (root / "tests").rglob("test_*.py"))
    assert len(names) > 15
    assert not {name for name in names if f"def {name}(" not in defined}
