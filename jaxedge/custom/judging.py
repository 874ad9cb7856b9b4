"""Users' own problems solved in compiled batches, and their designs judged in original units."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxedge.answers.assessment import Assessment, assessment_of
from jaxedge.bounds.batches import programs_of_each
from jaxedge.bounds.formulation import allocation_of
from jaxedge.bounds.two_stage import TwoStage, two_stage_bound
from jaxedge.custom.infeasibility import proves_infeasible
from jaxedge.custom.relaxation import (
    Functions,
    design_of,
    inverse_denominator,
    own_multipliers,
    solve_own_program,
)
from jaxedge.custom.totals import Case, device_cases, totals_of
from jaxedge.machine.chunks import in_chunks
from jaxedge.machine.trees import put, take
from jaxedge.methods.interior_point import InteriorPoint
from jaxedge.program.program import Program
from jaxedge.relaxation.judge import RELAXED_GAP, relative_gap
from jaxedge.scenario.scenario import Scenario
from jaxedge.system.allocation import Allocation

_RESERVE = 2e-8
"""Share of the rounds given back, so that rounding breaks no limit."""
_FEW = 128
"""Scenarios up to which compiling fast matters more than running fast."""
_TRIES = (1e-9, 1e-10, 1e-11)
"""Tolerances tried in turn on what is not certified: the tangent's bound loses what multipliers
lack, but a degenerate problem may not reach the smaller ones."""
_HURRY: dict[str, str | bool] = {"xla_backend_optimization_level": "0"}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnOptima:
    """Assessed designs of own problems, what is proven of them, and multipliers; (B, ...)."""

    design: Assessment
    lower_bound: Array
    """Where all is convex."""
    energy_price: Array
    delay_price: Array
    sums: Array
    each: Array

    @property
    def gap(self) -> np.ndarray:
        """(B,) relative gap if all is convex; infinite where the design breaks a limit."""
        return np.asarray(relative_gap(self.design.legal_bound, np.asarray(self.lower_bound)))


def _solve_each(
    functions: Functions, programs: Program, cases: Case, tolerances: Array
) -> OwnOptima:
    return jax.vmap(partial(_solve_one, functions))(programs, cases, tolerances)


_compiled = jax.jit(_solve_each, static_argnums=0)
_compiled_in_a_hurry = jax.jit(_solve_each, static_argnums=0, compiler_options=_HURRY)


def solve_in_chunks(functions: Functions, cases: Case, size: int) -> OwnOptima:
    """Solve and judge a batch.

    Args:
        functions: the user's; they are compiled once.
        cases: validated scenarios and numbers with a leading axis (B, ...).
        size: B.
    """
    programs = in_chunks(programs_of_each(TwoStage()), cases.scenario)
    compiled = partial(_compiled_in_a_hurry if size <= _FEW else _compiled, functions)

    def attempt(index: np.ndarray, tolerance: float) -> OwnOptima:
        given = (*take((programs, cases), index), np.full(index.size, tolerance))
        return compiled(*given) if size == 1 else in_chunks(compiled, *given)

    best = attempt(np.arange(size), _TRIES[0])
    for tolerance in _TRIES[1:]:
        missed = np.flatnonzero(~(best.gap <= RELAXED_GAP))
        if not missed.size:
            break
        again = attempt(missed, tolerance)
        better = ~(again.gap >= best.gap[missed])
        best = put(best, missed[better], take(again, np.flatnonzero(better)))
    return best


@partial(jax.jit, static_argnums=0, compiler_options=_HURRY)
def _proves_infeasible(functions: Functions, programs: Program, cases: Case) -> Array:
    return jax.vmap(partial(proves_infeasible, functions))(programs, cases)


def prove_infeasible(functions: Functions, cases: Case, doubtful: np.ndarray) -> np.ndarray:
    """(B,) bool, whether no design can keep all limits; False where not ``doubtful`` (B,)."""
    proven = np.zeros(len(doubtful), bool)
    index = np.flatnonzero(doubtful)
    if index.size:
        some = take(cases, index)
        programs = in_chunks(programs_of_each(TwoStage()), some.scenario)
        proven[index] = in_chunks(partial(_proves_infeasible, functions), programs, some)
    return proven


def _solve_one(functions: Functions, program: Program, case: Case, tolerance: Array) -> OwnOptima:
    scenario = case.scenario
    settings = InteriorPoint(tolerance=tolerance)
    answer, lower = solve_own_program(functions, program, case, settings)
    allocation = _with_reserve(
        scenario, allocation_of(scenario, program, design_of(program, answer))
    )
    scale = program.scale if functions.bound is None else jnp.ones_like(program.scale)
    prices = own_multipliers(functions, answer.multipliers)
    unit = scale * inverse_denominator(program, answer)
    bound = _own_bound(functions, case, allocation)
    excess = _own_violation(functions, case, allocation)
    return OwnOptima(
        design=assessment_of(scenario, allocation, bound, excess),
        lower_bound=lower * scale,
        energy_price=prices["energy"] * unit / program.energy_unit,
        delay_price=prices["delay"] * unit / program.delay_unit,
        sums=jnp.stack([price * unit for price in prices["sums"]] or [jnp.zeros_like(unit)]),
        each=prices["each"] * unit,
    )


def _with_reserve(scenario: Scenario, allocation: Allocation) -> Allocation:
    """The allocation with slightly fewer rounds, where the least allow it."""

    def fewer(rounds: ArrayLike, least: ArrayLike) -> Array:
        return jnp.maximum(jnp.asarray(rounds) * (1 - _RESERVE), least)

    return dataclasses.replace(
        allocation,
        pretraining_rounds=fewer(allocation.pretraining_rounds, scenario.min_pretraining_rounds),
        finetuning_rounds=fewer(allocation.finetuning_rounds, scenario.min_finetuning_rounds),
    )


def _own_bound(functions: Functions, case: Case, allocation: Allocation) -> Array:
    """() the bound of an allocation."""
    scenario = case.scenario
    if functions.bound is None:
        return two_stage_bound(scenario, allocation)
    plan, devices = totals_of(scenario, allocation)
    own, summed = functions.bound
    numerator = own(case, plan)
    if summed is not None:
        numerator = numerator + jnp.sum(jax.vmap(summed)(device_cases(case), devices))
    task = scenario.learning
    return numerator / (
        plan.pretraining_rounds * task.server_learning_rate
        + plan.finetuning_rounds * task.device_learning_rate
    )


def _own_violation(functions: Functions, case: Case, allocation: Allocation) -> Array:
    """() largest residual of the user's limits, each over the sum of its terms' sizes."""
    totals = totals_of(case.scenario, allocation)
    each = device_cases(case)

    def residuals(totals: Any) -> Array:
        plan, devices = totals
        found = [jax.vmap(own)(each, devices) for own in functions.each]
        for own, summed in functions.sums:
            parts = jnp.zeros_like(plan.delay)
            if summed is not None:
                parts = jnp.sum(jax.vmap(summed)(each, devices))
            found.append((own(case, plan) + parts)[None])
        return jnp.concatenate([jnp.full((1,), -jnp.inf), *found])

    rows = residuals(totals)
    slopes = jax.jacrev(residuals)(totals)

    def size(slope: Array, value: Array) -> Array:
        terms = jnp.abs(slope) * jnp.abs(value)[None]
        return jnp.sum(terms.reshape(rows.shape[0], -1), axis=1)

    sizes = sum(jax.tree.leaves(jax.tree.map(size, slopes, totals)), jnp.zeros_like(rows))
    worst = jnp.max(rows / jnp.maximum(sizes, jnp.finfo(rows.dtype).tiny))
    return jnp.where(jnp.isnan(worst), jnp.inf, worst)
