"""Closes the gap of an integer design under the fine-tuning bound: every M that may be better.

The search over pre-training rounds leaves pieces of M whose lower bound is below the design. Each
whole M in them is a program of its own, and branch and bound excludes or improves it.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.integers.branch_and_bound import branch_and_bound
from jaxedge.integers.local_search import solve_integer
from jaxedge.machine.trees import put, take
from jaxedge.outer.cover import Cover
from jaxedge.outer.search import Searched, programs_at
from jaxedge.program.design import Design
from jaxedge.program.program import Program
from jaxedge.relaxation.driver import solve_relaxed
from jaxedge.relaxation.feasibility import with_least_energy
from jaxedge.relaxation.judge import Relaxed
from jaxedge.scenario.scenario import Scenario
from jaxedge.words.progress import Progress

_MOST_ROUNDS = 1024
"""Most M that are looked at one by one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Incumbent:
    """The best design known, as a batch of one program, with a lower bound over all M."""

    program: Program
    relaxed: Relaxed
    design: Design
    lower_bound: float
    """In original units."""

    @property
    def value(self) -> float:
        """The design's bound in original units."""
        return float(self.design.value[0] * self.program.scale[0])


def best_of_promising(found: Searched) -> Incumbent:
    """The best integer design at the promising rounds of a search."""
    whole = solve_integer(found.programs, found.relaxed)
    return _best(found.programs, found.relaxed, whole.design, found.lower_bound)


def tightened(
    scenario: Scenario,
    found: Searched,
    incumbent: Incumbent,
    *,
    gap: float,
    max_nodes: int,
    progress: Progress,
) -> Incumbent:
    """The incumbent after branch and bound over every M that its gap leaves open.

    Args:
        scenario: one validated scenario.
        found: the search with whole rounds, not restricted.
        incumbent: a design to beat, with the search's lower bound.
        gap: to reach.
        max_nodes: allowed for each M.
        progress: called with (text, fraction or None) while it works.

    Returns:
        A design and a lower bound no worse than before.
    """
    cutoff = incumbent.value / (1 + gap)
    still = found.pieces.bound < cutoff
    pieces = take(found.pieces, np.flatnonzero(still))
    if not 0 < np.sum(np.maximum(pieces.high - pieces.low - 1, 1)) <= _MOST_ROUNDS:
        return incumbent
    rounds = _whole_rounds(pieces)
    programs = programs_at(scenario, rounds)
    progress(f"branch and bound: {rounds.size} numbers of pre-training rounds", None)
    relaxed = solve_relaxed(programs)
    own = solve_integer(programs, relaxed)
    cap = incumbent.value / np.asarray(programs.scale)
    start = np.minimum(own.design.value, cap)
    closed = branch_and_bound(
        programs,
        dataclasses.replace(own, design=dataclasses.replace(own.design, value=jnp.asarray(start))),
        gap=gap,
        max_nodes=max_nodes,
        progress=progress,
    )
    improved = np.flatnonzero(np.asarray(closed.design.value) < start)
    designs = put(own.design, improved, take(closed.design, improved))
    lower = np.append(found.pieces.bound[~still], closed.lower_bound * programs.scale)
    best = _best(programs, relaxed, designs, float(lower.min()))
    if best.value < incumbent.value:
        return best
    return dataclasses.replace(incumbent, lower_bound=max(best.lower_bound, incumbent.lower_bound))


def _whole_rounds(pieces: Cover) -> np.ndarray:
    """The whole M of pieces: single ones, and all strictly between two."""
    inside = [
        np.arange(low + 1, high) if low < high else np.array([low])
        for low, high in zip(pieces.low, pieces.high, strict=True)
    ]
    return np.unique(np.concatenate(inside))


def _best(programs: Program, relaxed: Relaxed, designs: Design, lower: float) -> Incumbent:
    designs = with_least_energy(programs, designs)
    index = np.array([np.argmin(designs.value * programs.scale)])
    program, answer, design = take((programs, relaxed, designs), index)
    return Incumbent(
        program=jax.tree.map(np.asarray, program), relaxed=answer, design=design, lower_bound=lower
    )
