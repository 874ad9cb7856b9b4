"""Which programs answer a question: those of a batch of scenarios, with or without schemes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.bounds.batches import programs_of_each
from jaxedge.machine.chunks import in_chunks
from jaxedge.machine.trees import put, take
from jaxedge.planning.pipeline import Outcome, optimise
from jaxedge.planning.question import Asked
from jaxedge.planning.rows import Rows
from jaxedge.planning.schemes import (
    EQUAL_ROUNDS,
    JOINT,
    LIMITS,
    SEPARATE,
    STAGE_SHARE,
    TWO_STAGE,
    two_stage_schemes,
)
from jaxedge.program.program import Program
from jaxedge.scenario.scenario import Scenario


@jax.jit
@jax.vmap
def scheme_programs(scenario: Scenario) -> Program:
    """The programs of `two_stage_schemes` (B, schemes, ...)."""
    programs = two_stage_schemes(scenario)
    stacked: Program = jax.tree.map(lambda *xs: jnp.stack(xs), *programs)
    return stacked


def two_stage_batch(scenarios: Scenario, asked: Asked) -> Rows:
    """One row for each of a batch of scenarios."""
    programs = in_chunks(programs_of_each, scenarios)
    outcome = optimise(programs, asked, tighten=slice(None))
    return Rows(
        names=(JOINT,) * len(outcome.feasible),
        scenarios=scenarios,
        programs=programs,
        outcome=outcome,
    )


def two_stage_rows(scenarios: Scenario, asked: Asked, wanted: Sequence[str]) -> Rows:
    """The designs of a batch of scenarios for every name that is wanted, one name after the other.

    The first name's are closed to the gap asked for.
    """
    every_name = (*TWO_STAGE, SEPARATE, SEPARATE)
    places = [i for i, name in enumerate(every_name) if name in wanted]
    names = tuple(every_name[i] for i in places)
    of_each = jax.tree.map(lambda x: x[:, places], in_chunks(scheme_programs, scenarios))
    count, schemes = of_each.gap.shape
    programs: Program = jax.tree.map(lambda x: np.concatenate(np.moveaxis(x, 1, 0)), of_each)
    outcome = optimise(programs, asked, tighten=slice(count))
    every = jax.tree.map(lambda x: np.concatenate([x] * schemes), scenarios)
    rounds = programs.rounds
    rows = Rows(
        names=tuple(name for name in names for _ in range(count)),
        # A scheme that leaves a stage out is judged without that stage's least rounds.
        scenarios=dataclasses.replace(
            every,
            min_pretraining_rounds=np.minimum(every.min_pretraining_rounds, rounds.min_pretraining),
            min_finetuning_rounds=np.minimum(every.min_finetuning_rounds, rounds.min_finetuning),
        ),
        programs=programs,
        outcome=_with_best_restriction(outcome, names) if JOINT in names else outcome,
    )
    return _with_stages_merged(rows, count) if SEPARATE in names else rows


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


def _with_stages_merged(rows: Rows, count: int) -> Rows:
    """The last two of each scenario, the stages designed separately, as one of its joint program.

    Args:
        rows: those of every name together, ``count`` of each.
        count: how many scenarios there are.
    """
    joint, last = np.arange(count), len(rows.names) - count
    first, second = joint + last - count, joint + last
    outcome, design = rows.outcome, rows.outcome.design
    # Times are in units of each stage's own delay budget; the joint program's is the whole.
    merged = dataclasses.replace(
        take(design, second),
        pretraining_rounds=design.pretraining_rounds[first],
        server_batch=design.server_batch[first],
        server_sample_time=STAGE_SHARE * design.server_sample_time[first],
        device_sample_time=(1 - STAGE_SHARE) * design.device_sample_time[second],
    )
    feasible = np.array(outcome.feasible)
    feasible[first] &= feasible[second]
    bound = np.array(outcome.lower_bound)
    # Each stage is optimal by its own bound; nothing certifies the two together.
    bound[first] = np.nan
    outcome = dataclasses.replace(
        outcome, feasible=feasible, design=put(design, first, merged), lower_bound=bound
    )
    keep = np.arange(last)
    programs = put(rows.programs, first, take(rows.programs, joint))
    return Rows(
        names=rows.names[:last],
        scenarios=take(rows.scenarios, keep),
        programs=take(programs, keep),
        outcome=take(outcome, keep),
    )
