"""Integer designs: whole, legal in original units, at a local optimum, near the best of all."""

import dataclasses
from functools import cache

import jax
import numpy as np
import pytest

from jaxedge.cheapest import cheapest_of_each, fewest
from jaxedge.chunks import in_chunks, take
from jaxedge.designs import programs_of_each
from jaxedge.driver import solve_relaxed
from jaxedge.formulation import allocation_of
from jaxedge.integers import (
    Batches,
    best_batches,
    floored,
    integer_prices,
    objective,
    solve_batches,
    solve_integer,
)
from jaxedge.program import with_rounds
from jaxedge.sampling import sample_batch
from jaxedge.stacking import unstack
from tests.enumeration import designs, exact_optimum
from tests.plain_model import broken_limits, plain, two_stage_bound

COUNT = 24
CANDIDATE_GAP = 1e-5
"""Certified gap of a solution with fixed batches, to which moves are compared."""


@cache
def sampled(devices, tightness):
    """Feasible scenarios with their programs."""
    drawn = sample_batch(jax.random.key(31), COUNT, devices, tightness=tightness)
    programs = in_chunks(programs_of_each, drawn)
    least = in_chunks(cheapest_of_each, programs, *fewest(programs))
    feasible = np.flatnonzero(least.fits)
    return take(drawn, feasible), take(programs, feasible)


@cache
def solved(devices, tightness):
    """Relaxed answers, and integer designs."""
    programs = sampled(devices, tightness)[1]
    relaxed = solve_relaxed(programs)
    return relaxed, solve_integer(programs, relaxed)


CASES = [(devices, tightness) for devices in (1, 4) for tightness in (0.0, 0.8)]
_allocations = jax.jit(jax.vmap(allocation_of))


@pytest.mark.parametrize(("devices", "tightness"), CASES)
def test_designs_are_whole_and_legal_in_original_units(devices, tightness):
    scenarios, programs = sampled(devices, tightness)
    whole = solved(devices, tightness)[1]
    found = np.isfinite(whole.design.value)
    assert found.mean() > 0.9
    allocations = in_chunks(_allocations, scenarios, programs, whole.design)
    for i in np.flatnonzero(found):
        scenario, design = plain(take(scenarios, i)), plain(take(allocations, i))
        assert broken_limits(scenario, design, integer=True, tolerance=1e-9) == []
        value = whole.design.value[i] * programs.scale[i]
        assert two_stage_bound(scenario, design) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize(("devices", "tightness"), CASES)
def test_bounds_are_in_order(devices, tightness):
    relaxed, whole = solved(devices, tightness)
    assert np.all(relaxed.lower_bound <= whole.lower_bound)
    assert np.all(whole.lower_bound <= whole.design.value)


def test_loose_budgets_leave_small_gaps():
    whole = solved(4, 0.0)[1]
    gap = whole.design.value / whole.lower_bound - 1
    assert np.median(gap) < 2e-3
    assert np.max(gap) < 0.05


@pytest.mark.parametrize(("devices", "tightness"), CASES)
def test_no_single_move_of_a_batch_helps(devices, tightness):
    programs, relaxed = sampled(devices, tightness)[1], solved(devices, tightness)[0]
    prices, _ = in_chunks(integer_prices, programs, relaxed.prices)
    best = best_batches(programs, relaxed, prices)
    for k in range(-1, devices):
        for by in (-1.0, 1.0):
            server = best.batches.server + by * (k < 0)
            moved = best.batches.devices + by * (np.arange(devices) == k)[None]
            inside = (server >= programs.server.min_batch) & (server <= programs.server.max_batch)
            low, high = programs.devices.min_batch, programs.devices.max_batch
            inside &= np.all((moved >= low) & (moved <= high), axis=1)
            some = np.flatnonzero(inside)
            there = solve_batches(
                take(programs, some), take(Batches(server=server, devices=moved), some)
            )
            now = best.answer.design.value[some]
            assert np.all(there.answer.design.value >= now * (1 - CANDIDATE_GAP))


