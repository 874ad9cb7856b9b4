"""Designs under a loss of decaying modes, whose rounds of both stages are searched in a plane."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.bounds.base import Restriction
from jaxedge.bounds.modal import Modal
from jaxedge.bounds.modes import Modes
from jaxedge.machine.chunks import in_chunks
from jaxedge.machine.trees import take
from jaxedge.outer.plane.rounds import plane_program
from jaxedge.outer.plane.search import PlaneSearched, search_plane
from jaxedge.outer.plane.whole import search_whole
from jaxedge.planning.pipeline import Outcome, both_stages
from jaxedge.planning.question import Asked
from jaxedge.planning.rows import Rows
from jaxedge.planning.schemes import (
    EQUAL_ROUNDS,
    FINETUNING_ONLY,
    JOINT,
    LIMITS,
    PRETRAINING_ONLY,
    SEPARATE,
    STAGE_SHARE,
    with_budget_share,
    without_finetuning,
    without_pretraining,
)
from jaxedge.planning.searched_rows import searched_rows
from jaxedge.program.program import Program
from jaxedge.relaxation.feasibility import feasibility
from jaxedge.relaxation.judge import Relaxed
from jaxedge.scenario.scenario import Scenario
from jaxedge.scenario.stacking import unstack


def plane_rows(scenarios: Scenario, bound: Modal, asked: Asked) -> Rows:
    """The designs of a batch of scenarios for every name asked for, one name after another."""
    row = partial(_rows, bound=bound, asked=asked)
    alone, scratch = _of_one_stage(scenarios)
    designs: dict[str, Callable[[], Rows]] = {
        JOINT: lambda: row(JOINT, scenarios),
        PRETRAINING_ONLY: lambda: row(PRETRAINING_ONLY, alone, restrict=without_finetuning),
        FINETUNING_ONLY: lambda: row(FINETUNING_ONLY, scratch, restrict=without_pretraining),
        **{name: partial(row, name, scenarios, restrict=r) for name, r in LIMITS.items()},
        EQUAL_ROUNDS: lambda: _equal_rounds(scenarios, asked),
        SEPARATE: lambda: _separate(scenarios, bound, asked),
    }
    parts = []
    for name in asked.designs:
        asked.progress(name, None)
        parts.append(designs[name]())
    return Rows.concatenate(parts)


def _of_one_stage(scenarios: Scenario) -> tuple[Scenario, Scenario]:
    """What leaves a stage out is judged without that stage's least rounds."""
    none = np.zeros_like(scenarios.min_pretraining_rounds)
    return (
        dataclasses.replace(scenarios, min_finetuning_rounds=none),
        dataclasses.replace(scenarios, min_pretraining_rounds=none),
    )


def _rows(
    name: str,
    scenarios: Scenario,
    *,
    bound: Modal,
    asked: Asked,
    restrict: Restriction | None = None,
) -> Rows:
    """The best designs of a batch of scenarios within a restriction of their limits."""
    programs, modes = in_chunks(partial(_in_plane, bound=bound, restrict=restrict), scenarios)
    feasible, energy, delay = feasibility(programs)
    # Infeasible elements are replaced by a feasible one, so that shapes stay and nothing stalls.
    live = np.flatnonzero(feasible)
    standing = np.where(feasible, np.arange(len(feasible)), live[:1].sum())
    given: tuple[Program, Modes] = take((programs, modes), standing)
    gap = asked.gap if live.size else np.inf
    found = search_plane(*given, gap=gap)
    design, lower = found.design, np.asarray(found.lower_bound)
    if not asked.relaxed:
        asked.progress("searching integer designs", None)
        design, lower = search_whole(*given, found, gap=gap)
    outcome = Outcome(
        feasible=feasible,
        least_energy=energy,
        least_delay=delay,
        design=design,
        lower_bound=lower,
        relaxed=_relaxed(found),
    )
    names = (name,) * len(feasible)
    return Rows(names=names, scenarios=scenarios, programs=programs, outcome=outcome)


@partial(jax.jit, static_argnames=("bound", "restrict"))
def _in_plane(
    scenarios: Scenario, *, bound: Modal, restrict: Restriction | None
) -> tuple[Program, Modes]:
    """The programs whose budgets limit the rounds, and the modes of the loss."""

    def one(scenario: Scenario) -> tuple[Program, Modes]:
        program = plane_program(scenario)
        limited = program if restrict is None else restrict(program)
        modes: Modes = jax.tree.map(jnp.asarray, bound.modes(scenario.learning))
        return limited, modes

    return jax.vmap(one)(scenarios)


def _relaxed(found: PlaneSearched) -> Relaxed:
    """The relaxed optimum; prices are those of a program's numerator, the loss times all rounds."""
    rounds = found.design.pretraining_rounds + found.design.finetuning_rounds
    by = np.where(rounds > 0, rounds, 1)
    prices = dataclasses.replace(
        found.prices,
        energy=found.prices.energy * by,
        device_time=found.prices.device_time * by[:, None],
    )
    return Relaxed(design=found.design, prices=prices, lower_bound=found.lower_bound)


def _equal_rounds(scenarios: Scenario, asked: Asked) -> Rows:
    """M = N, by a search along the diagonal."""
    only = dataclasses.replace(asked, designs=(EQUAL_ROUNDS,))
    return Rows.concatenate([searched_rows(scenario, only) for scenario in unstack(scenarios)])


def _separate(scenarios: Scenario, bound: Modal, asked: Asked) -> Rows:
    """Each stage has its share of both budgets, and is best for the loss that it reaches alone."""
    row = partial(_rows, SEPARATE, bound=bound, asked=asked)
    alone, scratch = _of_one_stage(scenarios)
    first = row(with_budget_share(alone, STAGE_SHARE), restrict=without_finetuning).outcome
    second = row(with_budget_share(scratch, 1 - STAGE_SHARE), restrict=without_pretraining).outcome
    # Times are in units of each stage's own delay budget; the joint program's is the whole.
    design = dataclasses.replace(
        second.design,
        pretraining_rounds=first.design.pretraining_rounds,
        server_batch=first.design.server_batch,
        server_sample_time=STAGE_SHARE * first.design.server_sample_time,
        device_sample_time=(1 - STAGE_SHARE) * second.design.device_sample_time,
    )
    programs, _ = in_chunks(partial(_in_plane, bound=bound, restrict=None), scenarios)
    before = first.feasible, first.least_energy, first.least_delay
    outcome = both_stages(before, second, design)
    names = (SEPARATE,) * len(outcome.feasible)
    return Rows(names=names, scenarios=scenarios, programs=programs, outcome=outcome)
