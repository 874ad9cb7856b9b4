"""Users' own problems: the documented examples against SciPy, certificates, and bad input."""

import dataclasses
import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import presets
from jaxedge.answers.status import Status
from jaxedge.bounds.two_stage import two_stage_program
from jaxedge.custom.limits import Limit, OwnBound, OwnProblem
from jaxedge.custom.relaxation import Functions, solve_own_program
from jaxedge.custom.totals import Case, totals_of
from jaxedge.methods.interior_point import InteriorPoint
from jaxedge.relaxation.driver import solve_relaxed
from jaxedge.scenario.sampling import sample_batch
from jaxedge.scenario.stacking import unstack
from jaxedge.system.constraints import violation
from tests import relaxed_nlp

pytestmark = pytest.mark.timeout(900)  # the examples of the page take minutes to compile

TEXT = (Path(__file__).parents[2] / "docs" / "own_limits.md").read_text(encoding="utf-8")
PLAIN = OwnProblem(convex=True)


@pytest.fixture(scope="module")
def docs():
    """The names that the documented examples leave, run from top to bottom."""
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL):
        exec(compile(block, "own_limits.md", "exec"), names)
    return names


def scipy_optimum(scenario, slacks, objective=None):
    """The least bound by SLSQP in logs of the original variables.

    ``slacks(m, n, time, parts)`` must be positive; ``time`` is a free variable (s per round) and
    ``parts`` the uses of a round.
    """
    devices = scenario.devices

    def split(z):
        x = jnp.exp(z)
        return x[0], x[1], x[5], (x[2:5], x[6:].reshape(3, -1))

    def parts(design):
        (b0, _, _), (b, f, p) = design
        e0, e1, t0, down, each = relaxed_nlp._costs(scenario, design)
        computing = devices.cycles_per_sample * b / f
        energies = devices.capacitance * devices.cycles_per_sample * b * f**2
        return {
            "pre": (e0, t0, b0),
            "fine_energy": e1,
            "down": down,
            "computing": computing,
            "uploads": each - computing,
            "energies": energies + p * (each - computing),
        }

    @jax.jit
    @jax.value_and_grad
    def value(z):
        m, n, _, (own, each) = split(z)
        bound = relaxed_nlp._bound(scenario, m, n, own[0], each[0])
        if objective is not None:
            bound = bound + objective(m, n)
        return jnp.log(bound)

    def slack(z):
        m, n, time, design = split(z)
        return slacks(m, n, time, parts(design))

    found = relaxed_nlp.slsqp(scenario, value, slack, tolerance=1e-12)
    return float(np.exp(found.fun))


def built_in(scenario, m, n, time, parts):
    """The slacks of both budgets and of the devices' time."""
    e0, t0, _ = parts["pre"]
    energy = jnp.log(scenario.energy_budget / (m * e0 + n * parts["fine_energy"]))
    delay = jnp.log(scenario.delay_budget / (m * t0 + n * (parts["down"] + time)))
    each = jnp.log(time / (parts["computing"] + parts["uploads"]))
    return [jnp.stack([energy, delay]), each]


def battery_slacks(scenario, m, n, time, parts):
    budgets = np.array([20.0, 60.0, 60.0])
    own = jnp.log(budgets / (n * parts["energies"]))
    return jnp.concatenate([*built_in(scenario, m, n, time, parts), own])


def circuit_slacks(scenario, m, n, time, parts):
    e0, t0, _ = parts["pre"]
    on = n * jnp.sum(parts["computing"] + parts["uploads"])
    idle = 0.3 * (m * t0 + n * (parts["down"] + time)) + 0.1 * on
    spent = m * e0 + n * parts["fine_energy"] + idle
    own = jnp.log(scenario.energy_budget / spent)
    return jnp.concatenate([*built_in(scenario, m, n, time, parts), own[None]])


def turn_slacks(scenario, m, n, time, parts):
    e0, t0, _ = parts["pre"]
    energy = jnp.log(scenario.energy_budget / (m * e0 + n * parts["fine_energy"]))
    spent = m * t0 + n * (parts["down"] + time + jnp.sum(parts["uploads"]))
    delay = jnp.log(scenario.delay_budget / spent)
    return jnp.concatenate([jnp.stack([energy, delay]), jnp.log(time / parts["computing"])])


def epoch_slacks(scenario, m, n, time, parts):
    own = jnp.log(10000.0 / (m * parts["pre"][2]))
    return jnp.concatenate([*built_in(scenario, m, n, time, parts), own[None]])


