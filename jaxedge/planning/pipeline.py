"""From a batch of programs to judged designs: feasibility, relaxation, integers, clocks."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from jaxedge.integers.branch_and_bound import branch_and_bound
from jaxedge.integers.local_search import Integer, solve_integer
from jaxedge.machine.trees import put, take
from jaxedge.planning.question import Asked
from jaxedge.planning.schemes import STAGE_SHARE
from jaxedge.program.design import Design
from jaxedge.program.program import Program
from jaxedge.relaxation.driver import ATTEMPTS, solve_relaxed
from jaxedge.relaxation.feasibility import feasibility, with_least_energy
from jaxedge.relaxation.judge import RELAXED_GAP, Relaxed


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """Answers to a batch of programs; entries of infeasible elements are meaningless."""

    feasible: np.ndarray
    """(batch,) bool."""
    least_energy: np.ndarray
    """(batch,) J at the given delay that would do, inf where none would."""
    least_delay: np.ndarray
    """(batch,) s at the given energy that would do; nan where feasible."""
    design: Design
    """Of the program; value inf where nothing was found."""
    lower_bound: np.ndarray
    """(batch,) of the program's value."""
    relaxed: Relaxed
    """The relaxed optimum, which integer designs start from."""


_NONE = slice(0)


def optimise(programs: Program, asked: Asked, *, tighten: slice = _NONE) -> Outcome:
    """Judged designs of a batch of programs.

    Args:
        programs: program with a leading batch axis.
        asked: real or whole rounds and batches, and the gap.
        tighten: elements whose gap branch and bound closes to the one asked for.
    """
    asked.progress("checking which budgets are enough", None)
    feasible, least_energy, least_delay_ = feasibility(programs)
    # Infeasible elements are replaced by a feasible one, so that shapes stay and nothing stalls.
    live = np.flatnonzero(feasible)
    standing = take(programs, np.where(feasible, np.arange(len(feasible)), live[:1].sum()))
    asked.progress("solving the relaxation", None)
    relaxed = solve_relaxed(
        standing,
        solver=asked.solver.name,
        gap=min(asked.gap, RELAXED_GAP) if asked.relaxed else RELAXED_GAP,
        attempts=ATTEMPTS if live.size else 1,
        warm_start=asked.warm_start,
    )
    design, bound = relaxed.design, relaxed.lower_bound
    if not asked.relaxed:
        asked.progress("searching integer designs", None)
        whole = _close_gaps(standing, solve_integer(standing, relaxed), asked, tighten)
        design, bound = with_least_energy(standing, whole.design), whole.lower_bound
    return Outcome(
        feasible=feasible,
        least_energy=least_energy,
        least_delay=least_delay_,
        design=design,
        lower_bound=np.asarray(bound),
        relaxed=relaxed,
    )


def _close_gaps(programs: Program, whole: Integer, asked: Asked, tighten: slice) -> Integer:
    """The integer designs after branch and bound on the chosen elements."""
    chosen = np.arange(len(whole.lower_bound))[tighten]
    if not (asked.max_nodes and chosen.size):
        return whole
    closed = branch_and_bound(
        take(programs, chosen),
        take(whole, chosen),
        gap=asked.gap,
        max_nodes=asked.max_nodes,
        progress=asked.progress,
    )
    return put(whole, chosen, closed)


def both_stages(
    first: tuple[np.ndarray, np.ndarray, np.ndarray], second: Outcome, design: Design
) -> Outcome:
    """The outcome of stages designed separately, each with its share of both budgets.

    Args:
        first: (batch,) each: `feasibility` of pre-training with its share.
        second: of fine-tuning with its own.
        design: put together from both.
    """
    feasible, energy, delay = first
    rest = 1 - STAGE_SHARE
    return dataclasses.replace(
        second,
        feasible=second.feasible & feasible,
        # Each stage needs its share of what is told.
        least_energy=np.maximum(second.least_energy / rest, energy / STAGE_SHARE),
        least_delay=np.fmax(second.least_delay / rest, delay / STAGE_SHARE),
        design=design,
        # Each stage is optimal by its own bound; nothing certifies the two together.
        lower_bound=np.full_like(second.lower_bound, np.nan),
    )


def shadow_prices(programs: Program, relaxed: Relaxed) -> dict[str, np.ndarray]:
    """Derivatives of the relaxed optimal bound to the budgets, 1/J and 1/s.

    By the envelope theorem dTheta/dE = -lam G scale/E with G = 1/(M eta0 + N eta).
    """
    rounds, design, prices = programs.rounds, relaxed.design, relaxed.prices
    below = (
        design.pretraining_rounds * rounds.server_rate
        + design.finetuning_rounds * rounds.device_rate
    )
    weight = programs.scale / np.where(below > 0, below, 1)
    time = np.sum(prices.device_time, axis=-1)
    return {
        "energy_budget": np.asarray(-prices.energy * weight / programs.energy_unit),
        "delay_budget": np.asarray(-time * weight / programs.delay_unit),
    }
