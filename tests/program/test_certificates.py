"""Lower bounds hold whatever the prices, and are what the formulas say."""

import dataclasses
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.bounds.batches import programs_of_each
from jaxedge.bounds.formulation import allocation_of
from jaxedge.bounds.two_stage import TwoStage
from jaxedge.machine.chunks import BatchLast, in_chunks
from jaxedge.machine.trees import take
from jaxedge.program.certificates import lower_bound
from jaxedge.program.design import recover
from jaxedge.program.program import Rounds, with_rounds
from jaxedge.program.responses import Prices
from jaxedge.relaxation.cheapest import cheapest_of_each, fewest
from jaxedge.relaxation.driver import solve_relaxed
from jaxedge.scenario.sampling import sample_batch
from jaxedge.scenario.stacking import unstack
from tests.enumeration import designs, exact_optimum
from tests.plain_dual import two_stage_lower_bound
from tests.plain_model import broken_limits, plain, two_stage_bound

COUNT, TRIALS = 12, 16
NOISES = np.repeat([1e-7, 1e-2, 0.3, 3.0], TRIALS // 4)
"""Spread of the logarithms of prices about the optimum's: near, where bounds are sharp, and far."""


@cache
def solved(devices):
    """Scenarios, programs and relaxed answers."""
    drawn = sample_batch(jax.random.key(devices), COUNT, devices, tightness=0.3)
    programs = in_chunks(programs_of_each(TwoStage()), drawn)
    return drawn, programs, solve_relaxed(programs)


def perturbed(rng, prices):
    """(TRIALS, batch, ...) prices about those of a batch, now and then one of them zero."""

    def noisy(x):
        shape = (TRIALS, *x.shape)
        noise = NOISES.reshape(-1, *[1] * x.ndim) * rng.normal(size=shape)
        return x[None] * np.exp(noise) * (rng.random(shape) > 0.05)

    return jax.tree.map(noisy, prices)


@jax.jit
def _bounds(programs, prices):
    both = [jax.vmap(lambda p, v, w=w: lower_bound(p, v, integer=w)) for w in (False, True)]
    return [jax.vmap(fn, (None, 0))(programs, prices) for fn in both]


@jax.jit
def _allocations(scenarios, programs, prices):
    """(TRIALS, batch, ...) designs that perturbed prices point to, in original units."""

    def one(scenario, program, at):
        design = recover(program, at)
        return allocation_of(scenario, program, design), design.value

    return jax.vmap(jax.vmap(one), (None, None, 0))(scenarios, programs, prices)


def element(tree, *index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


@pytest.mark.parametrize("devices", [1, 4])
def test_no_prices_bound_above_any_feasible_design(devices):
    """Designs are judged by the plain model in original units, which shares no code."""
    scenarios, programs, relaxed = solved(devices)
    rng = np.random.default_rng(devices)
    bounds = np.asarray(_bounds(programs, perturbed(rng, relaxed.prices))[0]) * programs.scale
    allocations, values = jax.tree.map(
        np.asarray, _allocations(scenarios, programs, perturbed(rng, relaxed.prices))
    )
    least = np.full(COUNT, np.inf)
    for i, scenario in enumerate(unstack(scenarios)):
        for j in range(TRIALS):
            if not np.isfinite(values[j, i]):
                continue
            design = plain(element(allocations, j, i))
            assert broken_limits(scenario, design, integer=False, tolerance=1e-9) == []
            least[i] = min(least[i], two_stage_bound(plain(scenario), design))
    assert np.isfinite(least).all()
    assert np.all(bounds <= least * (1 + 1e-9))
    # Near the optimum both are sharp: a bound that is too high by a part in 1e4 would be seen.
    assert np.all(bounds.max(axis=0) >= least * (1 - 1e-4))


@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize("devices", [1, 4])
def test_bounds_are_those_of_the_plain_dual(devices, integer):
    scenarios, programs, relaxed = solved(devices)
    prices = perturbed(np.random.default_rng(devices), relaxed.prices)
    found = np.asarray(_bounds(programs, prices)[integer]) * programs.scale
    for i, scenario in enumerate(unstack(scenarios)):
        for j in range(0, TRIALS, 2):
            lam = float(prices.energy[j, i] * programs.scale[i] / scenario.energy_budget)
            nus = np.asarray(prices.device_time[j, i]) * programs.scale[i] / scenario.delay_budget
            if np.any(nus == 0):
                continue  # the plain dual has no limit there
            expected = two_stage_lower_bound(scenario, lam, nus.tolist(), integer=integer)
            assert found[j, i] == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_whole_batches_raise_the_bound():
    _, programs, relaxed = solved(4)
    real, whole = _bounds(programs, perturbed(np.random.default_rng(0), relaxed.prices))
    assert np.all(whole >= real - 1e-12 * np.abs(real))
    assert np.mean(whole > real + 1e-9 * np.abs(real)) > 0.5


def test_bounds_scale_with_the_objective_and_the_prices():
    _, programs, relaxed = solved(4)
    prices = perturbed(np.random.default_rng(1), relaxed.prices)

    def grown(part):
        return dataclasses.replace(part, variance=8 * part.variance)

    larger = dataclasses.replace(
        programs,
        gap=8 * programs.gap,
        floor=8 * programs.floor,
        server=grown(programs.server),
        devices=grown(programs.devices),
    )
    for one, eight in zip(
        _bounds(programs, prices),
        _bounds(larger, jax.tree.map(lambda x: 8 * x, prices)),
        strict=True,
    ):
        np.testing.assert_allclose(eight, 8 * one, rtol=1e-12)


def test_the_bound_is_concave_in_the_prices():
    _, programs, relaxed = solved(4)
    rng = np.random.default_rng(2)
    first, second = perturbed(rng, relaxed.prices), perturbed(rng, relaxed.prices)
    middle = jax.tree.map(lambda a, b: (a + b) / 2, first, second)
    for a, b, m in zip(*(_bounds(programs, at) for at in (first, second, middle)), strict=True):
        assert np.all(m >= (a + b) / 2 - 1e-12 * (np.abs(a) + np.abs(b)))


def test_a_batch_may_trail_the_axes():
    """As the solvers have it: () and (K,) of one program are (B,) and (K, B)."""
    _, programs, relaxed = solved(4)
    prices = take(perturbed(np.random.default_rng(5), relaxed.prices), 0)
    some = np.arange(COUNT) % 3
    prices = dataclasses.replace(
        prices,
        energy=np.where(some == 0, -1.0, prices.energy),
        device_time=np.where(some[:, None] * np.eye(4)[0] == 1, -1.0, prices.device_time),
    )
    expected = jax.vmap(partial(lower_bound, integer=False))(programs, prices)
    assert np.isfinite(expected).sum() == (some == 2).sum()
    np.testing.assert_allclose(BatchLast(jax.jit(lower_bound))(programs, prices), expected)


@pytest.mark.parametrize("broken", [-1e-12, -1.0, np.nan, np.inf, -np.inf])
def test_prices_that_are_no_prices_bound_nothing(broken):
    _, programs, relaxed = solved(4)
    good = perturbed(np.random.default_rng(4), relaxed.prices)
    some = np.array(good.device_time)
    some[:, :, 1] = broken
    for bad in (
        dataclasses.replace(good, energy=np.full_like(good.energy, broken)),
        dataclasses.replace(good, device_time=some),
    ):
        for bounds in _bounds(programs, bad):
            assert np.all(bounds == -np.inf)


def test_free_budgets_bound_by_what_noise_is_left():
    """At zero prices only rays count: noise at the largest batches, at the better vertex."""
    scenarios, programs, _ = solved(4)
    zero = Prices(energy=np.zeros((TRIALS, COUNT)), device_time=np.zeros((TRIALS, COUNT, 4)))
    found = np.asarray(_bounds(programs, zero)[0])[0] * programs.scale
    for i, scenario in enumerate(unstack(scenarios)):
        expected = two_stage_lower_bound(scenario, 0.0, [0.0] * 4)
        assert found[i] == pytest.approx(expected, rel=1e-9)


LARGEST_BATCH, DRAWN, MOST_ROUNDS = 3, 16, 12.5


@cache
def tiny(devices, tied):
    """Feasible programs of few rounds and batches, with the best of all their whole designs."""
    drawn = sample_batch(jax.random.key(9), DRAWN, devices, tightness=0.9)
    server, clock = drawn.server, drawn.server.max_clock
    cycles = drawn.delay_budget * clock / MOST_ROUNDS
    # Flat out all the time, the server would take a third of the energy.
    capacitance = drawn.energy_budget / (3 * MOST_ROUNDS * cycles * clock**2)
    drawn = dataclasses.replace(
        drawn,
        server=dataclasses.replace(
            server,
            cycles_per_sample=cycles,
            capacitance=capacitance,
            max_batch=np.full(DRAWN, 1.0 * LARGEST_BATCH),
        ),
        devices=dataclasses.replace(
            drawn.devices, max_batch=np.full((DRAWN, devices), 1.0 * LARGEST_BATCH)
        ),
    )
    programs = in_chunks(programs_of_each(TwoStage()), drawn)
    if tied:
        programs = jax.tree.map(np.asarray, jax.vmap(_tie)(programs))
    least = in_chunks(cheapest_of_each, programs, *fewest(programs))
    programs = take(programs, np.flatnonzero(least.fits))
    kind, kept, best = "tied" if tied else "two-stage", [], []
    for i in range(len(programs.gap)):
        points = designs(element(programs, i), kind, LARGEST_BATCH)
        if len(points) <= 10_000:
            kept.append(i)
            best.append(exact_optimum(element(programs, i), points))
    return take(programs, np.array(kept)), np.array(best)


def _tie(program):
    rounds: Rounds = program.rounds
    return with_rounds(program, dataclasses.replace(rounds, tied=jnp.ones_like(rounds.tied)))


@pytest.mark.parametrize(("devices", "tied"), [(1, False), (2, True)])
def test_no_prices_bound_above_the_best_of_all_whole_designs(devices, tied):
    programs, best = tiny(devices, tied)
    assert len(best) >= 6
    assert np.isfinite(best).all()
    relaxed = solve_relaxed(programs)
    real, whole = _bounds(programs, perturbed(np.random.default_rng(3), relaxed.prices))
    assert np.all(whole <= best[None] * (1 + 1e-12))
    assert np.all(real <= whole + 1e-12)
    # Not for want of trying: the whole bound comes close to the best design.
    assert np.median(whole.max(axis=0) / best) > 0.7