def plain_slacks(scenario, m, n, time, parts):
    return jnp.concatenate(built_in(scenario, m, n, time, parts))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "slacks"),
    [
        ("plain", plain_slacks),
        ("starved", battery_slacks),
        ("warm", circuit_slacks),
        ("queued", turn_slacks),
        ("capped", epoch_slacks),
    ],
)
def test_documented_examples_agree_with_scipy(docs, name, slacks):
    scenario, answer = docs["scenario"], docs[name]
    reference = scipy_optimum(scenario, partial(slacks, scenario))
    assert answer.status is Status.OPTIMAL
    assert answer.bound == pytest.approx(reference, rel=1e-6)
    assert answer.lower_bound <= reference * (1 + 1e-9)
    assert 0 <= answer.gap <= 1e-6
    assert float(violation(scenario, answer.allocation)) <= 1e-9


@pytest.mark.slow
def test_an_own_bound_agrees_with_scipy(docs):
    scenario, answer = docs["scenario"], docs["dear"]
    task = scenario.learning

    def price(m, n):
        return 1e-3 * n / (m * task.server_learning_rate + n * task.device_learning_rate)

    reference = scipy_optimum(scenario, partial(plain_slacks, scenario), price)
    assert answer.status is Status.OPTIMAL
    assert answer.bound == pytest.approx(reference, rel=1e-6)
    assert answer.lower_bound <= reference * (1 + 1e-9)


@pytest.mark.slow
def test_the_built_in_bound_written_by_hand_is_the_built_in_bound(docs):
    answer = docs["priced"].solve(docs["scenario"], {"price": 0.0})
    assert answer.bound == pytest.approx(docs["plain"].bound, rel=1e-7)


@pytest.mark.slow
def test_limits_cost_and_slack_limits_change_nothing(docs):
    scenario, plain = docs["scenario"], docs["plain"]
    for name in ("starved", "warm", "queued", "capped"):
        assert docs[name].bound > plain.bound * (1 + 1e-4)
    loose = [
        docs["batteries"].solve(scenario, {"battery": np.full(3, 1e3)}),
        docs["circuits"].solve(scenario, {"server_idle": 0.0, "idle": 0.0}),
        docs["passes"].solve(scenario, {"epochs": 2.0, "stored": 1e6}),
    ]
    for answer in loose:
        assert answer.status is Status.OPTIMAL
        assert answer.bound == pytest.approx(plain.bound, rel=1e-6)
    assert np.min(loose[0].shadow_prices["battery"]) > -1e-7
    assert loose[2].shadow_prices["epochs"] > -1e-9


@pytest.mark.slow
def test_the_starved_device_spends_its_budget(docs):
    _, devices = totals_of(docs["scenario"], docs["starved"].allocation)
    spent, prices = np.asarray(devices.energy), -docs["starved"].shadow_prices["battery"]
    assert spent[0] == pytest.approx(20.0, rel=1e-6)
    assert np.all(spent[1:] < 59.9)
    assert prices[0] > 1e-4
    assert np.all(prices[1:] < 1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["battery", "energy_budget", "delay_budget"])
def test_multipliers_are_derivatives_of_the_bound(docs, name):
    scenario, problem = docs["scenario"], docs["batteries"]

    def bound(change):
        battery, given = np.array([20.0, 60.0, 60.0]), scenario
        if name == "battery":
            battery[0] += change
        else:
            given = dataclasses.replace(scenario, **{name: getattr(scenario, name) + change})
        return problem.solve(given, {"battery": battery}).bound

    difference = (bound(-0.1) - bound(0.1)) / 0.2
    price = -np.atleast_1d(docs["starved"].shadow_prices[name])[0]
    assert price == pytest.approx(difference, rel=1e-3)


@pytest.mark.every_python
def test_sampled_scenarios_agree_with_the_built_in_driver():
    scenarios = sample_batch(jax.random.key(5), 24, 3)
    programs = jax.tree.map(np.asarray, jax.jit(jax.vmap(two_stage_program))(scenarios))
    relaxed = solve_relaxed(programs)
    answers = PLAIN.solve_batch(scenarios)
    optimum = relaxed.design.value * programs.scale
    assert [answer.status for answer in answers] == [Status.OPTIMAL] * 24
    np.testing.assert_allclose([answer.bound for answer in answers], optimum, rtol=1e-6)
    assert all(a.lower_bound <= b * (1 + 1e-12) for a, b in zip(answers, optimum, strict=True))


@pytest.mark.slow
def test_the_lower_bound_holds_wherever_the_solver_stops(docs):
    scenario = docs["scenario"]
    functions = Functions(each=(docs["battery"].each,))
    case = Case(scenario=scenario, own={"battery": np.array([20.0, 60.0, 60.0])})
    program = two_stage_program(scenario)

    @jax.jit
    @jax.vmap
    def lower(steps):
        settings = InteriorPoint(max_steps=steps)
        return solve_own_program(functions, program, case, settings)[1] * program.scale

    bounds = np.asarray(lower(np.arange(1, 40)))
    optimum = docs["starved"].bound
    assert np.all(bounds <= optimum)
    assert np.all(bounds[-5:] >= optimum * (1 - 1e-6))
    assert np.any(bounds < optimum * 0.9)  # the early ones are no optima


