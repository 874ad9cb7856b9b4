"""From rows of designs to plans: every claim is checked again in original units."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxedge.allocation import Allocation
from jaxedge.answer import Plan, Shortfall, Status
from jaxedge.bounds import BOUNDS
from jaxedge.design import Design
from jaxedge.designs import Rows
from jaxedge.formulation import allocation_of
from jaxedge.pipeline import Asked, shadow_prices
from jaxedge.problem import violation
from jaxedge.program import Program
from jaxedge.scenario import Scenario
from jaxedge.solve import RELAXED_GAP, in_chunks, take
from jaxedge.solvers import SOLVERS
from jaxedge.system.delay import delay
from jaxedge.system.energy import energy

_TOLERANCE = 1e-9
"""Relative excess over a limit, or of a lower bound over its bound, taken for rounding."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class _Assessment:
    allocation: Allocation
    bound: Array
    energy: Array
    delay: Array
    violation: Array


@partial(jax.jit, static_argnames="bound")
def _assess_allocation(scenario: Scenario, allocation: Allocation, bound: str) -> _Assessment:
    return _Assessment(
        allocation=allocation,
        bound=BOUNDS[bound](scenario, allocation),
        energy=energy(scenario, allocation),
        delay=delay(scenario, allocation),
        violation=violation(scenario, allocation),
    )


@partial(jax.jit, static_argnames="bound")
def assess(scenarios: Scenario, programs: Program, designs: Design, bound: str) -> _Assessment:
    """The designs in original units, with all that is claimed of them."""

    def one(scenario: Scenario, program: Program, design: Design) -> _Assessment:
        return _assess_allocation(scenario, allocation_of(scenario, program, design), bound)

    return jax.vmap(one)(scenarios, programs, designs)


@partial(jax.jit, static_argnames="bound")
def assess_naive(
    scenarios: Scenario, programs: Program, designs: Design, bound: str
) -> _Assessment:
    """What a user gets who rounds the relaxed optimum.

    Batches are rounded to the nearest integer, clocks and powers kept, and the rounds of both
    stages cut alike to what then fits, but not below the fewest.
    """

    def one(scenario: Scenario, program: Program, design: Design) -> _Assessment:
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
        return _assess_allocation(scenario, cut, bound)

    return jax.vmap(one)(scenarios, programs, designs)


def plans_of(rows: Rows, asked: Asked) -> list[Plan]:
    """One plan for each row."""
    outcome = rows.outcome
    given = (rows.scenarios, rows.programs)
    found = in_chunks(partial(assess, bound=asked.bound), *given, outcome.design)
    naive = None
    if not asked.relaxed:
        naive = in_chunks(partial(assess_naive, bound=asked.bound), *given, outcome.relaxed.design)
    prices = shadow_prices(rows.programs, outcome.relaxed)
    lower = outcome.lower_bound * rows.programs.scale
    plans = []
    for i in range(len(outcome.feasible)):
        common: dict[str, Any] = {
            "bound_name": asked.bound,
            "relaxed": asked.relaxed,
            "requested_gap": asked.gap,
        }
        if not outcome.feasible[i]:
            reason = _shortfall(float(outcome.least_energy[i]), float(outcome.least_delay[i]))
            plans.append(Plan(status=Status.INFEASIBLE, infeasible_because=reason, **common))
            continue
        answer = _answer(take(found, np.asarray(i)), float(lower[i]), asked)
        if answer is None:
            plans.append(Plan(status=Status.FAILED, **common))
            continue
        if naive is not None:
            answer["naive_rounding"] = _legal_bound(take(naive, np.asarray(i)))
        answer["shadow_prices"] = {name: float(value[i]) for name, value in prices.items()}
        plans.append(Plan(**answer, **common))
    return plans


def _legal_bound(assessment: _Assessment) -> float | None:
    bound = float(assessment.bound)
    legal = float(assessment.violation) <= _TOLERANCE and np.isfinite(bound)
    return bound if legal else None


def _answer(found: _Assessment, lower: float, asked: Asked) -> dict[str, Any] | None:
    """What the plan says of a design, or None where the design does not stand up."""
    bound = _legal_bound(found)
    if bound is None or lower > bound * (1 + _TOLERANCE):
        return None
    answer: dict[str, Any] = {
        "status": Status.FEASIBLE,
        "bound": bound,
        "allocation": _plain(found.allocation, whole=not asked.relaxed),
        "energy": float(found.energy),
        "delay": float(found.delay),
    }
    if not lower > 0:
        # Nothing certifies this design (or its bound is not positive): it is only feasible.
        return answer
    answer["lower_bound"] = min(lower, bound)
    gap = bound / lower - 1
    if gap <= asked.gap:
        answer["status"] = Status.OPTIMAL
    elif asked.relaxed and asked.solver == SOLVERS[0] and gap > RELAXED_GAP:
        return None
    return answer


def _plain(allocation: Allocation, *, whole: bool) -> Allocation:
    """The allocation in Python numbers and NumPy arrays, counts as integers where whole."""
    counts = {"pretraining_rounds", "finetuning_rounds", "batch"}

    def plain(value: Any, name: str) -> Any:
        number = np.asarray(value)
        if whole and name in counts:
            number = np.rint(number).astype(np.int64)
        return number.item() if number.ndim == 0 else number

    def stage(part: Any) -> Any:
        fields = {f.name: plain(getattr(part, f.name), f.name) for f in dataclasses.fields(part)}
        return dataclasses.replace(part, **fields)

    return dataclasses.replace(
        allocation,
        pretraining_rounds=plain(allocation.pretraining_rounds, "pretraining_rounds"),
        finetuning_rounds=plain(allocation.finetuning_rounds, "finetuning_rounds"),
        server=stage(allocation.server),
        devices=stage(allocation.devices),
    )


def _shortfall(least_energy: float, least_delay: float) -> Shortfall:
    by_energy, by_delay = np.isfinite(least_energy), np.isfinite(least_delay)
    budgets = {
        (True, True): "either",
        (True, False): "energy_budget",
        (False, True): "delay_budget",
        (False, False): "both",
    }
    return Shortfall(
        budget=budgets[bool(by_energy), bool(by_delay)],
        least_energy=least_energy if by_energy else None,
        least_delay=least_delay if by_delay else None,
    )
