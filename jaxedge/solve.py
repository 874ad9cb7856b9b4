"""One driver for batches of programs: every answer is judged, and what failed is tried again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxedge.certificates import lower_bound
from jaxedge.design import Design, recover
from jaxedge.program import Program
from jaxedge.responses import Prices
from jaxedge.solvers import GAPS, SOLVERS, dual_bisection, dual_decomposition

RELAXED_GAP = GAPS[SOLVERS[0]]
"""Certified relative gap at which a relaxed answer counts as optimal."""
FIRST_ATTEMPT = (0.1, 16)
"""Shrink factor and most steps of the first attempt: enough for most, so that few wait for the
slowest of their chunk (`benchmarks/throughput.py`)."""
_FURTHER_ATTEMPTS = ((0.1, 40), (0.5, 100), (0.75, 200))
_LARGE, _SMALL = 512, 32
"""Programs in one compiled call: few sizes, so that little is compiled, that stay in cache."""

_Tree = TypeVar("_Tree")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Relaxed:
    """Judged answers to relaxed programs, with a leading batch axis."""

    design: Design
    prices: Prices
    lower_bound: Array

    @property
    def gap(self) -> np.ndarray:
        """(batch,) certified relative gap; inf where nothing is certified."""
        value, bound = np.asarray(self.design.value), np.asarray(self.lower_bound)
        with np.errstate(invalid="ignore", divide="ignore"):
            gap = np.where(bound > 0, (value - bound) / bound, np.inf)
        return np.where(np.isfinite(gap), gap, np.inf)


def batch_last(fn: Callable[..., _Tree], *batches: Any) -> _Tree:
    """Call a function of trailing batch axes with leading ones.

    With the devices before the batch, XLA's innermost loops run over the batch: they fill vectors,
    which loops over a few devices do not.
    """
    moved = jax.tree.map(lambda x: jnp.moveaxis(x, 0, -1), batches)
    with jax.numpy_rank_promotion("allow"):  # () and (K,) are (B,) and (K, B) there
        out = fn(*moved)
    back: _Tree = jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), out)
    return back


def judge(program: Program, prices: Prices) -> Relaxed:
    """Design and certificate of a scalar program, or with trailing batch axes, at given prices.

    Where the energy budget is slack its price is zero, which no logarithm reaches: zero is tried
    too, and the better certificate is kept, and of the two designs the better.
    """
    free = dataclasses.replace(prices, energy=jnp.zeros_like(prices.energy))
    bound, free_bound = lower_bound(program, prices), lower_bound(program, free)
    better = free_bound > bound
    kept: Prices = jax.tree.map(lambda a, b: jnp.where(better, a, b), free, prices)
    design, free_design = recover(program, prices), recover(program, free)
    less = free_design.value < design.value
    best: Design = jax.tree.map(lambda a, b: jnp.where(less, a, b), free_design, design)
    return Relaxed(design=best, prices=kept, lower_bound=jnp.maximum(bound, free_bound))


@jax.jit
def decompose(programs: Program, shrink: float, max_steps: int) -> Relaxed:
    """Judged answers of the dual decomposition to a batch of programs."""

    def solved(programs: Program) -> Relaxed:
        return judge(programs, dual_decomposition.solve_prices(programs, shrink, max_steps))

    return batch_last(solved, programs)


@jax.jit
def _bisect(programs: Program) -> Relaxed:
    return jax.vmap(lambda p: judge(p, dual_bisection.solve_prices(p)))(programs)


@cache
def _judged(solver: str) -> Callable[[Program], Relaxed]:
    """A compiled function from a batch of programs to another solver's answers, judged."""
    if solver == "interior-point":
        from jaxedge.solvers.program_arrow import interior_point_prices as prices
    else:
        from jaxedge.log_program import augmented_lagrangian_prices as prices
    return jax.jit(jax.vmap(lambda program: judge(program, prices(program))))


def solve_relaxed(
    programs: Program,
    *,
    solver: str = SOLVERS[0],
    gap: float = RELAXED_GAP,
    exhaustive: bool = True,
    quick: bool = False,
) -> Relaxed:
    """Solve a batch of feasible programs; what misses ``gap`` is retried more carefully.

    Args:
        programs: program with a leading batch axis, float64.
        solver: one of `SOLVERS`; only the dual decomposition is retried.
        gap: certified relative gap to reach.
        exhaustive: try the slow line searches, too, on what resists.
        quick: give up early on what resists: many programs may be infeasible.

    Returns:
        Judged answers in the same order; their `gap` says which ones are certified.
    """
    if solver != SOLVERS[0]:
        return in_chunks(_judged(solver), programs)

    def trial(shrink: float, max_steps: int) -> Callable[[Program], Relaxed]:
        return lambda p: decompose(p, shrink, max_steps)

    attempts = [trial(*how) for how in _FURTHER_ATTEMPTS] + [_bisect] * exhaustive
    attempts = attempts[: 1 if quick else None]
    best = in_chunks(trial(*FIRST_ATTEMPT), programs)
    for attempt in attempts:
        missed = np.flatnonzero(best.gap > gap)
        if not missed.size:
            break
        retried = in_chunks(attempt, take(programs, missed))
        improved = retried.gap < best.gap[missed]
        best = put(best, missed[improved], take(retried, np.flatnonzero(improved)))
    return best


def _chunks(size: int) -> list[tuple[int, int]]:
    """(start, padded length) of the chunks of a batch."""
    chunks, start = [], 0
    while start < size:
        length = _LARGE if size - start > _LARGE // 4 else _SMALL
        chunks.append((start, length))
        start += length
    return chunks


def chunk_lengths(size: int) -> set[int]:
    """The padded lengths of the chunks of a batch."""
    return {length for _, length in _chunks(size)}


def in_chunks(fn: Callable[..., _Tree], *batches: Any) -> _Tree:
    """Apply a compiled batch function to chunks of two sizes, so that it compiles seldom."""
    size = int(np.shape(jax.tree.leaves(batches)[0])[0])
    parts = []
    for start, length in _chunks(size):
        index = np.minimum(np.arange(start, start + length), size - 1)
        out = fn(*take(batches, index))
        count = min(length, size - start)
        parts.append(jax.tree.map(lambda x, n=count: np.asarray(x)[:n], out))
    joined: _Tree = jax.tree.map(lambda *xs: np.concatenate(xs), *parts)
    return joined


def take(tree: _Tree, index: np.ndarray) -> _Tree:
    """Elements of a batch by position."""
    taken: _Tree = jax.tree.map(lambda x: np.asarray(x)[index], tree)
    return taken


def put(tree: _Tree, index: np.ndarray, values: _Tree) -> _Tree:
    """A batch with the elements at ``index`` replaced."""

    def replaced(x: Any, new: Any) -> np.ndarray:
        out = np.array(x)
        out[index] = new
        return out

    done: _Tree = jax.tree.map(replaced, tree, values)
    return done