@pytest.mark.slow
def test_what_no_design_can_keep_is_infeasible(docs):
    scenario, plenty = docs["scenario"], np.full(3, 60.0)
    empty = docs["batteries"].solve(scenario, {"battery": np.array([60.0, 1e-7, 60.0])})
    assert empty.status is Status.INFEASIBLE and empty.bound is None
    poor = dataclasses.replace(scenario, energy_budget=1e-6)
    assert docs["batteries"].solve(poor, {"battery": plenty}).status is Status.INFEASIBLE
    unknown = OwnProblem(limits=docs["batteries"].limits)
    hopeless = unknown.solve(poor, {"battery": plenty})
    assert hopeless.status is Status.FAILED
    assert "report" not in hopeless.message  # for all that is known, nothing is wrong
    assert empty.infeasible_because is None and "limit of your own" in empty.message


@pytest.mark.slow
def test_an_infeasible_element_disturbs_no_other(docs):
    scenarios = [docs["scenario"]] * 3
    battery = np.array([[20.0, 60.0, 60.0], [60.0, 1e-7, 60.0], [20.0, 60.0, 60.0]])
    answers = docs["batteries"].solve_batch(scenarios, {"battery": battery})
    assert answers[1].status is Status.INFEASIBLE
    assert answers[0].bound == answers[2].bound
    assert answers[0].bound == pytest.approx(docs["starved"].bound, rel=1e-9)


@pytest.mark.slow
def test_without_convexity_nothing_is_certified(docs):
    honest = docs["honest"]
    assert honest.status is Status.FEASIBLE
    assert honest.lower_bound is None and honest.gap is None
    assert "not certified" in honest.message
    assert honest.bound == docs["starved"].bound


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["pretraining", "finetuning"])
def test_least_rounds_of_zero_are_no_trouble(docs, stage):
    free = dataclasses.replace(docs["scenario"], **{f"min_{stage}_rounds": 0})
    answer = PLAIN.solve(free)
    assert answer.status is Status.OPTIMAL
    assert answer.bound == pytest.approx(docs["plain"].bound, rel=1e-6)


@pytest.mark.slow
def test_batches_of_scenarios_are_stacked_or_listed(docs):
    scenarios = sample_batch(jax.random.key(5), 2, 3)
    own = {"battery": np.full((2, 3), 1e9)}
    stacked = docs["batteries"].solve_batch(scenarios, own)
    listed = docs["batteries"].solve_batch(unstack(scenarios), own)
    assert [a.bound for a in stacked] == [a.bound for a in listed]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"battery": np.ones(2)}, r"'battery' has shape \(2,\).*\(3,\)"),
        ({"battery": np.ones((3, 3))}, r"'battery' has shape \(3, 3\)"),
        ({"battery": np.ones(3, np.float32)}, "'battery' has dtype float32"),
        ({"battery": np.array([1.0, np.nan, 1.0])}, "'battery' holds nan"),
        ({"battery": "full"}, "'battery' has dtype"),
        ({}, "limit 'battery', each: no own number 'battery' was given"),
    ],
)
def test_numbers_that_do_not_fit_are_named(docs, own, message):
    with pytest.raises(ValueError, match=message):
        docs["batteries"].solve(docs["scenario"], own)


def one(case, totals):
    return jnp.float64(1.0)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ((Limit(name="a"),), "limit 'a' must have plan, or plan and summed, or each alone"),
        ((Limit(name="a", plan=one, each=one),), "limit 'a' must have"),
        ((Limit(name="a", summed=one),), "limit 'a' must have"),
        ((Limit(name="a", plan=one), Limit(name="a", each=one)), "'a' stands more than once"),
        ((Limit(name="energy_budget", plan=one),), "'energy_budget' stands more than once"),
        ((Limit(name="a", plan=lambda c, p: p.delay * jnp.ones(2)),), r"'a', plan returns.*\(2,\)"),
        ((Limit(name="a", each=lambda c, d: d.time.astype("float32")),), "'a', each returns"),
        ((Limit(name="a", each=lambda c, d: d.time > 1),), "'a', each returns"),
    ],
)
def test_limits_that_do_not_fit_are_named(limits, message):
    with pytest.raises(ValueError, match=message):
        OwnProblem(limits=limits).solve(presets.get("small"))


def test_a_bound_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match="bound, plan returns"):
        OwnProblem(bound=OwnBound(plan=lambda c, p: c.scenario.devices.gain)).solve(
            presets.get("small")
        )


def test_scenarios_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="scenario 0 has 3 devices and scenario 1 has 10"):
        PLAIN.solve_batch([presets.get("small"), presets.get("default")])
    with pytest.raises(ValueError, match="energy_budget"):
        PLAIN.solve(dataclasses.replace(presets.get("small"), energy_budget=-1.0))
    with pytest.raises(ValueError, match="no scenarios"):
        PLAIN.solve_batch([])
