"""Designs under a loss of decaying modes, whose rounds of both stages are searched in a plane."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxedge.bounds.base import Restriction
from jaxedge.bounds.modal import Modal
from jaxedge.bounds.modes import Modes
from jaxedge.machine.chunks import in_chunks
from jaxedge.machine.trees import take
from jaxedge.outer.plane.rounds import plane_program
from jaxedge.outer.plane.search import PlaneSearched, search_plane
from jaxedge.outer.plane.whole import search_whole
from jaxedge.planning.pipeline import Outcome
from jaxedge.planning.question import Asked
from jaxedge.planning.rows import Rows
from jaxedge.planning.schemes import (
    FINETUNING_ONLY,
    JOINT,
    LIMITS,
    PRETRAINING_ONLY,
    without_finetuning,
    without_pretraining,
)
from jaxedge.planning.searched_rows import searched_rows
from jaxedge.program.design import Design
from jaxedge.program.program import Program
from jaxedge.relaxation.feasibility import feasibility
from jaxedge.relaxation.judge import Relaxed
from jaxedge.scenario.scenario import Scenario
from jaxedge.scenario.stacking import unstack


def plane_rows(scenarios: Scenario, bound: Modal, asked: Asked) -> Rows:
    """The designs of a batch of scenarios for every name that is wanted, one name after another."""
    none = np.zeros_like(scenarios.min_pretraining_rounds)
    # What leaves a stage out is judged without that stage's least rounds.
    alone = dataclasses.replace(scenarios, min_finetuning_rounds=none)
    scratch = dataclasses.replace(scenarios, min_pretraining_rounds=none)
    row = partial(_rows, bound=bound, asked=asked)
    designs: dict[str, Callable[[], Rows]] = {
        JOINT: lambda: row(JOINT, scenarios),
        PRETRAINING_ONLY: lambda: row(PRETRAINING_ONLY, alone, restrict=without_finetuning),
        FINETUNING_ONLY: lambda: row(FINETUNING_ONLY, scratch, restrict=without_pretraining),
        **{name: partial(row, name, scenarios, restrict=r) for name, r in LIMITS.items()},
    }

    def one(name: str) -> Rows:
        asked.progress(name, None)
        if name in designs:
            return designs[name]()
        only = dataclasses.replace(asked, designs=(name,))
        return Rows.concatenate([searched_rows(item, only) for item in unstack(scenarios)])

    return Rows.concatenate([one(name) for name in asked.designs])


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
    given: tuple[Scenario, Program, Modes] = take((scenarios, programs, modes), standing)
    found = search_plane(*given[1:], gap=asked.gap if live.size else np.inf)
    design, lower = found.design, np.asarray(found.lower_bound)
    if not asked.relaxed:
        asked.progress("searching integer designs", None)
        design, lower = search_whole(*given[1:], found, gap=asked.gap)
    rounds = np.stack([design.pretraining_rounds, design.finetuning_rounds], axis=-1)
    at = in_chunks(partial(_at_rounds, bound=bound, restrict=restrict), given[0], rounds)
    outcome = Outcome(
        feasible=feasible,
        least_energy=energy,
        least_delay=delay,
        design=_of_program(at, design),
        lower_bound=lower / at.scale,
        relaxed=_relaxed(at, found),
    )
    return Rows(names=(name,) * len(feasible), scenarios=scenarios, programs=at, outcome=outcome)


@partial(jax.jit, static_argnames=("bound", "restrict"))
def _in_plane(
    scenarios: Scenario, *, bound: Modal, restrict: Restriction | None
) -> tuple[Program, Modes]:
    """The programs whose budgets limit the rounds, and the modes of the loss."""

    def one(scenario: Scenario) -> tuple[Program, Modes]:
        program = plane_program(scenario)
        limited = program if restrict is None else restrict(program)
        modes = jax.tree.map(jnp.asarray, bound.modes(scenario.learning))
        return limited, modes

    return jax.vmap(one)(scenarios)


@partial(jax.jit, static_argnames=("bound", "restrict"))
def _at_rounds(
    scenarios: Scenario, rounds: Array, *, bound: Modal, restrict: Restriction | None
) -> Program:
    """The bound's programs at rounds (B, 2), each stage as one round."""

    def one(scenario: Scenario, at: Array) -> Program:
        program = bound.program(scenario, at)
        return program if restrict is None else restrict(program)

    return jax.vmap(one)(scenarios, rounds)


def _of_program(at: Program, design: Design) -> Design:
    """A design of the plane in the units of the program at its rounds."""
    weights = at.server.weight, at.devices.weight[:, 0]
    rounds = design.pretraining_rounds, design.finetuning_rounds
    first, second = (
        np.where(weight > 0, x / np.where(weight > 0, weight, 1), 0)
        for weight, x in zip(weights, rounds, strict=True)
    )
    return dataclasses.replace(
        design,
        pretraining_rounds=first,
        finetuning_rounds=second,
        value=design.value / at.scale,
    )


def _relaxed(at: Program, found: PlaneSearched) -> Relaxed:
    """The relaxed optimum in the same units."""
    energy, times = found.prices.energy / at.scale, found.prices.device_time / at.scale[:, None]
    return Relaxed(
        design=_of_program(at, found.design),
        prices=dataclasses.replace(found.prices, energy=energy, device_time=times),
        lower_bound=np.asarray(found.lower_bound) / at.scale,
    )