def test_fixed_batches_are_kept_and_certified():
    programs = sampled(4, 0.0)[1]
    relaxed = solved(4, 0.0)[0]
    ceiling = Batches(
        server=np.ceil(relaxed.design.server_batch), devices=np.ceil(relaxed.design.device_batch)
    )
    fixed = solve_batches(programs, ceiling)
    np.testing.assert_array_equal(fixed.answer.design.server_batch, ceiling.server)
    np.testing.assert_array_equal(fixed.answer.design.device_batch, ceiling.devices)
    assert np.all(fixed.answer.gap <= CANDIDATE_GAP)
    assert np.all(fixed.answer.design.value >= relaxed.lower_bound)


def test_flooring_rounds_spends_no_more():
    scenarios, programs = sampled(4, 0.0)
    relaxed = solved(4, 0.0)[0]
    cut = in_chunks(floored, programs, relaxed.design)
    some = np.isfinite(cut.value)
    assert some.any()
    for name in ("pretraining_rounds", "finetuning_rounds"):
        lost = getattr(relaxed.design, name) - getattr(cut, name)
        assert np.all((lost >= -1e-6) & (lost < 1))
    value = jax.vmap(objective)(
        programs,
        cut.pretraining_rounds,
        cut.finetuning_rounds,
        cut.server_batch,
        cut.device_batch,
    )
    np.testing.assert_allclose(cut.value[some], np.asarray(value)[some], rtol=1e-15)
    allocations = in_chunks(_allocations, scenarios, programs, cut)
    for i, scenario in enumerate(unstack(scenarios)):
        if some[i]:
            design = take(allocations, i)
            assert broken_limits(scenario, design, integer=False, tolerance=1e-9) == []


LARGEST_BATCH, MOST_ROUNDS = 3, 12.5
DRAWN = 24


@cache
def tiny(devices, tied):
    """Feasible programs of few rounds and batches, with the best of all their whole designs."""
    drawn = sample_batch(jax.random.key(41), DRAWN, devices, tightness=0.9)
    clock = drawn.server.max_clock
    cycles = drawn.delay_budget * clock / MOST_ROUNDS
    server = dataclasses.replace(
        drawn.server,
        cycles_per_sample=cycles,
        # Flat out all the time, the server would take a third of the energy.
        capacitance=drawn.energy_budget / (3 * MOST_ROUNDS * cycles * clock**2),
        max_batch=np.full(DRAWN, 1.0 * LARGEST_BATCH),
    )
    most = np.full((DRAWN, devices), 1.0 * LARGEST_BATCH)
    drawn = dataclasses.replace(
        drawn, server=server, devices=dataclasses.replace(drawn.devices, max_batch=most)
    )
    programs = in_chunks(programs_of_each, drawn)
    if tied:
        rounds = dataclasses.replace(programs.rounds, tied=np.ones(DRAWN, bool))
        programs = jax.tree.map(np.asarray, jax.vmap(with_rounds)(programs, rounds))
    least = in_chunks(cheapest_of_each, programs, *fewest(programs))
    programs = take(programs, np.flatnonzero(least.fits))
    kept, best = [], []
    for i in range(len(programs.gap)):
        one = take(programs, np.asarray(i))
        points = designs(one, "tied" if tied else "two-stage", LARGEST_BATCH)
        if len(points) <= 10_000:
            kept.append(i)
            best.append(exact_optimum(one, points))
    return take(programs, np.array(kept)), np.array(best)


@pytest.mark.parametrize(("devices", "tied"), [(1, False), (2, False), (2, True)])
def test_tiny_designs_are_near_the_best_of_all(devices, tied):
    """Every design of a tiny program is listed: the bound is below the best, the design not."""
    programs, best = tiny(devices, tied)
    assert len(best) >= 6
    whole = solve_integer(programs, solve_relaxed(programs))
    assert np.all(whole.lower_bound <= best * (1 + 1e-12))
    assert np.all(whole.design.value >= best * (1 - 1e-12))
    found = np.isfinite(whole.design.value)
    assert found.mean() > 0.9
    if tied:
        np.testing.assert_array_equal(
            whole.design.pretraining_rounds[found], whole.design.finetuning_rounds[found]
        )
    loss = whole.design.value[found] / best[found] - 1
    assert np.median(loss) < 2e-3
    assert np.max(loss) < 0.1
