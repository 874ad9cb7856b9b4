"""From a batch of programs to judged designs: feasibility, relaxation, integers, clocks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import numpy as np

from jaxedge.branch_and_bound import branch_and_bound
from jaxedge.cheapest import cheapest_of_each, fewest, least_delay
from jaxedge.chunks import in_chunks, put, take
from jaxedge.design import Design
from jaxedge.driver import ATTEMPTS, RELAXED_GAP, Relaxed, solve_relaxed
from jaxedge.integers import Whole, solve_integer
from jaxedge.program import Program
from jaxedge.responses import Prices

Progress = Callable[[str, float | None], None]

_least_delay = jax.jit(jax.vmap(least_delay))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """What the user asked for, with defaults filled in."""

    bound: str
    solver: str
    """Of the relaxation; integer designs are searched by the dual decomposition from there."""
    relaxed: bool
    gap: float
    max_nodes: int
    """Nodes that branch and bound may visit."""
    progress: Progress
    warm_start: Prices | None = None
    """Where the relaxation begins, a row for each program."""


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


def feasibility(programs: Program) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which programs are not proven infeasible, and the least energy (J) and delay (s) of each."""
    point = fewest(programs)
    least = in_chunks(cheapest_of_each, programs, *point)
    feasible, delay = ~np.asarray(least.provably_not), np.full(len(least.fits), np.nan)
    short = np.flatnonzero(~feasible)
    if short.size:
        delay[short] = in_chunks(_least_delay, *take((programs, *point), short))
    return feasible, least.energy * programs.energy_unit, delay * programs.delay_unit


def with_least_energy(programs: Program, design: Design) -> Design:
    """The designs with clocks and powers of least energy within the delay, where that works out."""
    again = in_chunks(
        cheapest_of_each,
        programs,
        design.pretraining_rounds,
        design.finetuning_rounds,
        design.server_batch,
        design.device_batch,
    )
    fits = np.flatnonzero(again.fits & np.isfinite(design.value))
    return put(design, fits, take(again.design, fits))


_NONE = slice(0)


def no_progress(text: str, fraction: float | None) -> None:
    """Say nothing."""


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
        solver=asked.solver,
        gap=min(asked.gap, RELAXED_GAP) if asked.relaxed else RELAXED_GAP,
        attempts=ATTEMPTS if live.size else 1,
        warm_start=asked.warm_start,
    )
    design, bound = relaxed.design, relaxed.lower_bound
    if not asked.relaxed:
        asked.progress("searching integer designs", None)
        whole = _tightened(standing, solve_integer(standing, relaxed), asked, tighten)
        design, bound = with_least_energy(standing, whole.design), whole.lower_bound
    return Outcome(
        feasible=feasible,
        least_energy=least_energy,
        least_delay=least_delay_,
        design=design,
        lower_bound=np.asarray(bound),
        relaxed=relaxed,
    )


def _tightened(programs: Program, whole: Whole, asked: Asked, tighten: slice) -> Whole:
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
    return put(whole, chosen, closed.whole)


def shadow_prices(programs: Program, relaxed: Relaxed) -> dict[str, np.ndarray]:
    """Derivatives of the relaxed optimal bound to the budgets, 1/J and 1/s.

    By the envelope theorem dTheta/dE = -lam G scale/E with G = 1/(M eta0 + N eta).
    """
    rounds, design, prices = programs.rounds, relaxed.design, relaxed.prices
    weight = programs.scale / (
        design.pretraining_rounds * rounds.server_rate
        + design.finetuning_rounds * rounds.device_rate
    )
    time = np.sum(prices.device_time, axis=-1)
    return {
        "energy_budget": np.asarray(-prices.energy * weight / programs.energy_unit),
        "delay_budget": np.asarray(-time * weight / programs.delay_unit),
    }
