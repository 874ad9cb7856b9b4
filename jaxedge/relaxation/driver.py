"""One driver for batches of programs: every answer is judged, and what failed is tried again."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import jax
import numpy as np

from jaxedge.machine.chunks import BatchLast, in_chunks
from jaxedge.machine.lanes import map_lanes
from jaxedge.machine.trees import put, take
from jaxedge.program.program import Program
from jaxedge.program.responses import Prices
from jaxedge.relaxation import dual_bisection, dual_decomposition, dual_paths
from jaxedge.relaxation.dual_decomposition import State
from jaxedge.relaxation.dual_paths import WARM
from jaxedge.relaxation.fixed_rounds import with_fixed_rounds
from jaxedge.relaxation.judge import RELAXED_GAP, Relaxed, judge
from jaxedge.relaxation.solvers import DUAL_DECOMPOSITION, Solver, solver_named

FAST = 0.15
"""Shrink factor of the barrier in the first attempts."""
FIRST_STEPS = (9, 11, 13)
"""Steps of the first attempt, judged after each: only what is not certified then goes on, from
where it is, so that few wait for the slowest of their chunk (`benchmarks/throughput.py`)."""
_MORE_STEPS = (16, 20, 26, 40, 80)
_CAREFUL = ((0.5, (40, 100)), (0.75, (80, 200)))
NEWTON_ATTEMPTS = 4
"""The first steps, more of them, and two careful paths: what is tried without line searches."""
ATTEMPTS = NEWTON_ATTEMPTS + 1
"""The ways tried on what resists; the last and slowest is bisection."""
_WARM_STEPS = (0, 8, 10)
"""From known prices: they may do as they are."""
_BLOCK = 1 << 14
"""Programs whose paths are kept at a time."""


@BatchLast
@partial(jax.jit, donate_argnums=1)
def decompose(programs: Program, paths: State) -> tuple[Relaxed, State]:
    """Judged answers of the dual decomposition to a batch of programs, and where its paths end."""
    paths = dual_decomposition.advance(programs, paths)
    return judge(programs, dual_decomposition.prices_at(paths)), paths


@jax.jit
def _bisect(programs: Program) -> Relaxed:
    return jax.vmap(lambda p: judge(p, dual_bisection.solve_prices(p)))(programs)


@cache
def judged_by(solver: Solver) -> Callable[[Program], Relaxed]:
    """A compiled function from a batch of programs to a solver's answers, judged."""

    def found(program: Program) -> Relaxed:
        return judge(program, *solver.find(program))

    if solver.lanes is None:
        return jax.jit(jax.vmap(found))
    return jax.jit(map_lanes(found, width=solver.lanes))


def begin(programs: Program, shrink: float, max_steps: int, prices: Prices | None = None) -> State:
    """Paths of the dual decomposition to begin for a batch of programs.

    Args:
        programs: on the host, with a leading batch axis.
        shrink: factor in (0, 1) of the barrier in a full step: 0.15 is fast, 0.5 is careful.
        max_steps: steps allowed.
        prices: to begin from, of an earlier answer or a neighbour's.
    """
    last, known = jax.tree.map(lambda x: np.moveaxis(np.asarray(x), 0, -1), (programs, prices))
    start = dual_paths.even_prices(last, np) if known is None else known
    softness = dual_paths.cold_softness(shrink, np) if known is None else WARM
    paths = dual_paths.begin(start, softness, shrink, max_steps, xp=np)
    back: State = jax.tree.map(lambda x: np.moveaxis(x, -1, 0), paths)
    return back


def solve_relaxed(
    programs: Program,
    *,
    solver: str = DUAL_DECOMPOSITION.name,
    gap: float = RELAXED_GAP,
    attempts: int = ATTEMPTS,
    warm_start: Prices | None = None,
) -> Relaxed:
    """Solve a batch of feasible programs; what misses ``gap`` is retried more carefully.

    Args:
        programs: program with a leading batch axis, float64, on the host.
        solver: a name in `SOLVERS`; only the dual decomposition is retried.
        gap: certified relative gap to reach.
        attempts: how many ways are tried, 1 to `ATTEMPTS`.
        warm_start: prices to begin from; what they do not lead to the gap begins afresh.

    Returns:
        Judged answers in the same order; their `gap` says which ones are certified.

    Raises:
        ValueError: if no solver has this name.
    """
    chosen = solver_named(solver)
    if chosen is not DUAL_DECOMPOSITION:
        return in_chunks(judged_by(chosen), programs)
    parts = []
    for start in range(0, len(programs.gap), _BLOCK):
        block = slice(start, start + _BLOCK)
        some, prices = jax.tree.map(lambda x, b=block: np.asarray(x)[b], (programs, warm_start))
        parts.append(_solve_block(some, gap, attempts, prices))
    joined: Relaxed = jax.tree.map(lambda *xs: np.concatenate(xs), *parts)
    return joined if len(parts) > 1 else parts[0]


def _solve_block(programs: Program, gap: float, attempts: int, prices: Prices | None) -> Relaxed:
    """The best answers to as many programs as may have their paths kept."""
    block = _Block(programs, gap)
    if prices is not None:
        block.follow(partial(begin, prices=prices), FAST, _WARM_STEPS)
    block.follow(begin, FAST, FIRST_STEPS + _MORE_STEPS * (attempts > 1))
    for shrink, stages in _CAREFUL[: max(attempts - 2, 0)]:
        block.follow(begin, shrink, stages)
    if attempts >= ATTEMPTS and block.missed.size:
        last = block.some(block.missed)
        block.keep(block.missed, with_fixed_rounds(last, in_chunks(_bisect, last), gap))
    assert block.best is not None
    return block.best


class _Block:
    """Programs and the best answers to them so far."""

    def __init__(self, programs: Program, gap: float) -> None:
        self.programs, self.gap = programs, gap
        self.best: Relaxed | None = None
        self.missed = np.arange(len(programs.gap))

    def some(self, index: np.ndarray) -> Program:
        """The programs at these positions."""
        return self.programs if len(index) == len(self.programs.gap) else take(self.programs, index)

    def keep(self, index: np.ndarray, answers: Relaxed) -> None:
        """Keep the better of these answers and those before."""
        if self.best is None:
            self.best = answers
        else:
            better = np.flatnonzero(answers.gap < self.best.gap[index])
            self.best = put(self.best, index[better], take(answers, better))
        self.missed = np.flatnonzero(self.best.gap > self.gap)

    def follow(
        self, start: Callable[[Program, float, int], State], shrink: float, stages: tuple[int, ...]
    ) -> None:
        """Follow paths for what missed the gap; after each stage only what missed it goes on."""
        index = self.missed
        if not index.size:
            return
        paths = start(self.programs, shrink, 0)
        if index.size < len(self.programs.gap):
            paths = take(paths, index)
        for steps in stages:
            paths = paths._replace(max_steps=0 * paths.max_steps + steps)
            some = self.some(index)
            answers, paths = in_chunks(decompose, some, paths)
            answers = with_fixed_rounds(some, answers, self.gap)
            self.keep(index, answers)
            resisting = np.flatnonzero(answers.gap > self.gap)
            index, paths = index[resisting], take(paths, resisting)
            if not index.size:
                return
