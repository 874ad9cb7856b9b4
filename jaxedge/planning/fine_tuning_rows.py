"""Designs under the fine-tuning bound: pre-training rounds are searched outside the program."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.bounds.fine_tuning import fine_tuning_program
from jaxedge.machine.chunks import in_chunks
from jaxedge.machine.trees import take
from jaxedge.outer.branching import best_of_promising, tightened
from jaxedge.outer.search import search
from jaxedge.planning.pipeline import Outcome, optimise
from jaxedge.planning.question import Asked
from jaxedge.planning.rows import Rows, repeated
from jaxedge.planning.schemes import (
    EQUAL_ROUNDS,
    FINETUNING_ONLY,
    JOINT,
    LIMITS,
    SEPARATE,
    STAGE_SHARE,
    Restriction,
    separate_pretraining,
    with_budget_share,
)
from jaxedge.program.program import Program, with_rounds
from jaxedge.relaxation.driver import NEWTON_ATTEMPTS, solve_relaxed
from jaxedge.relaxation.feasibility import feasibility
from jaxedge.scenario.scenario import Scenario

_programs = jax.jit(jax.vmap(fine_tuning_program))
_GRID = 32
"""Pre-training rounds tried at a time."""


def fine_tuning_rows(scenario: Scenario, asked: Asked, wanted: Sequence[str]) -> Rows:
    """The designs of one scenario for every name that is wanted."""
    # Judged without the least pre-training rounds.
    scratch = dataclasses.replace(scenario, min_pretraining_rounds=np.zeros(()))
    designs: dict[str, Callable[[], Rows]] = {
        JOINT: lambda: _searched(JOINT, scenario, asked, None),
        FINETUNING_ONLY: lambda: _at_rounds(FINETUNING_ONLY, scratch, asked, 0.0),
        **{name: partial(_searched, name, scenario, asked, r) for name, r in LIMITS.items()},
        EQUAL_ROUNDS: lambda: _equal_rounds(scenario, asked),
        SEPARATE: lambda: _separate(scenario, asked),
    }
    parts = []
    for name in wanted:
        asked.progress(name, None)
        parts.append(designs[name]())
    return Rows.joined(parts)


def _programs_at(scenario: Scenario, rounds: np.ndarray) -> Program:
    return in_chunks(_programs, repeated(scenario, len(rounds)), rounds)


def _row(name: str, scenario: Scenario, program: Program, outcome: Outcome) -> Rows:
    return Rows(names=(name,), scenarios=repeated(scenario, 1), programs=program, outcome=outcome)


def _at_rounds(name: str, scenario: Scenario, asked: Asked, rounds: float) -> Rows:
    """The best design at the given pre-training rounds."""
    program = _programs_at(scenario, np.array([rounds]))
    return _row(name, scenario, program, optimise(program, asked))


def _searched(name: str, scenario: Scenario, asked: Asked, restrict: Restriction | None) -> Rows:
    """The best design over all pre-training rounds, certified over all of them."""
    least = _programs_at(scenario, np.asarray(scenario.min_pretraining_rounds)[None])
    least = least if restrict is None else jax.vmap(restrict)(least)
    least = jax.tree.map(np.asarray, least)
    feasible, energy, delay = feasibility(least)
    if not feasible[0]:
        # The relaxed answer only fills the place of one: infeasible entries mean nothing.
        filler = solve_relaxed(least, attempts=NEWTON_ATTEMPTS)
        outcome = Outcome(
            feasible=feasible,
            least_energy=energy,
            least_delay=delay,
            design=filler.design,
            lower_bound=filler.lower_bound,
            relaxed=filler,
        )
        return _row(name, scenario, least, outcome)
    found = search(scenario, integer=not asked.relaxed, restrict=restrict)
    if asked.relaxed:
        first = np.array([0])
        program, relaxed = take(found.programs, first), take(found.relaxed, first)
        design, lower = relaxed.design, found.lower_bound
    else:
        best = best_of_promising(found)
        if restrict is None and asked.max_nodes:
            best = tightened(
                scenario,
                found,
                best,
                gap=asked.gap,
                max_nodes=asked.max_nodes,
                progress=asked.progress,
            )
        program, relaxed, design, lower = best.program, best.relaxed, best.design, best.lower_bound
    outcome = Outcome(
        feasible=feasible,
        least_energy=energy,
        least_delay=delay,
        design=design,
        lower_bound=np.array([lower]) / program.scale,
        relaxed=relaxed,
    )
    return _row(name, scenario, program, outcome)


@jax.jit
@jax.vmap
def _with_equal_rounds(program: Program) -> Program:
    rounds, equal = program.rounds, program.server.weight
    limits = dataclasses.replace(rounds, min_finetuning=equal, max_finetuning=equal)
    return with_rounds(program, limits)


def _equal_rounds(scenario: Scenario, asked: Asked) -> Rows:
    """M = N: the rounds are searched on grids that close in; nothing certifies the best."""
    least = max(float(scenario.min_pretraining_rounds), float(scenario.min_finetuning_rounds), 1.0)
    low, high = least, least * 1e6
    for _ in range(5):
        grid = np.geomspace(low, high, _GRID)
        grid = grid if asked.relaxed else np.unique(np.rint(grid))
        programs = in_chunks(_with_equal_rounds, _programs_at(scenario, grid))
        feasible, _, _ = feasibility(programs)
        relaxed = solve_relaxed(programs, attempts=NEWTON_ATTEMPTS)
        values = np.where(feasible, relaxed.design.value * programs.scale, np.inf)
        best = int(np.argmin(values))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    if not asked.relaxed:
        # Whole batches shift the best rounds, mostly to fewer.
        grid = np.unique(np.rint(grid[best] * np.linspace(0.8, 1.05, _GRID)))
        programs = in_chunks(_with_equal_rounds, _programs_at(scenario, np.maximum(grid, least)))
    outcome = optimise(programs, asked)
    values = np.where(outcome.feasible, outcome.design.value * programs.scale, np.inf)
    best_row = np.array([np.argmin(values)])
    program, outcome = take(programs, best_row), take(outcome, best_row)
    uncertified = np.full_like(outcome.lower_bound, np.nan)
    return _row(
        EQUAL_ROUNDS, scenario, program, dataclasses.replace(outcome, lower_bound=uncertified)
    )


def _separate(scenario: Scenario, asked: Asked) -> Rows:
    """Pre-training hands over the least gap its share affords; fine-tuning does its best after."""
    rounds, batch = separate_pretraining(scenario)
    second = _programs_at(with_budget_share(scenario, 1 - STAGE_SHARE), np.array([float(rounds)]))
    # Pre-training is paid from its own share.
    free = dataclasses.replace(second.server, weight=np.zeros_like(second.server.weight))
    outcome = optimise(dataclasses.replace(second, server=free), asked)
    program = _programs_at(scenario, np.array([float(rounds)]))
    server = program.server
    sample_time = jnp.clip(STAGE_SHARE / (rounds * batch), server.min_time, server.max_time)
    design = dataclasses.replace(
        outcome.design,
        server_batch=np.full_like(outcome.design.server_batch, batch),
        server_sample_time=np.asarray(sample_time),
        device_sample_time=(1 - STAGE_SHARE) * outcome.design.device_sample_time,
    )
    uncertified = np.full_like(outcome.lower_bound, np.nan)
    outcome = dataclasses.replace(outcome, design=design, lower_bound=uncertified)
    return _row(SEPARATE, scenario, program, outcome)
