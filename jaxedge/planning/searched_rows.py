"""Designs under a bound whose rounds are searched outside its program, one scenario at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.bounds.base import FINETUNING, PRETRAINING, Restriction
from jaxedge.bounds.two_stage import two_stage_program
from jaxedge.machine.trees import take
from jaxedge.outer.branching import best_of_promising, close_gap
from jaxedge.outer.search import Task, programs_at, search
from jaxedge.planning.pipeline import Outcome, both_stages
from jaxedge.planning.question import Asked
from jaxedge.planning.rows import Rows, repeat
from jaxedge.planning.schemes import (
    EQUAL_ROUNDS,
    FINETUNING_ONLY,
    JOINT,
    LIMITS,
    PRETRAINING_ONLY,
    SEPARATE,
    STAGE_SHARE,
    pretraining_only,
    separate_pretraining,
    with_budget_share,
)
from jaxedge.program.program import Program, with_rounds
from jaxedge.relaxation.driver import NEWTON_ATTEMPTS, solve_relaxed
from jaxedge.relaxation.feasibility import feasibility
from jaxedge.scenario.scenario import Scenario


def searched_rows(scenario: Scenario, asked: Asked) -> Rows:
    """The designs of one scenario for every name asked for."""
    # What leaves a stage out is judged without that stage's least rounds.
    alone = dataclasses.replace(scenario, min_finetuning_rounds=np.zeros(()))
    scratch = dataclasses.replace(scenario, min_pretraining_rounds=np.zeros(()))
    designs: dict[str, Callable[[], Rows]] = {
        JOINT: lambda: _row(JOINT, scenario, asked),
        PRETRAINING_ONLY: lambda: _row(PRETRAINING_ONLY, alone, asked, fixed={FINETUNING: 0.0}),
        FINETUNING_ONLY: lambda: _row(FINETUNING_ONLY, scratch, asked, fixed={PRETRAINING: 0.0}),
        **{name: partial(_row, name, scenario, asked, restrict=r) for name, r in LIMITS.items()},
        EQUAL_ROUNDS: lambda: _equal_rounds(scenario, asked),
        SEPARATE: lambda: _separate(scenario, asked),
    }
    return Rows.concatenate([designs[name]() for name in asked.designs])


def _row(
    name: str,
    scenario: Scenario,
    asked: Asked,
    *,
    restrict: Restriction | None = None,
    fixed: Mapping[str, float] | None = None,
    tied: bool = False,
) -> Rows:
    """The best design over all outer variables that are left free, certified over all of them."""
    asked.progress(name, None)
    bound = asked.bound
    task = Task(
        bound=bound,
        scenario=scenario,
        integer=not asked.relaxed,
        gap=min(asked.gap, bound.relaxed_gap),
        restrict=restrict,
        fixed=fixed or {},
        tied=tied,
    )
    program, outcome = _outcome(task, asked, closed=name == JOINT)
    return Rows(names=(name,), scenarios=repeat(scenario, 1), programs=program, outcome=outcome)


def _outcome(task: Task, asked: Asked, *, closed: bool) -> tuple[Program, Outcome]:
    """The program and the answer of a search; ``closed`` by branch and bound where it is whole."""
    fewest = task.least()[None, : 1 if task.tied else None]
    least = jax.tree.map(np.asarray, task.programs(fewest))
    feasible, energy, delay = feasibility(least)
    if not feasible[0]:
        # The relaxed answer only fills the place of one: infeasible entries mean nothing.
        relaxed = solve_relaxed(least, attempts=NEWTON_ATTEMPTS)
        program, design, lower = least, relaxed.design, relaxed.lower_bound * least.scale
    else:
        found = search(task)
        if asked.relaxed:
            program, relaxed = take((found.programs, found.relaxed), np.array([0]))
            design, lower = relaxed.design, np.array([found.lower_bound])
        else:
            best = best_of_promising(found)
            if closed and asked.max_nodes:
                settings = {"gap": asked.gap, "max_nodes": asked.max_nodes}
                best = close_gap(found, best, **settings, progress=asked.progress)
            program, relaxed, design = best.program, best.relaxed, best.design
            lower = np.array([best.lower_bound])
    outcome = Outcome(
        feasible=feasible,
        least_energy=energy,
        least_delay=delay,
        design=design,
        lower_bound=lower / program.scale,
        relaxed=relaxed,
    )
    return program, outcome


def _with_equal_rounds(program: Program) -> Program:
    """M = N, where a round of the program stands for all M of pre-training."""
    rounds, equal = program.rounds, program.server.weight
    limits = dataclasses.replace(rounds, min_finetuning=equal, max_finetuning=equal)
    return with_rounds(program, limits)


def _equal_rounds(scenario: Scenario, asked: Asked) -> Rows:
    """M = N: a diagonal where both are searched, a restriction where N is the program's own."""
    if FINETUNING in asked.bound.outer:
        return _row(EQUAL_ROUNDS, scenario, asked, tied=True)
    least = np.maximum(scenario.min_pretraining_rounds, scenario.min_finetuning_rounds)
    from_both = dataclasses.replace(scenario, min_pretraining_rounds=np.maximum(least, 1.0))
    return _row(EQUAL_ROUNDS, from_both, asked, restrict=_with_equal_rounds)


def _free_server(program: Program) -> Program:
    """Pre-training is paid from its own share."""
    server = dataclasses.replace(program.server, weight=jnp.zeros_like(program.server.weight))
    return dataclasses.replace(program, server=server)


def _separate(scenario: Scenario, asked: Asked) -> Rows:
    """Pre-training hands over the least that its share affords; fine-tuning does its best after."""
    bound = asked.bound
    rounds, batch = separate_pretraining(scenario, partial(bound.handed_over, scenario))
    task = Task(
        bound=bound,
        scenario=with_budget_share(scenario, 1 - STAGE_SHARE),
        integer=not asked.relaxed,
        gap=min(asked.gap, bound.relaxed_gap),
        restrict=_free_server,
        fixed={PRETRAINING: float(rounds)},
    )
    second, outcome = _outcome(task, asked, closed=False)
    at = {PRETRAINING: float(rounds), FINETUNING: float(second.devices.weight[0, 0])}
    outer = np.array([[at[name] for name in bound.outer]])
    program = jax.tree.map(np.asarray, programs_at(bound, scenario, outer))
    server = program.server
    sample_time = np.clip(STAGE_SHARE / (rounds * batch), server.min_time, server.max_time)
    design = dataclasses.replace(
        outcome.design,
        server_batch=np.full_like(outcome.design.server_batch, batch),
        server_sample_time=sample_time,
        device_sample_time=(1 - STAGE_SHARE) * outcome.design.device_sample_time,
    )
    half = with_budget_share(scenario, STAGE_SHARE)
    first = pretraining_only(two_stage_program(half))
    outcome = both_stages(feasibility(repeat(first, 1)), outcome, design)
    row = repeat(scenario, 1)
    return Rows(names=(SEPARATE,), scenarios=row, programs=program, outcome=outcome)
