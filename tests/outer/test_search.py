"""The search over pre-training rounds, and the bounds that certify it over all of them."""

import dataclasses
import functools
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import presets, sampling
from jaxedge.bounds.fine_tuning import FineTuning, fine_tuning_program, floor_decay
from jaxedge.bounds.spans import Span, span_bound
from jaxedge.outer import search as searching
from jaxedge.outer.search import Task
from jaxedge.outer.selection import PROMISING
from jaxedge.program.certificates import lower_bound
from jaxedge.program.program import with_batches
from jaxedge.program.responses import Prices
from jaxedge.relaxation.cheapest import cheapest
from jaxedge.relaxation.driver import solve_relaxed
from jaxedge.scenario.files import from_tree
from jaxedge.scenario.stacking import unstack
from jaxedge.scenario.validation import validate
from tests.plain_dual import fine_tuning_lower_bound
from tests.random_cases import random_scenario

GAP = 1e-6


def search(scenario, *, integer, restrict=None):
    task = Task(bound=FineTuning(), scenario=scenario, integer=integer, gap=GAP, restrict=restrict)
    return searching.search(task)


@jax.jit
def _programs(scenario, rounds):
    return jax.vmap(functools.partial(fine_tuning_program, scenario))(rounds)


@functools.partial(jax.jit, static_argnames="integer")
def _bound(scenario, first, last, prices, integer):
    ends = fine_tuning_program(scenario, first), fine_tuning_program(scenario, last)
    return span_bound(floor_decay(scenario), Span(first, last, *ends), prices, integer=integer)


def _varied(scenario, *, task=None, **fields):
    learning = dataclasses.replace(scenario.learning, **(task or {}))
    return validate(dataclasses.replace(scenario, learning=learning, **fields))


