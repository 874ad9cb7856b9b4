"""From rows of designs to answers: every claim is checked again in original units."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxedge.answers.assessment import TOLERANCE, Assessment, assessment_of
from jaxedge.answers.batch import STATUSES, Answers, status_codes
from jaxedge.answers.plan import Plan
from jaxedge.answers.status import Status
from jaxedge.bounds.base import Bound
from jaxedge.bounds.formulation import allocation_of
from jaxedge.machine.chunks import in_chunks
from jaxedge.machine.trees import select
from jaxedge.planning.pipeline import shadow_prices
from jaxedge.planning.question import Asked
from jaxedge.planning.rows import Rows
from jaxedge.program.design import Design
from jaxedge.program.program import Program
from jaxedge.relaxation.judge import relative_gap
from jaxedge.scenario.scenario import Scenario
from jaxedge.system.allocation import Allocation
from jaxedge.system.delay import delay
from jaxedge.system.energy import energy


def _assessed(scenario: Scenario, allocation: Allocation, bound: Bound) -> Assessment:
    return assessment_of(scenario, allocation, bound.value(scenario, allocation))


@partial(jax.jit, static_argnames="bound")
def assess(scenarios: Scenario, programs: Program, designs: Design, bound: Bound) -> Assessment:
    """The designs in original units, with all that is claimed of them."""

    def one(scenario: Scenario, program: Program, design: Design) -> Assessment:
        return _assessed(scenario, allocation_of(scenario, program, design), bound)

    return jax.vmap(one)(scenarios, programs, designs)


@partial(jax.jit, static_argnames="bound")
def assess_naive(
    scenarios: Scenario, programs: Program, designs: Design, bound: Bound
) -> Assessment:
    """What a user gets who rounds the relaxed optimum.

    Batches are rounded to the nearest integer, clocks and powers kept, and the rounds of both
    stages cut alike to what then fits, but not below the fewest.
    """

    def one(scenario: Scenario, program: Program, design: Design) -> Assessment:
        real = allocation_of(scenario, program, design)
        batches = dataclasses.replace(
            real,
            server=dataclasses.replace(real.server, batch=jnp.round(real.server.batch)),
            devices=dataclasses.replace(real.devices, batch=jnp.round(real.devices.batch)),
        )

        def used(m: ArrayLike, n: ArrayLike) -> Array:
            some = dataclasses.replace(batches, pretraining_rounds=m, finetuning_rounds=n)
            spent = energy(scenario, some) / scenario.energy_budget
            return jnp.stack([spent, delay(scenario, some) / scenario.delay_budget])

        def most(rounds: Array, fits: Array, fewest: ArrayLike) -> Array:
            return jnp.maximum(jnp.floor(jnp.minimum(rounds, fits)), fewest)

        m, n = jnp.asarray(real.pretraining_rounds), jnp.asarray(real.finetuning_rounds)
        m = most(m, m / jnp.max(used(m, n)), scenario.min_pretraining_rounds)
        left = 1 - used(m, 0.0)
        n = most(n, jnp.min(left / used(0.0, 1.0)), scenario.min_finetuning_rounds)
        cut = dataclasses.replace(batches, pretraining_rounds=m, finetuning_rounds=n)
        return _assessed(scenario, cut, bound)

    return jax.vmap(one)(scenarios, programs, designs)


def answers_of(rows: Rows, asked: Asked) -> Answers:
    """The rows' designs, judged in original units."""
    outcome = rows.outcome
    given = (rows.scenarios, rows.programs)
    found = in_chunks(partial(assess, bound=asked.bound), *given, outcome.design)
    naive = np.full(len(outcome.feasible), np.nan)
    if not asked.relaxed:
        rounded = partial(assess_naive, bound=asked.bound)
        naive = in_chunks(rounded, *given, outcome.relaxed.design).legal_bound
    bound, lower = found.legal_bound, outcome.lower_bound * rows.programs.scale
    status = _status(outcome.feasible, bound, lower, asked)
    stands = np.isin(status, [STATUSES.index(s) for s in (Status.OPTIMAL, Status.FEASIBLE)])
    return Answers(
        status=status,
        bound=select(stands, bound, np.nan),
        # Where nothing certifies a design (or its bound is not positive) it is only feasible.
        lower_bound=select(stands & (lower > 0), np.minimum(lower, bound), np.nan),
        allocation=select(stands, found.allocation, np.nan),
        energy=select(stands, found.energy, np.nan),
        delay=select(stands, found.delay, np.nan),
        shadow_prices=select(stands, shadow_prices(rows.programs, outcome.relaxed), np.nan),
        naive_rounding=select(stands, naive, np.nan),
        least_energy=select(~outcome.feasible, outcome.least_energy, np.nan),
        least_delay=select(~outcome.feasible, outcome.least_delay, np.nan),
        prices=outcome.relaxed.prices,
    )


def plans_of(rows: Rows, asked: Asked) -> list[Plan]:
    """One plan for each row."""
    answers, bound = answers_of(rows, asked), asked.bound
    plans = [
        answers.plan(i, bound_name=bound.name, relaxed=asked.relaxed, requested_gap=asked.gap)
        for i in range(len(answers.status))
    ]
    return [dataclasses.replace(plan, unit=bound.unit) for plan in plans]


def _status(feasible: np.ndarray, bound: np.ndarray, lower: np.ndarray, asked: Asked) -> np.ndarray:
    """(B,) codes: a design that does not stand up, or misses what its solver owes, has failed."""
    gap = relative_gap(bound, lower)
    failed = np.isnan(bound) | (lower > bound * (1 + TOLERANCE))
    # A search over rounds owes nothing: what gap it leaves is told.
    if asked.relaxed and asked.solver.exact and not asked.bound.outer:
        failed |= (lower > 0) & (gap > max(asked.solver.gap, asked.gap))
    return status_codes(
        (~feasible, Status.INFEASIBLE), (failed, Status.FAILED), (gap <= asked.gap, Status.OPTIMAL)
    )
