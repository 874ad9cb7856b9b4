"""Ranges of scenario fields, and global measures of the optimal bound over them."""

import dataclasses
import json
import re
import types

import jax
import numpy as np
import pytest

from jaxedge import presets
from jaxedge.answers.batch import STATUSES
from jaxedge.scenario.validation import validate
from jaxedge.sensitivity.gradients import value_and_grad
from jaxedge.sensitivity.over_ranges import global_sensitivity, relaxed_bounds
from jaxedge.sensitivity.ranges import load_ranges, ranges_of, scenarios_at

SMALL = validate(presets.get("small"))
RANGES = {
    "energy_budget": (200, 400),
    "server": {"max_power_dbm": (20, 30)},
    "devices.gain": {"low": 0.5, "high": 2.0, "distribution": "log-uniform", "relative": True},
    "learning.initial_gap": {
        "low": 1.0,
        "high": 4.0,
        "distribution": "normal",
        "mean": 2.0,
        "std": 1.0,
    },
}


@pytest.fixture(scope="module")
def slopes():
    return global_sensitivity(SMALL, RANGES, method="derivative", samples=64)


def test_ranges_are_read_with_their_units(tmp_path):
    path = tmp_path / "ranges.toml"
    path.write_text(
        "energy_budget = [200, 400]\n"
        "[server]\nmax_power_dbm = [20, 30]\n"
        "[devices]\n"
        'gain = {low = 0.5, high = 2.0, distribution = "log-uniform", relative = true}\n'
        "[learning]\n"
        'initial_gap = {low = 1, high = 4, distribution = "normal", mean = 2, std = 1}\n'
    )
    assert load_ranges(path) == ranges_of(RANGES)
    assert [item.symbol for item in ranges_of(RANGES)] == ["J", "dBm", "x", "1"]


def test_values_have_their_distribution_and_slopes_are_its_derivative():
    shares = np.linspace(0.01, 0.99, 99)
    for item in ranges_of(RANGES):
        values = item.values(shares)
        step = 1e-6
        difference = (item.values(shares + step) - item.values(shares - step)) / (2 * step)
        np.testing.assert_allclose(item.slopes(values), difference, rtol=1e-5)
        width = 1e-6 * (item.high - item.low)
        difference = (item.to_si(values + width) - item.to_si(values - width)) / (2 * width)
        np.testing.assert_allclose(item.si_slopes(values), difference, rtol=1e-5)
        ends = item.values(np.array([0.0, 1.0]))
        np.testing.assert_allclose(ends, [item.low, item.high], rtol=1e-12)
    by_name = {item.key: item.values(np.array(0.5)) for item in ranges_of(RANGES)}
    assert by_name["energy_budget"] == pytest.approx(300)
    assert by_name["devices.gain"] == pytest.approx(1)  # the geometric mean of 0.5 and 2


def test_scenarios_hold_the_values_in_si_units():
    values = np.array([[250.0, 20.0, 2.0, 3.0], [300.0, 30.0, 0.5, 2.0]])
    made = scenarios_at(SMALL, ranges_of(RANGES), values)
    np.testing.assert_allclose(made.energy_budget, [250, 300])
    np.testing.assert_allclose(made.server.max_power, [0.1, 1.0])
    np.testing.assert_allclose(made.devices.gain, np.outer([2.0, 0.5], SMALL.devices.gain))
    np.testing.assert_allclose(made.learning.initial_gap, [3, 2])
    assert made.devices.max_power is SMALL.devices.max_power
    absolute = ranges_of({"devices.gain_db": (-110, -100)})
    np.testing.assert_allclose(
        scenarios_at(SMALL, absolute, np.array([[-110.0]])).devices.gain, np.full((1, 3), 1e-11)
    )


def test_gradients_along_ranges_are_differences_of_the_optimal_bound(slopes):
    """The mean squared gradient of one point is that of central differences."""
    ranges = ranges_of(RANGES)
    point = np.array([300.0, 25.0, 1.2, 2.0])
    step = 1e-3 * np.abs(point)
    ends = np.concatenate([point + np.diag(step), point - np.diag(step)])
    ends = np.tile(ends, (8, 1))  # of the fixture's shape, which is compiled
    above, below = np.split(value_and_grad(scenarios_at(SMALL, ranges, ends))[0][:8], 2)
    expected = (above - below) / (2 * step)
    narrow = {
        item.key: {"low": x * (1 - 1e-9), "high": x * (1 + 1e-9), "relative": item.relative}
        for item, x in zip(ranges, point, strict=True)
    }
    found = global_sensitivity(SMALL, narrow, method="derivative", samples=64)
    squared = found.measures["mean_squared_gradient"].estimate
    np.testing.assert_allclose(np.sqrt(squared), np.abs(expected), rtol=2e-4, atol=1e-9)


