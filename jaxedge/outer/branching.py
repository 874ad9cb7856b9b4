"""Closes the gap of an integer design of a searched bound: every whole point that may be better.

The search over outer variables leaves boxes whose lower bound is below the design. Each whole point
in them is a program of its own, and branch and bound excludes or improves it.
"""

from __future__ import annotations

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.integers.branch_and_bound import branch_and_bound
from jaxedge.integers.local_search import solve_integer
from jaxedge.machine.trees import put, take
from jaxedge.outer.cover import Cover
from jaxedge.outer.search import Searched
from jaxedge.program.design import Design
from jaxedge.program.program import Program
from jaxedge.relaxation.driver import solve_relaxed
from jaxedge.relaxation.feasibility import feasibility, with_least_energy
from jaxedge.relaxation.judge import Relaxed
from jaxedge.words.progress import Progress

_MOST_POINTS = 1024
"""Most outer variables that are looked at one by one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Incumbent:
    """The best design known, as a batch of one program, with a lower bound over all."""

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
    """The best integer design at the promising points of a search."""
    whole = solve_integer(found.programs, found.relaxed)
    return _best(found.programs, found.relaxed, whole.design, found.lower_bound)


def close_gap(
    found: Searched, incumbent: Incumbent, *, gap: float, max_nodes: int, progress: Progress
) -> Incumbent:
    """The incumbent after branch and bound over every point that its gap leaves open.

    Args:
        found: the search with whole rounds.
        incumbent: a design to beat, with the search's lower bound.
        gap: to reach.
        max_nodes: allowed for each point.
        progress: called with (text, fraction or None) while it works.

    Returns:
        A design and a lower bound no worse than before.
    """
    cutoff = incumbent.value / (1 + gap)
    still = found.boxes.bound < cutoff
    boxes = take(found.boxes, np.flatnonzero(still))
    if not 0 < np.sum(np.prod(boxes.high - boxes.low + 1, axis=1)) <= _MOST_POINTS:
        return incumbent
    closed = [float(found.boxes.bound[~still].min(initial=np.inf))]
    programs = jax.tree.map(np.asarray, found.task.programs(_whole_points(boxes)))
    programs = take(programs, np.flatnonzero(feasibility(programs)[0]))
    if programs.gap.size:
        relaxed = solve_relaxed(programs)
        lower = np.asarray(relaxed.lower_bound * programs.scale)
        closed.append(float(lower[lower >= cutoff].min(initial=np.inf)))
        programs, relaxed = take((programs, relaxed), np.flatnonzero(lower < cutoff))
    if not programs.gap.size:
        return dataclasses.replace(
            incumbent, lower_bound=max(min(*closed, incumbent.value), incumbent.lower_bound)
        )
    progress(f"branch and bound: {programs.gap.size} numbers of rounds", None)
    own = solve_integer(programs, relaxed)
    cap = incumbent.value / np.asarray(programs.scale)
    start = np.minimum(own.design.value, cap)
    whole = branch_and_bound(
        programs,
        dataclasses.replace(own, design=dataclasses.replace(own.design, value=jnp.asarray(start))),
        gap=gap,
        max_nodes=max_nodes,
        progress=progress,
    )
    improved = np.flatnonzero(np.asarray(whole.design.value) < start)
    designs = put(own.design, improved, take(whole.design, improved))
    closed.append(float(np.min(whole.lower_bound * programs.scale)))
    best = _best(programs, relaxed, designs, min(closed))
    if best.value < incumbent.value:
        return best
    return dataclasses.replace(
        incumbent, lower_bound=max(min(*closed, incumbent.value), incumbent.lower_bound)
    )


def _whole_points(boxes: Cover) -> np.ndarray:
    """(n, d) the whole points of boxes."""
    inside: set[tuple[float, ...]] = set()
    for low, high in zip(boxes.low, boxes.high, strict=True):
        inside |= set(itertools.product(*map(np.arange, low, high + 1)))
    return np.array(sorted(inside))


def _best(programs: Program, relaxed: Relaxed, designs: Design, lower: float) -> Incumbent:
    designs = with_least_energy(programs, designs)
    index = np.array([np.argmin(designs.value * programs.scale)])
    program, answer, design = take((programs, relaxed, designs), index)
    return Incumbent(
        program=jax.tree.map(np.asarray, program), relaxed=answer, design=design, lower_bound=lower
    )
