"""The benchmarks' own parts: records, the referee, the peers."""

import dataclasses
import importlib.util
import json
from functools import partial
from pathlib import Path

import extreme_scenarios
import jax
import jax.numpy as jnp
import numpy as np
import peers
import pytest
import records
import referee
import restatement
import wrong_answers
from peers import conic, parameters, scip

from jaxedge.planning.entry import plan_batch
from jaxedge.scenario import files
from jaxedge.scenario.stacking import stack, unstack
from tests import plain_dual

DATA = Path(__file__).parent / "data"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "FOLDER", tmp_path / "records")
    return records.FOLDER


def test_a_record_holds_results_versions_and_device(folder):
    results = {"rate": np.float64(2.5), "gaps": jnp.array([1.0, 2.0]), "none": float("nan")}
    path = records.write("speed", results)
    record = json.loads(path.read_text(encoding="utf-8"))
    assert path.parent == folder
    assert path.name == f"speed-{records.slug(record['device']['kind'])}.json"
    assert record["results"] == {"rate": 2.5, "gaps": [1.0, 2.0], "none": None}
    assert {"python", "jax", "jaxlib", "numpy"} <= record["versions"].keys()
    assert record["cpu"]["count"] >= 1 and record["cpu"]["model"]


def test_what_json_cannot_hold_is_refused(folder):
    with pytest.raises(TypeError, match="not JSON serializable"):
        records.write("speed", {"rate": object()})


def test_names_of_devices_become_names_of_files():
    assert records.slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"


@pytest.fixture(scope="module")
def reference():
    """Two stored scenarios of K = 2, stacked, and their optimal bounds."""
    stored = json.loads((DATA / "relaxation.json").read_text(encoding="utf-8"))["cases"]
    some = [case for case in stored if len(case["scenario"]["devices"]["gain"]) == 2][:2]
    scenarios = stack([files.loads(json.dumps(c["scenario"]), "json") for c in some])
    return scenarios, np.array([case["relaxation"]["bound"] for case in some])


@pytest.fixture(scope="module")
def answers(reference):
    return plan_batch(reference[0], relaxed=True)


def moved(allocation, name, factor):
    devices = dataclasses.replace(
        allocation.devices, **{name: getattr(allocation.devices, name) * factor}
    )
    return dataclasses.replace(allocation, devices=devices)


def test_the_referee_agrees_with_stored_optima(reference, answers):
    scenarios, bounds = reference
    verdict = referee.judge(scenarios, answers.allocation, bounds)
    assert not verdict.disputed.any()
    np.testing.assert_allclose(verdict.bound, bounds, rtol=2e-6)
    assert (np.abs(verdict.gap) <= 2e-6).all()


@pytest.mark.parametrize(("name", "factor"), [("clock", 1.01), ("power", 1.1), ("batch", 1.01)])
def test_a_design_beyond_a_limit_is_no_answer(reference, answers, name, factor):
    scenarios, bounds = reference
    verdict = referee.judge(scenarios, moved(answers.allocation, name, factor), bounds)
    assert (verdict.violation > referee.TOLERANCE).all()
    assert np.isinf(verdict.gap).all()


def test_a_design_just_outside_is_drawn_back_and_a_missing_one_is_no_answer(reference, answers):
    scenarios, bounds = reference
    outside = dataclasses.replace(
        answers.allocation, pretraining_rounds=answers.allocation.pretraining_rounds * (1 + 1e-8)
    )
    kept = referee.drawn_back(scenarios, outside)
    assert (restatement.violation(scenarios, outside) > 1e-10).all()
    assert (restatement.violation(scenarios, kept) <= 1e-10).all()
    nothing = moved(answers.allocation, "power", np.nan)
    assert np.isinf(referee.judge(scenarios, nothing, bounds).gap).all()


def test_fractions_are_no_integer_design(reference, answers):
    verdict = referee.judge(reference[0], answers.allocation, reference[1], integer=True)
    assert np.isinf(verdict.gap).all()


def test_the_restated_dual_is_that_of_the_plain_one(reference):
    scenarios, _ = reference
    rng = np.random.default_rng(0)
    for integer in (False, True):
        for energy, time in 10.0 ** rng.uniform(-6, 0, (10, 2)):
            split = time * np.array([[0.3, 0.7]] * 2)
            ours = restatement.lower_bound(scenarios, np.full(2, energy), split, integer=integer)
            theirs = [
                plain_dual.two_stage_lower_bound(one, energy, list(split[0]), integer=integer)
                for one in unstack(scenarios)
            ]
            np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_wrong_answers_are_found(reference, answers):
    scenarios, _ = reference
    assert not wrong_answers.check_relaxed(scenarios, answers)
    infeasible = dataclasses.replace(answers, status=np.full(2, 2, np.int8))
    assert set(wrong_answers.check_relaxed(scenarios, infeasible).values()) == {
        "is not proven infeasible"
    }
    better = dataclasses.replace(answers, bound=answers.bound * 0.999)
    assert len(wrong_answers.check_relaxed(scenarios, better)) == 2
    boastful = dataclasses.replace(answers, lower_bound=answers.bound * (1 + 1e-3))
    assert len(wrong_answers.check_relaxed(scenarios, boastful)) == 2


def test_infeasible_is_proven_where_budgets_are_cut_and_not_where_they_do(reference):
    scenarios, _ = reference
    for factor, expected in ((1e-8, True), (1.0, False)):
        cut = dataclasses.replace(scenarios, energy_budget=scenarios.energy_budget * factor)
        prices = referee.prices_of_time(cut, 20)
        assert (referee.proves_infeasible(cut, prices) == expected).all()