def _solved(scenario, rounds, restrict=None):
    """Values and lower bounds at the given rounds, solved 32 at a time as the search does."""
    values, bounds = [], []
    for part in np.resize(rounds, -(-len(rounds) // 32) * 32).reshape(-1, 32):
        programs = _programs(scenario, part)
        programs = programs if restrict is None else jax.vmap(restrict)(programs)
        noise = jnp.maximum(programs.server.variance, 1e-30)  # the solver needs some
        server = dataclasses.replace(programs.server, variance=noise)
        ready = dataclasses.replace(programs, server=server)
        relaxed = solve_relaxed(ready, gap=1e-9, attempts=1)
        values.append(relaxed.design.value * np.asarray(programs.scale))
        bounds.append(relaxed.lower_bound * np.asarray(programs.scale))
    return np.concatenate(values)[: len(rounds)], np.concatenate(bounds)[: len(rounds)]


def _scan(scenario, *, integer=False, restrict=None):
    """Values and lower bounds over five decades of rounds."""
    least = float(scenario.min_pretraining_rounds)
    rounds = np.expm1(np.linspace(np.log1p(least), np.log1p(least + 1e5), 256))
    rounds[0] = max(least, 1e-6)  # the solver needs a server that costs something
    rounds = np.maximum(np.round(rounds), 1.0) if integer else rounds
    return _solved(scenario, rounds, restrict)


def _random_prices(rng, scenario, size):
    """Prices per budget in original units, of the size of the bound's numerator."""
    weight = np.exp(rng.normal(size=size + 1)) * rng.choice([0.0, 1.0], size + 1, p=[0.1, 0.9])
    task = scenario.learning
    scale = 2 * task.initial_gap / task.device_learning_rate
    weight = scale * np.exp(rng.normal()) * weight / (size + 1)
    return Prices(energy=jnp.asarray(weight[0]), device_time=jnp.asarray(weight[1:]))


def test_reference_optima_are_reached_at_their_rounds(data_dir):
    cases = json.loads((data_dir / "fine_tuning.json").read_text())["cases"]
    for case in cases:
        scenario = validate(from_tree(case["scenario"]))
        given = case["at_fixed_pretraining_rounds"]
        rounds = np.array([float(item["pretraining_rounds"]) for item in given])
        optima = np.array([item["dual_bound"] for item in given])
        values, bounds = _solved(scenario, rounds)
        np.testing.assert_allclose(values, optima, rtol=1e-6)
        assert np.all(bounds <= optima * (1 + 1e-8))
        assert np.all(bounds >= optima * (1 - GAP))


@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize("seed", range(24))
def test_a_span_is_bounded_below_its_rounds_at_the_same_prices(seed, integer):
    """The judge at single rounds is the plain one, which shares no code."""
    rng = np.random.default_rng(seed)
    size = (1, 3)[seed % 2]
    scenario = validate(random_scenario(rng, size))
    prices = _random_prices(rng, scenario, size)
    plain = [
        float(prices.energy / scenario.energy_budget),
        [float(price / scenario.delay_budget) for price in prices.device_time],
    ]
    first, last = np.sort(np.exp(rng.uniform(0, 9, 2))) - (seed % 3 == 0)
    found = float(_bound(scenario, first, last, prices, integer))
    for rounds in np.linspace(first, last, 9):
        at_rounds = fine_tuning_lower_bound(scenario, rounds, *plain, integer=integer)
        assert found <= at_rounds + 1e-9 * abs(at_rounds)
        alone = float(_bound(scenario, rounds, rounds, prices, integer))
        np.testing.assert_allclose(alone, at_rounds, rtol=1e-8)


def test_a_single_round_is_bounded_as_its_program(scenario):
    rounds = np.array([1.0, 30.0, 2000.0])
    programs = _programs(scenario, rounds)
    relaxed = solve_relaxed(programs)
    for i, rounds_i in enumerate(rounds):
        program, prices = jax.tree.map(lambda x, i=i: x[i], (programs, relaxed.prices))
        absolute = jax.tree.map(lambda x, s=program.scale: x * s, prices)
        for integer in (False, True):
            expected = lower_bound(program, prices, integer=integer) * program.scale
            found = _bound(scenario, rounds_i, rounds_i, absolute, integer)
            np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("broken", [-1.0, np.nan, np.inf])
def test_prices_that_are_no_prices_bound_nothing(scenario, broken):
    prices = Prices(energy=jnp.asarray(broken), device_time=jnp.ones(len(scenario.devices.gain)))
    assert float(_bound(scenario, 1.0, 2.0, prices, False)) == -np.inf


def _cases():
    default = presets.get("default")
    full_step = {"pl_constant": 10.0, "server_learning_rate": 0.1}  # mu eta0 = 1
    return {
        "default": default,
        "finetuning-wins": presets.get("finetuning-wins"),
        "pretraining-wins": presets.get("pretraining-wins"),
        "no discrepancy": _varied(default, task={"discrepancy": 0.0}),
        "huge discrepancy": _varied(default, task={"discrepancy": 1e3}),
        "many rounds required": _varied(default, min_pretraining_rounds=5000),
        "no rounds required": _varied(default, min_pretraining_rounds=0),
        "best without": _varied(default, task={"discrepancy": 10.0}, min_pretraining_rounds=0),
        "one step forgets the start": _varied(default, task=full_step),
        "no server noise": _varied(default, task={"server_variance": 0.0}),
        "little energy": _varied(default, energy_budget=5.0),
        "many fine-tuning rounds required": _varied(default, min_finetuning_rounds=1900),
    }


@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize("name", _cases())
def test_the_search_finds_the_least_of_a_dense_scan(name, integer):
    scenario = _cases()[name]
    found = search(scenario, integer=integer)
    values, bounds = _scan(scenario, integer=integer)
    assert found.bound <= values.min() * (1 + GAP)
    assert found.gap <= GAP
    assert found.relaxed.gap[0] <= GAP
    if not integer:
        certified = bounds >= values * (1 - GAP)
        assert certified.any()
        assert np.all(found.lower_bound <= values[certified] * (1 + 1e-9))
    assert found.outer[:, 0][0] >= scenario.min_pretraining_rounds
    assert len(found.outer[:, 0]) <= PROMISING
    assert len(set(found.outer[:, 0])) == len(found.outer[:, 0])
    if integer:
        assert np.all(found.outer[:, 0] == np.round(found.outer[:, 0]))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("huge discrepancy", 1.0),
        ("many rounds required", 5000.0),
        ("best without", 0.0),
        ("one step forgets the start", 1.0),
    ],
)
def test_pretraining_that_does_not_pay_is_as_short_as_allowed(name, expected):
    assert search(_cases()[name], integer=True).outer[0, 0] == expected


