"""Designs under a bound of one program: those of a batch of scenarios at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import cache, partial

import jax
import numpy as np

from jaxedge.bounds.base import Bound
from jaxedge.bounds.batches import program_of_bound, programs_of_each
from jaxedge.machine.chunks import in_chunks
from jaxedge.machine.trees import concatenate, put, take
from jaxedge.planning.pipeline import Outcome, both_stages, optimise
from jaxedge.planning.question import Asked
from jaxedge.planning.rows import Rows
from jaxedge.planning.schemes import (
    EQUAL_ROUNDS,
    FIRST_STAGE,
    JOINT,
    LIMITS,
    RESTRICTIONS,
    SECOND_STAGE,
    SEPARATE,
    STAGE_SHARE,
    scheme_programs,
)
from jaxedge.program.program import Program
from jaxedge.scenario.scenario import Scenario


@cache
def programs_of_schemes(bound: Bound) -> Callable[[Scenario], dict[str, Program]]:
    """A compiled function from scenarios (B, ...) to all their `scheme_programs` (B, ...)."""

    def programs(scenario: Scenario) -> dict[str, Program]:
        return scheme_programs(scenario, partial(program_of_bound, bound))

    return jax.jit(jax.vmap(programs))


def program_rows(scenarios: Scenario, asked: Asked) -> Rows:
    """The designs of a batch of scenarios for every name asked for, one name after the other.

    The first name's are closed to the gap asked for.
    """
    if asked.designs == (JOINT,):
        programs = {JOINT: in_chunks(programs_of_each(asked.bound), scenarios)}
        return _optimised(scenarios, programs, asked)
    programs = in_chunks(programs_of_schemes(asked.bound), scenarios)
    stages = (FIRST_STAGE, SECOND_STAGE) if SEPARATE in asked.designs else ()
    whole = [name for name in RESTRICTIONS if name in asked.designs]
    rows = _optimised(scenarios, {name: programs[name] for name in (*whole, *stages)}, asked)
    if JOINT in whole:
        rows = dataclasses.replace(
            rows, outcome=_with_best_restriction(rows.outcome, (*whole, *stages))
        )
    if not stages:
        return rows
    separate = _separate(scenarios, programs[JOINT], *(rows.of(name) for name in stages))
    return Rows.concatenate([*(rows.of(name) for name in whole), separate])


def _optimised(scenarios: Scenario, programs: dict[str, Program], asked: Asked) -> Rows:
    """A row for each scenario of every program."""
    count = np.size(scenarios.energy_budget)
    every, repeated = concatenate(list(programs.values())), concatenate([scenarios] * len(programs))
    rounds = every.rounds
    return Rows(
        names=tuple(name for name in programs for _ in range(count)),
        # A scheme that leaves a stage out is judged without that stage's least rounds.
        scenarios=dataclasses.replace(
            repeated,
            min_pretraining_rounds=np.minimum(
                repeated.min_pretraining_rounds, rounds.min_pretraining
            ),
            min_finetuning_rounds=np.minimum(repeated.min_finetuning_rounds, rounds.min_finetuning),
        ),
        programs=every,
        outcome=optimise(every, asked, tighten=slice(count)),
    )


def _with_best_restriction(outcome: Outcome, names: Sequence[str]) -> Outcome:
    """The joint designs replaced by a benchmark's where that is better within the gap.

    Every design of these benchmarks is one of the joint program.
    """
    within = (JOINT, *LIMITS, EQUAL_ROUNDS)
    legal = np.array([i for i, name in enumerate(names) if name in within])
    values = np.where(outcome.feasible, outcome.design.value, np.inf).reshape(len(names), -1)
    joint = np.arange(values.shape[1])
    best = legal[np.argmin(values[legal], axis=0)] * len(joint) + joint
    design = put(outcome.design, joint, take(outcome.design, best))
    return dataclasses.replace(outcome, design=design)


def _separate(scenarios: Scenario, joint: Program, first: Rows, second: Rows) -> Rows:
    """Stages designed separately, as designs of the joint program."""
    before, after = first.outcome, second.outcome
    # Times are in units of each stage's own delay budget; the joint program's is the whole.
    design = dataclasses.replace(
        after.design,
        pretraining_rounds=before.design.pretraining_rounds,
        server_batch=before.design.server_batch,
        server_sample_time=STAGE_SHARE * before.design.server_sample_time,
        device_sample_time=(1 - STAGE_SHARE) * after.design.device_sample_time,
    )
    outcome = both_stages((before.feasible, before.least_energy, before.least_delay), after, design)
    names = (SEPARATE,) * len(first.names)
    return Rows(names=names, scenarios=scenarios, programs=joint, outcome=outcome)
