"""Integer designs: whole, legal in original units, at a local optimum, near the best of all."""

import dataclasses
from functools import cache

import jax
import numpy as np
import pytest

from jaxedge.bounds.batches import programs_of_each
from jaxedge.bounds.formulation import allocation_of
from jaxedge.bounds.two_stage import TwoStage
from jaxedge.integers.local_search import (
    Batches,
    Candidate,
    best_batches,
    best_of,
    first_candidates,
    flat,
    floored,
    integer_prices,
    neighbouring_rounds,
    promising_moves,
    solve_batches,
    solve_integer,
    spread,
    whole_rounds,
)
from jaxedge.machine.chunks import in_chunks
from jaxedge.machine.trees import take
from jaxedge.program.certificates import lower_bound
from jaxedge.program.design import Design
from jaxedge.program.objective import objective
from jaxedge.program.program import with_batches, with_rounds
from jaxedge.program.responses import Prices, respond
from jaxedge.relaxation.cheapest import cheapest_of_each, fewest
from jaxedge.relaxation.driver import solve_relaxed
from jaxedge.relaxation.judge import Relaxed
from jaxedge.scenario.sampling import sample_batch
from jaxedge.scenario.stacking import unstack
from tests.enumeration import designs, exact_optimum, values
from tests.plain_model import broken_limits, plain, two_stage_bound

COUNT = 24
CANDIDATE_GAP = 1e-5
"""Certified gap of a solution with fixed batches, to which moves are compared."""


@cache
def sampled(devices, tightness):
    """Feasible scenarios with their programs."""
    drawn = sample_batch(jax.random.key(31), COUNT, devices, tightness=tightness)
    programs = in_chunks(programs_of_each(TwoStage()), drawn)
    least = in_chunks(cheapest_of_each, programs, *fewest(programs))
    feasible = np.flatnonzero(least.fits)
    return take(drawn, feasible), take(programs, feasible)


@cache
def solved(devices, tightness):
    """Relaxed answers, and integer designs."""
    programs = sampled(devices, tightness)[1]
    relaxed = solve_relaxed(programs)
    return relaxed, solve_integer(programs, relaxed)


# --- single steps, against their definitions ---------------------------------------------------


@cache
def steps(seed):
    """Programs of few batches and rounds, with prices and designs that need not be optimal."""
    rng = np.random.default_rng(seed)
    programs = sampled(4, 0.8)[1]
    count = len(programs.gap)

    def cut(part):
        shape = np.shape(part.variance)
        low = rng.integers(1, 3, shape) * 1.0
        return dataclasses.replace(part, min_batch=low, max_batch=low + rng.integers(1, 4, shape))

    tied = rng.random(count) < 0.3
    rounds = dataclasses.replace(
        programs.rounds,
        min_pretraining=np.where(tied, 1.0, rng.integers(0, 3, count)),
        max_pretraining=rng.integers(3, 9, count) * 1.0,
        min_finetuning=rng.integers(1, 3, count) * 1.0,
        max_finetuning=rng.integers(3, 9, count) * 1.0,
        tied=tied,
    )
    programs = dataclasses.replace(
        programs, server=cut(programs.server), devices=cut(programs.devices)
    )
    programs = jax.tree.map(np.asarray, jax.vmap(with_rounds)(programs, rounds))
    prices = Prices(
        energy=0.1 * rng.random(count),
        device_time=0.02 * rng.random((count, 4)),
    )
    near = rng.choice([0.0, 1e-13, -1e-13, 0.3, 0.6, -1e-4], (2, count))
    design = Design(
        pretraining_rounds=rng.integers(1, 9, count) + near[0],
        finetuning_rounds=rng.integers(1, 9, count) + near[1],
        server_batch=rng.uniform(0.3, 6.0, count),
        server_sample_time=programs.server.min_time,
        broadcast_exponent=programs.broadcast.max_exponent,
        device_batch=rng.uniform(0.3, 6.0, (count, 4)),
        device_sample_time=programs.devices.min_time,
        upload_exponent=programs.uploads.max_exponent,
        value=np.where(rng.random(count) < 0.8, 1.0, np.inf),
    )
    batches = Batches(
        server=rng.integers(programs.server.min_batch, programs.server.max_batch + 1) * 1.0,
        devices=rng.integers(programs.devices.min_batch, programs.devices.max_batch + 1) * 1.0,
    )
    answer = Relaxed(design=design, prices=prices, lower_bound=np.zeros(count))
    return programs, Candidate(batches=batches, answer=answer)


SINGLE = [by * np.eye(5)[k] for by in (1.0, -1.0) for k in range(5)]
"""Moves of one batch of the server, or of one of 4 devices."""


@jax.jit
@jax.vmap
def _bound_at(program, server, devices, prices):
    return lower_bound(with_batches(program, server, devices), prices)


