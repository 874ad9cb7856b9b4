"""Branch and bound against enumeration: every whole design of tiny scenarios, judged in floats."""

from __future__ import annotations

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.bounds.fine_tuning import fine_tuning_program
from jaxedge.bounds.two_stage import two_stage_program
from jaxedge.integers.branch_and_bound import branch_and_bound
from jaxedge.integers.local_search import solve_integer
from jaxedge.machine.chunks import in_chunks
from jaxedge.machine.trees import take
from jaxedge.program.program import with_rounds
from jaxedge.relaxation.cheapest import cheapest_of_each, fewest
from jaxedge.relaxation.driver import solve_relaxed
from jaxedge.scenario.sampling import sample_batch
from tests.enumeration import designs, exact_optimum, values

COUNT = 40
LARGEST_BATCH = 4
LEAST_ROUNDS = [(1, 1), (0, 1), (1, 0), (2, 3)]
FIXED_ROUNDS = 3.0
"""Pre-training rounds of the fine-tuning programs."""
KINDS = ["two-stage", "tied", "fine-tuning"]


def _tie(program):
    least = jnp.maximum(program.rounds.min_pretraining, program.rounds.min_finetuning)
    rounds = dataclasses.replace(
        program.rounds, min_pretraining=least, tied=jnp.ones_like(least, bool)
    )
    return with_rounds(program, rounds)


MAKE = {
    "two-stage": two_stage_program,
    "tied": lambda scenario: _tie(two_stage_program(scenario)),
    "fine-tuning": lambda scenario: fine_tuning_program(
        scenario, jnp.full_like(scenario.energy_budget, FIXED_ROUNDS)
    ),
}


@cache
def tiny(kind, devices):
    """Feasible scenarios of about a dozen rounds, their programs, and their first designs."""
    drawn = sample_batch(jax.random.key(7), COUNT, devices, tightness=0.75)
    least = np.array([LEAST_ROUNDS[i % len(LEAST_ROUNDS)] for i in range(COUNT)], float)
    drawn = dataclasses.replace(
        drawn,
        server=dataclasses.replace(drawn.server, max_batch=np.full(COUNT, 1.0 * LARGEST_BATCH)),
        devices=dataclasses.replace(
            drawn.devices, max_batch=np.full((COUNT, devices), 1.0 * LARGEST_BATCH)
        ),
        min_pretraining_rounds=least[:, 0],
        min_finetuning_rounds=least[:, 1],
        energy_budget=0.5 * drawn.energy_budget,
        delay_budget=0.5 * drawn.delay_budget,
    )
    drawn = jax.tree.map(jnp.asarray, drawn)
    programs = jax.jit(jax.vmap(MAKE[kind]))(drawn)
    least = in_chunks(cheapest_of_each, programs, *fewest(programs))
    feasible = np.flatnonzero(least.fits)
    programs, drawn = take(programs, feasible), take(drawn, feasible)
    whole = solve_integer(programs, solve_relaxed(programs))
    return drawn, programs, whole


@cache
def closed(kind, devices):
    """All gaps closed."""
    _, programs, whole = tiny(kind, devices)
    return branch_and_bound(programs, whole, gap=0.0, max_nodes=20_000)


def element(tree, index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def _sent(part, x):
    return np.asarray(part.nats)[..., None] / x, np.asarray(part.joules)[..., None] * np.expm1(
        x
    ) / x


def _chain_energy(work, samples, least, sends, nats, joules, most, time):
    """Least energy over a grid of exponents of ``samples`` and ``sends`` within ``time``."""
    x = most * np.linspace(0.02, 1.0, 60)
    left = time[..., None] - sends * nats / x
    tau = left / np.maximum(samples, 1e-300)
    energy = samples * work / np.maximum(tau, 1e-300) ** 2 + sends * joules * np.expm1(x) / x
    energy = np.where(left >= samples * least, energy, np.inf)
    return np.min(energy, axis=-1)


def grid_optimum(program, points):
    """The same from above: a grid of round times and exponents, in NumPy."""
    p = jax.tree.map(np.asarray, program)
    share = np.linspace(0.002, 0.998, 250)
    best = np.inf
    table = {}
    for point in points[np.argsort(values(program, points))]:
        m, n, b0 = point[:3]
        time = share / max(n, 1.0)
        energy = _server_energy(p, m, n, b0, 1 - share * (n > 0), table)
        for k, b in enumerate(point[3:]):
            key = (k, b, n)
            if key not in table:
                s, t = p.devices, p.uploads
                table[key] = n * _chain_energy(
                    s.work[k],
                    b,
                    s.min_time[k],
                    1.0,
                    t.nats[k],
                    t.joules[k],
                    t.max_exponent[k],
                    time,
                )
            energy = energy + np.where(n > 0, table[key], 0.0)
        if np.min(energy) <= 1:
            best = values(program, point[None])[0]
            break
    return best


def _server_energy(p, m, n, b0, time, table):
    key = (m, n, b0)
    if key not in table:
        s, t = p.server, p.broadcast
        table[key] = _chain_energy(
            s.work, m * s.weight * b0, s.min_time, n, t.nats, t.joules, t.max_exponent, time
        )
    return table[key]


ENUMERABLE = 300_000
"""Most points that are enumerated: some sampled budgets afford thousands of rounds."""
CASES = [(kind, devices) for kind in KINDS for devices in (1, 2)]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "devices"), CASES)
def test_closes_the_gap_at_the_best_of_all_designs(kind, devices):
    _, programs, _ = tiny(kind, devices)
    out = closed(kind, devices)
    assert len(out.gap) >= 20
    np.testing.assert_array_equal(out.gap, 0)
    compared = 0
    for i in range(len(out.gap)):
        program = element(programs, i)
        points = designs(program, kind, LARGEST_BATCH)
        if len(points) > ENUMERABLE:
            continue
        compared += 1
        best = exact_optimum(program, points)
        np.testing.assert_allclose(out.design.value[i], best, rtol=1e-12, err_msg=str(i))
        assert out.lower_bound[i] <= best * (1 + 1e-12)
    assert compared >= 5


def test_what_is_proven_beyond_the_gap_asked_for_is_reported():
    """The first box alone proves again what was forgotten."""
    _, programs, whole = tiny("two-stage", 2)
    forgotten = dataclasses.replace(whole, lower_bound=0.5 * whole.lower_bound)
    found = branch_and_bound(programs, forgotten, gap=0.3)
    proven = whole.gap < 0.2
    assert proven.sum() >= 10
    np.testing.assert_array_less(found.gap[proven], 0.25)
    assert np.all(found.lower_bound[proven] >= whole.lower_bound[proven] * (1 - 1e-3))


@pytest.mark.slow
@pytest.mark.parametrize("gap", [0.02, 0.1])
def test_no_design_is_below_what_is_reported_of_a_gap(gap):
    _, programs, whole = tiny("two-stage", 2)
    best = closed("two-stage", 2).design.value
    forgotten = dataclasses.replace(whole, lower_bound=0 * whole.lower_bound)
    found = branch_and_bound(programs, forgotten, gap=gap, max_nodes=20_000)
    assert np.all(found.gap <= gap * (1 + 1e-12))
    assert np.all(found.lower_bound <= best * (1 + 1e-12))