def test_total_indices_are_below_their_bounds(slopes):
    indices = global_sensitivity(SMALL, RANGES, samples=64)
    total = indices.measures["total_order"].estimate
    assert np.all(slopes.measures["total_order_bound"].high > total)
    assert indices.evaluations == 64 * 6
    assert indices.ranges[indices.ranking[0]].key == "learning.initial_gap"
    assert indices.infeasible_share == 0


def test_answers_are_ranked_tables_and_json(slopes):
    told = json.loads(json.dumps(slopes.to_dict(), allow_nan=False))
    ranked = [item["parameter"] for item in told["parameters"]]
    assert ranked == [slopes.ranges[i].key for i in slopes.ranking]
    estimates = [item["measures"]["total_order_bound"]["estimate"] for item in told["parameters"]]
    assert estimates == sorted(estimates, reverse=True)
    lines = str(slopes).splitlines()
    assert lines[0].split()[:4] == ["parameter", "from", "to", "unit"]
    assert lines[0].endswith("mean squared gradient")
    assert [line.split()[0] for line in lines[1:5]] == ranked
    assert "derivative, 64 samples, seed 0: 64 optimal bounds (relaxed)" in " ".join(lines[6:])


def known(scenarios):
    """Stands in for the optimal bound: infeasible below 250 J."""
    energy = np.asarray(scenarios.energy_budget)
    bounds = np.where(energy < 250, np.nan, energy * np.asarray(scenarios.delay_budget))
    return bounds, energy < 250


def test_infeasible_designs_are_refused_or_counted_as_said():
    ranges = {"energy_budget": (200, 400), "delay_budget": (1, 2)}
    with pytest.raises(ValueError, match=r"of 256 designs \(2[456]\.\d %\).* infeasible_as"):
        global_sensitivity(SMALL, ranges, samples=64, evaluate=known)
    found = global_sensitivity(SMALL, ranges, samples=64, evaluate=known, infeasible_as=1e3)
    assert found.infeasible_share == pytest.approx(0.25, abs=0.02)
    # V of f = g(energy) * delay, g = 1000/delay or energy... by brute force on a grid.
    energy, delay = np.meshgrid(np.linspace(200, 400, 2001), np.linspace(1, 2, 401))
    values = np.where(energy < 250, 1e3, energy * delay)
    exact = values.mean(axis=0).var() / values.var()
    assert found.measures["first_order"].low[0] < exact < found.measures["first_order"].high[0]
    assert "infeasible, counted as 1,000" in str(found)


def test_uncertified_bounds_are_never_averaged():
    def failing(scenarios):
        bounds = np.ones(len(scenarios.energy_budget))
        bounds[3] = np.nan
        return bounds, np.zeros(len(bounds), bool)

    ranges = {"energy_budget": (200, 400), "delay_budget": (100, 200)}
    for value in (None, 1.0):
        with pytest.raises(ValueError, match=r"1 of 64 designs .* infeasible or not certified"):
            global_sensitivity(SMALL, ranges, samples=16, evaluate=failing, infeasible_as=value)


def test_what_one_solver_fails_on_another_is_asked(monkeypatch):
    energies = np.array([300.0, 400.0, 500.0])
    batch = jax.tree.map(lambda leaf: np.stack([leaf] * 3), SMALL)
    asked = []

    def answers(scenarios, *, relaxed, solver=None):
        asked.append(np.asarray(scenarios.energy_budget).tolist())
        codes = np.array([0, 3, 2] if solver is None else [0])
        bounds = np.where(codes == 0, scenarios.energy_budget, np.nan)
        return types.SimpleNamespace(bound=bounds, is_=lambda s: codes == STATUSES.index(s))

    monkeypatch.setattr("jaxedge.sensitivity.over_ranges.plan_batch", answers)
    bounds, infeasible = relaxed_bounds(dataclasses.replace(batch, energy_budget=energies))
    assert asked == [[300, 400, 500], [400]]
    np.testing.assert_array_equal(bounds, [300, 400, np.nan])
    assert list(infeasible) == [False, False, True]