def reaches(programs, candidate):
    """(batch, moves) Lagrangian after each move by one; inf outside the limits."""
    both = np.concatenate([candidate.batches.server[:, None], candidate.batches.devices], axis=1)
    low, high = (
        np.concatenate([getattr(programs.server, n)[:, None], getattr(programs.devices, n)], axis=1)
        for n in ("min_batch", "max_batch")
    )
    found = []
    for step in SINGLE:
        moved = both + step
        inside = np.all((moved >= low) & (moved <= high), axis=1)
        safe = np.maximum(moved, 0.5)
        bound = _bound_at(programs, safe[:, 0], safe[:, 1:], candidate.answer.prices)
        found.append(np.where(inside, bound, np.inf))
    return np.stack(found, axis=1), both, low, high


def valued(candidate, value):
    design = dataclasses.replace(candidate.answer.design, value=value)
    return dataclasses.replace(
        candidate, answer=dataclasses.replace(candidate.answer, design=design)
    )


@pytest.mark.parametrize("seed", range(3))
def test_promising_moves_are_those_of_the_least_lagrangian(seed):
    """Each single move's Lagrangian is computed anew, with the program's batches fixed there."""
    programs, candidate = steps(seed)
    reach, both, low, high = reaches(programs, candidate)
    assert np.isinf(reach).any()
    ordered, rows = np.sort(reach, axis=1), np.arange(len(reach))
    middle = (ordered[rows, rows % 4] + ordered[rows, rows % 4 + 1]) / 2
    after, helpful = promising_moves(programs, valued(candidate, middle))
    after = np.concatenate([np.asarray(after.server)[..., None], after.devices], axis=2)
    helps = reach < middle[:, None] * (1 - 1e-9)
    together = np.clip(both + helps @ np.stack(SINGLE), low, high)
    np.testing.assert_array_equal(after[:, 3], together)
    np.testing.assert_array_equal(np.asarray(helpful)[:, 3], np.any(helps, axis=1))
    for i in rows:
        # Moves that reach the same come in any order.
        moves = [
            next(k for k, step in enumerate(SINGLE) if np.array_equal(both[i] + step, after[i, j]))
            for j in range(3)
        ]
        assert len(set(moves)) == 3
        np.testing.assert_allclose(reach[i, moves], ordered[i, :3], rtol=1e-12)
        np.testing.assert_array_equal(helpful[i, :3], helps[i, moves])
    assert 0 < helpful.mean() < 1


@pytest.mark.parametrize(("above", "helps"), [(-1e-6, False), (5e-10, False), (1.5e-9, True)])
def test_a_move_must_promise_more_than_rounding_errors(above, helps):
    programs, candidate = steps(0)
    best = np.min(reaches(programs, candidate)[0], axis=1)
    _, helpful = promising_moves(programs, valued(candidate, best * (1 + above)))
    np.testing.assert_array_equal(helpful[:, 0], helps)
    np.testing.assert_array_equal(helpful[:, 3], helps)


def test_first_candidates_are_rounded_floored_and_the_duals():
    programs, candidate = steps(0)
    design, prices = candidate.answer.design, candidate.answer.prices
    found = first_candidates(programs, design, prices)
    answers = jax.vmap(respond)(programs, prices)
    for name, real in (("server", design.server_batch), ("devices", design.device_batch)):
        part, got = getattr(programs, name), np.asarray(getattr(found, name))
        np.testing.assert_array_equal(
            got[:, 0], np.clip(np.floor(real + 0.5), part.min_batch, part.max_batch)
        )
        np.testing.assert_array_equal(
            got[:, 1], np.clip(np.floor(real), part.min_batch, part.max_batch)
        )
        price = np.asarray(getattr(answers, name).price)
        costs = []
        for batch in range(1, 7):
            allowed = (batch >= part.min_batch) & (batch <= part.max_batch)
            costs.append(np.where(allowed, part.variance / batch + price * batch, np.inf))
        np.testing.assert_array_equal(got[:, 2], 1.0 + np.argmin(costs, axis=0))


def test_whole_rounds_of_a_design_are_floors_within_its_limits():
    for seed in range(3):
        programs, candidate = steps(seed)
        rounds, design = programs.rounds, candidate.answer.design
        cut = jax.tree.map(np.asarray, floored(programs, design))
        # What is whole up to rounding errors is whole.
        m, n = (
            np.where(np.abs(x - np.round(x)) < 1e-9, np.round(x), np.floor(x))
            for x in (design.pretraining_rounds, design.finetuning_rounds)
        )
        m, n = (np.where(rounds.tied, np.minimum(m, n), x) for x in (m, n))
        np.testing.assert_array_equal(cut.pretraining_rounds, m)
        np.testing.assert_array_equal(cut.finetuning_rounds, n)
        legal = (m >= rounds.min_pretraining) & (n >= rounds.min_finetuning)
        legal &= np.isfinite(design.value)
        assert 0 < legal.mean() < 1
        np.testing.assert_array_equal(np.isfinite(cut.value), legal)
        for i in np.flatnonzero(legal):
            point = np.concatenate([[m[i], n[i], design.server_batch[i]], design.device_batch[i]])
            expected = values(take(programs, i), point[None])[0]
            assert cut.value[i] == pytest.approx(expected, rel=1e-14)