@pytest.mark.every_python
def test_whole_rounds_lose_little_and_are_settled_to_the_integer():
    scenario = presets.get("default")
    real, whole = (search(scenario, integer=integer) for integer in (False, True))
    assert real.lower_bound <= whole.bound <= real.bound * (1 + 1e-6)
    rounds = np.arange(whole.outer[:, 0][0] - 16, whole.outer[:, 0][0] + 16)
    values, _ = _solved(scenario, rounds)
    assert whole.bound <= values.min() * (1 + GAP)
    assert whole.lower_bound > real.bound  # whole batches cost something


@pytest.mark.parametrize("tightness", [0.0, 0.9])
def test_no_rounds_are_below_the_lower_bound(tightness):
    batch = sampling.sample_batch(jax.random.PRNGKey(3), 6, 10, tightness=tightness)
    feasible = 0
    for scenario in unstack(batch):
        found = search(scenario, integer=False)
        values, _ = _scan(scenario)
        assert np.all(found.lower_bound <= values * (1 + 1e-9))
        if np.isfinite(values).any():
            feasible += 1
            assert found.gap <= GAP
            assert found.bound <= values.min() * (1 + GAP)
    assert feasible >= 3


def _tiny(seed):
    scenario = sampling.sample(jax.random.PRNGKey(seed), 1, tightness=0.75)
    server = dataclasses.replace(scenario.server, max_batch=3)
    devices = dataclasses.replace(scenario.devices, max_batch=3)
    return validate(dataclasses.replace(scenario, server=server, devices=devices))


@jax.jit
def _enumerated(program, finetuning_rounds, server_batch, device_batch):
    def one(n, b0, b):
        answer = cheapest(program, jnp.ones_like(n), n, b0, b[None])
        return jnp.where(answer.fits, answer.design.value * program.scale, jnp.inf)

    return jax.vmap(one)(finetuning_rounds, server_batch, device_batch)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.slow
def test_whole_designs_are_not_below_the_lower_bound(seed):
    """Brute force over all rounds and batches, each with the least energy."""
    scenario = _tiny(seed)
    found = search(scenario, integer=True)
    grid = itertools.product(np.arange(1.0, 65.0), np.arange(1.0, 4.0), np.arange(1.0, 4.0))
    grid = [jnp.asarray(column) for column in zip(*grid, strict=True)]
    least = min(
        float(_enumerated(fine_tuning_program(scenario, jnp.asarray(m)), *grid).min())
        for m in np.arange(1.0, 65.0)
    )
    assert found.lower_bound <= least * (1 + 1e-9)


def test_restrictions_apply_at_every_round():
    scenario = presets.get("default")
    batch = jnp.full(10, 4.0)

    def restrict(program):
        return with_batches(program, jnp.asarray(7.0), batch)

    found = search(scenario, integer=False, restrict=restrict)
    values, _ = _scan(scenario, restrict=restrict)
    assert found.bound <= values.min() * (1 + GAP)
    assert found.lower_bound <= values.min()
    assert found.gap <= GAP
    assert found.bound > search(scenario, integer=False).bound
    np.testing.assert_array_equal(found.relaxed.design.server_batch, 7.0)
    np.testing.assert_array_equal(found.programs.devices.max_batch, 4.0)


def test_work_is_bounded_and_the_gap_says_what_was_reached(monkeypatch):
    monkeypatch.setattr(searching, "_MAX_POINTS", 1)
    scenario = presets.get("default")
    cut = search(scenario, integer=False)
    monkeypatch.undo()
    full = search(scenario, integer=False)
    assert cut.gap > GAP
    assert cut.lower_bound < full.lower_bound < full.bound < cut.bound


def test_few_points_certify_all_rounds(monkeypatch):
    """Pieces lose at second order in their length: at first order thousands would be needed."""
    monkeypatch.setattr(searching, "_MAX_POINTS", 128)
    assert search(presets.get("default"), integer=False).gap <= GAP


@pytest.mark.slow
def test_an_infeasible_scenario_has_no_bound():
    found = search(_varied(presets.get("default"), delay_budget=1e-3), integer=True)
    assert found.bound == np.inf
    assert found.gap == np.inf
    assert len(found.outer[:, 0]) == 1
