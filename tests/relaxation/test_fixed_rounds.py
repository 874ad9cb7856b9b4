"""Programs whose rounds are fixed, against the optimum over all rounds that they are fixed at."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxedge.bounds.batches import programs_of_each
from jaxedge.bounds.two_stage import TwoStage
from jaxedge.machine.chunks import in_chunks
from jaxedge.machine.trees import take
from jaxedge.program.program import with_batches, with_rounds
from jaxedge.relaxation.driver import solve_relaxed
from jaxedge.relaxation.feasibility import feasibility
from jaxedge.scenario.sampling import sample_batch
from jaxedge.scenario.validation import validate_batch

GAP = 1e-6


@jax.jit
@jax.vmap
def _fixed(program, m, n):
    rounds = dataclasses.replace(
        program.rounds, min_pretraining=m, max_pretraining=m, min_finetuning=n, max_finetuning=n
    )
    return with_rounds(program, rounds)


@pytest.fixture(scope="module")
def optima():
    """Feasible programs with their optima, which a round more or less cannot reach exactly."""
    scenarios = validate_batch(sample_batch(jax.random.key(5), 1000, 3, tightness=0.5))
    programs = in_chunks(programs_of_each(TwoStage()), scenarios)
    programs = take(programs, np.flatnonzero(feasibility(programs)[0]))
    return programs, solve_relaxed(programs, gap=1e-8)


def test_at_the_best_rounds_the_value_is_the_optimum(optima):
    programs, best = optima
    design = best.design
    found = solve_relaxed(
        in_chunks(_fixed, programs, design.pretraining_rounds, design.finetuning_rounds)
    )
    assert len(found.gap) >= 800
    assert np.mean(found.gap <= GAP) >= 0.999
    certified = found.gap <= GAP
    np.testing.assert_allclose(found.design.value[certified], design.value[certified], rtol=2 * GAP)
    assert np.all(found.lower_bound <= found.design.value * (1 + 1e-12))
    for name in ("pretraining_rounds", "finetuning_rounds"):
        same = getattr(found.design, name), getattr(design, name)
        np.testing.assert_allclose(same[0][certified], same[1][certified], rtol=1e-12)


def test_fewer_rounds_leave_a_certified_optimum_too(optima):
    programs, best = optima
    m, n = best.design.pretraining_rounds, best.design.finetuning_rounds
    found = solve_relaxed(in_chunks(_fixed, programs, 0.5 * m, 0.7 * n))
    assert np.mean(found.gap <= GAP) >= 0.999


def test_with_the_batches_fixed_too_what_fits_has_its_value(optima):
    programs, best = optima
    m, n = best.design.pretraining_rounds, best.design.finetuning_rounds
    rounds = in_chunks(_fixed, programs, m, n)
    design = best.design
    fits, not_fits = (
        solve_relaxed(
            jax.vmap(with_batches)(
                rounds, share * design.server_batch, share * design.device_batch
            ),
            attempts=1,
        )
        for share in (1 - 1e-5, 1 + 1e-3)
    )
    assert np.all(fits.gap <= GAP)
    # Within 1e-3 of the optimum both budgets are spent but for a slack that is a share of the time.
    assert np.mean(np.isinf(not_fits.design.value)) > 0.95