def test_rounds_are_made_whole_on_both_sides_of_either_stage():
    for seed in range(3):
        programs, candidate = steps(seed)
        rounds, design = programs.rounds, candidate.answer.design
        around = neighbouring_rounds(programs, candidate)
        for name in ("server", "devices"):
            batch = np.asarray(getattr(candidate.batches, name))[:, None]
            for limit in ("min_batch", "max_batch"):
                found = getattr(getattr(around, name), limit)
                np.testing.assert_array_equal(found, np.repeat(batch, 4, axis=1))
        for stage, rows in (("pretraining", (0, 1)), ("finetuning", (2, 3))):
            low, high = (getattr(rounds, f"{end}_{stage}") for end in ("min", "max"))
            real = getattr(design, f"{stage}_rounds")
            whole = np.where(np.abs(real - np.round(real)) < 1e-9, np.round(real), np.floor(real))
            for end, limit in (("min", low), ("max", high)):
                found = np.asarray(getattr(around.rounds, f"{end}_{stage}"))
                for row in range(4):
                    fixed = np.clip(whole + (row - rows[0]), low, high)
                    np.testing.assert_array_equal(found[:, row], fixed if row in rows else limit)
        again = jax.vmap(jax.vmap(lambda of: of.rays()))(around.rounds)
        np.testing.assert_array_equal(around.rays, again)


def test_batches_of_candidates_are_spread_flattened_and_chosen_from():
    tree = {"scalar": np.arange(3.0), "vector": np.arange(6.0).reshape(3, 2)}
    copies = spread(tree, 2)
    np.testing.assert_array_equal(copies["scalar"], [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(copies["vector"][:, 0], [0, 0, 2, 2, 4, 4])
    deep = np.arange(24.0).reshape(3, 2, 4)
    both = flat({"scalar": deep[..., 0], "vector": deep})
    np.testing.assert_array_equal(both["scalar"], np.arange(0, 24, 4))
    np.testing.assert_array_equal(both["vector"], deep.reshape(6, 4))
    candidate = take(steps(0)[1], np.arange(9))
    value = np.array([3.0, 1.0, 2.0, np.inf, 7.0, 5.0, 1.0, 1.0, np.inf])
    best = best_of(valued(candidate, value), 3)
    np.testing.assert_array_equal(best.answer.design.value, [1.0, 5.0, 1.0])
    np.testing.assert_array_equal(best.batches.devices, candidate.batches.devices[[1, 5, 6]])


# --- whole designs -----------------------------------------------------------------------------

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


@pytest.mark.every_python
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


@pytest.mark.parametrize("moves_at_all", [True, False])
def test_moves_that_promise_but_do_not_gain_are_not_taken(monkeypatch, moves_at_all):
    """All moves that are tried are said to help; those to the same batches gain nothing."""
    programs, relaxed = sampled(4, 0.8)[1], solved(4, 0.8)[0]
    prices, _ = in_chunks(integer_prices, programs, relaxed.prices)
    sweeps = []

    def overpromising(program, candidate):
        sweeps.append(len(program.gap))
        moves, helpful = promising_moves(program, candidate)
        if moves_at_all:
            moves = jax.tree.map(lambda x: x[:, np.array([0, 1, 2, 0])], moves)
        else:
            moves = jax.tree.map(lambda x: np.stack([x] * 4, axis=1), candidate.batches)
        return moves, np.ones_like(helpful)

    monkeypatch.setattr("jaxedge.integers.local_search.promising_moves", overpromising)
    best = best_batches(programs, relaxed, prices)
    starts = flat(in_chunks(first_candidates, programs, relaxed.design, prices))
    begun = best_of(solve_batches(spread(programs, 3), starts), 3).answer.design.value
    if moves_at_all:
        assert np.all(best.answer.design.value <= begun)
        assert len(sweeps) < 40  # and each is a strict gain, so that they come to an end
    else:
        np.testing.assert_array_equal(best.answer.design.value, begun)
        assert len(sweeps) == 1


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
    programs = in_chunks(programs_of_each(TwoStage()), drawn)
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


def test_rounds_of_fixed_batches_are_the_best_of_all_beside_the_real_ones():
    """With M or N fixed at an integer beside the real optimum, all of the other are listed."""
    programs, _ = tiny(2, False)
    count = len(programs.gap)
    candidate = solve_batches(programs, Batches(server=np.ones(count), devices=np.ones((count, 2))))
    found = whole_rounds(programs, candidate)
    real = candidate.answer.design
    for i in range(count):
        points = designs(take(programs, i), "two-stage", 1)
        near = np.zeros(len(points), bool)
        for column, rounds in enumerate((real.pretraining_rounds, real.finetuning_rounds)):
            down = np.floor(rounds[i] + 1e-9)
            near |= (points[:, column] == down) | (points[:, column] == down + 1)
        expected = exact_optimum(take(programs, i), points[near])
        assert found.value[i] == pytest.approx(expected, rel=1e-12)