@pytest.mark.parametrize("name", extreme_scenarios.VARIANTS)
def test_extreme_scenarios_are_valid_and_reproducible(name):
    batches = [extreme_scenarios.extreme_batch(3, 16, 2) for _ in range(2)]
    assert name in batches[0][1]
    assert batches[0][1] == batches[1][1]
    assert str(batches[0][0]) == str(batches[1][0])


def test_other_units_leave_the_bound_as_it_is(reference, answers):
    scenarios, _ = reference
    moved_units = extreme_scenarios.other_units(scenarios, np.random.default_rng(1))
    again = plan_batch(moved_units, relaxed=True)
    np.testing.assert_allclose(again.bound, answers.bound, rtol=2e-6)


PRESENT = [
    peer
    for peer in peers.ALL
    if all(importlib.util.find_spec(name) for name in peer.packages)
    and peer.title not in {"trust-constr", "Blind"}  # too slow here
]


def reaches_stored_optimum(peer, reference):
    scenarios, bounds = reference
    for variant in peer.variants:
        choices, seconds, first = peers.solve_chunk(
            peer, variant, peer.tolerances[-1], scenarios, 100.0
        )
        verdict = referee.judge(scenarios, parameters.allocation(choices), bounds)
        assert verdict.within(1e-5).all()
        assert (seconds > 0).all() and first > 0


def has_scip_on_the_same_side(variant, reference):
    """SCIP's bounds enclose ours, and its designs are legal: it may need hours to close them."""
    scenarios = parameters.part_of(reference[0], slice(1))
    answer = plan_batch(scenarios)
    found = scip.solve_one(parameters.scenario_at(scenarios, 0), variant, 5.0)
    design = parameters.allocation(found.design[None])
    verdict = referee.judge(scenarios, design, answer.lower_bound, integer=True)
    assert found.lower_bound <= answer.bound[0] * (1 + 1e-6)
    assert np.isnan(found.design).any() or -1e-6 <= verdict.gap[0] < np.inf


CHECKS = {peer.title: partial(reaches_stored_optimum, peer) for peer in PRESENT}
if importlib.util.find_spec("pyscipopt"):
    CHECKS |= {f"SCIP {v}": partial(has_scip_on_the_same_side, v) for v in scip.VARIANTS}


@pytest.mark.parametrize("name", CHECKS)
def test_peers_solve_the_same_problem(reference, name):
    CHECKS[name](reference)


def test_a_missing_peer_is_named_once(capsys):
    assert peers.left_out("json", "no_such_solver")
    assert peers.left_out("no_such_solver")
    assert not peers.left_out("json")
    told = capsys.readouterr().out
    assert told == "left out: no_such_solver is not installed; pip install jaxedge[bench]\n"


def test_the_conic_program_holds_for_the_optimum(reference, answers):
    """The optimum, written as the conic program's variables, keeps its rows and costs the same."""
    scenarios, bounds = reference
    for i in range(2):
        one = parameters.scenario_at(scenarios, i)
        program = conic.conic_of(one)
        z = conic_point(one, jax.tree.map(lambda x, i=i: x[i], answers.allocation)) / program.units
        slack = program.b - program.matrix @ z
        assert abs(slack[0]) <= 1e-9
        assert slack[1 : 1 + program.linear].min() >= -1e-6
        cones = slack[1 + program.linear :].reshape(3, -1, 3)
        first, a, b = np.moveaxis(cones, 2, 0)
        assert (first[0] >= np.hypot(a[0], b[0]) * (1 - 1e-9)).all()
        assert (a[1] * np.exp(first[1] / a[1]) <= b[1] * (1 + 1e-9)).all()
        assert (first[2] ** (1 / 3) * a[2] ** (2 / 3) >= b[2] * (1 - 1e-9)).all()
        cost = program.q @ z / program.q[conic.S] * program.units[conic.S]
        initial = 2 * one.learning.initial_gap
        np.testing.assert_allclose(cost * initial, bounds[i], rtol=1e-5)


def conic_point(scenario, design):
    """The conic program's variables at a design, in the totals' units."""
    server, devices, task = scenario.server, scenario.devices, scenario.learning
    m, n, own, each = (
        design.pretraining_rounds,
        design.finetuning_rounds,
        design.server,
        design.devices,
    )
    below = m * task.server_learning_rate + n * task.device_learning_rate
    noise = scenario.noise_density
    snr = each.power * devices.gain / (noise * devices.bandwidth)
    snr0 = own.power * devices.downlink_gain.min() / (noise * server.bandwidth)
    up = scenario.upload_bits / (devices.bandwidth * np.log2(1 + snr))
    down = scenario.download_bits / (server.bandwidth * np.log2(1 + snr0))
    cycles0, cycles = server.cycles_per_sample * own.batch, devices.cycles_per_sample * each.batch
    x, x0 = np.log1p(snr), np.log1p(snr0)
    at_start = parameters.starting_choices(scenario)
    p0, p = at_start[4], at_start[5:].reshape(3, -1)[2]
    reference = np.log1p(p * devices.gain / (noise * devices.bandwidth))
    reference0 = np.log1p(p0 * devices.downlink_gain.min() / (noise * server.bandwidth))
    shared = [m, n, 1, m * own.batch, m * cycles0 / own.clock, n * down]
    shared += [
        n * (cycles / each.clock + up).max(),
        m * server.capacitance * cycles0 * own.clock**2,
    ]
    shared += [n * down * np.exp(x0 - reference0), m / own.batch]
    columns = [each.batch, cycles / each.clock, up, devices.capacitance * cycles * each.clock**2]
    columns += [up * np.exp(x - reference), 1 / each.batch]
    return np.concatenate([shared, (n * np.stack(columns)).T.ravel()]) / below