def test_infeasible_scenarios_are_told_from_others():
    count = 384  # of the shape that is compiled
    energy = np.where(np.arange(count) % 2, 300.0, 1e-9)
    batch = jax.tree.map(lambda leaf: np.stack([leaf] * count), SMALL)
    bounds, infeasible = relaxed_bounds(dataclasses.replace(batch, energy_budget=energy))
    np.testing.assert_array_equal(infeasible, energy < 1)
    np.testing.assert_array_equal(np.isnan(bounds), energy < 1)
    with pytest.raises(ValueError, match="infeasible or not certified"):
        global_sensitivity(SMALL, {"energy_budget": (1e-9, 1e-8)}, method="derivative", samples=64)


def one_to_two(key="energy_budget", **options):
    return {key: {"low": 1, "high": 2, **options}}


BAD = [
    ({}, "ranges: there is none"),
    ({"energy_buget": (1, 2)}, "unknown key 'energy_buget' at the top level: did you mean"),
    ({"sever.max_power": (1, 2)}, "unknown section 'sever'"),
    ({"server": {"max_powr": (1, 2)}}, "did you mean max_power?"),
    ({"energy_budget": (2, 2)}, "energy_budget: low = 2 J must be below high = 2 J"),
    ({"energy_budget_kj": (3, 2)}, "energy_budget_kj: low = 3 kJ must be below high = 2 kJ"),
    ({"energy_budget": (-1, 2)}, "energy_budget = -1.0 J must be a finite number > 0"),
    ({"energy_budget": (1, float("inf"))}, "energy_budget: high = inf must be a finite number"),
    ({"energy_budget": (1, "2")}, "energy_budget: high = '2' must be a finite number"),
    ({"energy_budget": 3}, "energy_budget = 3: a range is [low, high] or a table"),
    ({"energy_budget": {"low": 1}}, "energy_budget: high missing"),
    (one_to_two(hihg=2), "did you mean high?"),
    (one_to_two(distribution="unifrm"), "did you mean uniform?"),
    (one_to_two(distribution="normal"), "mean and std go with"),
    (one_to_two(mean=1, std=1), "mean and std go with"),
    (one_to_two(distribution="normal", mean=1, std=0), "std = 0 J must be > 0"),
    (one_to_two(relative=1), "relative = 1 must be true or false"),
    (
        one_to_two("server.max_power_dbm", relative=True),
        "factors have no unit; write server.max_power",
    ),
    (
        one_to_two("server.max_power_dbm", low=-1, distribution="log-uniform"),
        "low = -1 dBm must be > 0",
    ),
    (
        {"energy_budget": (1, 2), "energy_budget_kj": (1, 2)},
        "given twice, as energy_budget and as energy_budget_kj",
    ),
    ({"server.min_batch": (1, 2)}, "server.min_batch holds whole numbers"),
    ({"learning.device_weight": (0.1, 0.2)}, "learning.device_weight must sum to 1"),
]


@pytest.mark.parametrize(("ranges", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_ranges_are_explained(ranges, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ranges_of(ranges)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "sobl"}, "unknown method 'sobl': did you mean sobol?"),
        ({"samples": 100}, "samples = 100: must be a power of two, such as 128"),
        ({"samples": 2.0}, "samples = 2.0: must be a whole number"),
        ({"seed": -1}, "seed = -1: must be a whole number >= 0"),
        ({"infeasible_as": -1.0}, "infeasible_as = -1.0: must be a finite bound > 0"),
        ({"infeasible_as": 1.0, "method": "derivative"}, "derivatives do not see jumps"),
    ],
)
def test_bad_options_are_explained(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        global_sensitivity(SMALL, RANGES, evaluate=known, **options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: No such file"),
        ("a = ", "ranges.toml: "),
        ("energy_budget = [2, 1]", "ranges.toml: energy_budget: low = 2 J must be below"),
    ],
)
def test_bad_files_of_ranges_are_named(tmp_path, text, message):
    path = tmp_path / "ranges.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        load_ranges(path)
