"""A bound's search over what its program holds fixed, with a certificate over all of it.

At fixed outer variables a bound is a quasiconvex program; in them it is not. So they are searched
by branch and bound: points are solved in batches, the boxes between them are bounded from below by
the prices of the points beside them, without a solve, and cut where that does not exclude them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxedge.bounds.base import FINETUNING, PRETRAINING, Bound, Restriction
from jaxedge.machine.chunks import in_chunks
from jaxedge.machine.trees import concatenate, put, take
from jaxedge.outer.cover import Cover, Points, boxes_of, cut, rounds_inside
from jaxedge.outer.limits import most_rounds
from jaxedge.outer.selection import SPLITS, doubtful, promising, to_split
from jaxedge.program.program import Program
from jaxedge.program.responses import Prices
from jaxedge.relaxation.cheapest import cheapest_of_each, fewest
from jaxedge.relaxation.driver import ATTEMPTS, solve_relaxed
from jaxedge.relaxation.fixed_rounds import with_fixed_rounds
from jaxedge.relaxation.judge import Relaxed, judge
from jaxedge.scenario.scenario import Scenario

_POINTS = 32
"""Points solved in one call, so that one shape is compiled."""
_FEW_ATTEMPTS = 2
"""Where much may be infeasible."""
_BOXES = 64
"""Boxes bounded in one call, sixteen times as many for several variables."""
_MAX_POINTS = 1024
"""Points after which the search returns the gap it has reached."""
_POINT_SHARE = 0.1
"""Of a gap smaller than the bound's own, that points may take up."""
_LEAST_ROUNDS = 1e-9
"""Rounds at which 0 is priced: a stage that costs nothing has no logarithm."""
_LEAST_VARIANCE = 1e-30
"""Of the batches, beside a numerator of 1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Searched:
    """The best outer variables with a certificate over all; bounds are in original units."""

    task: Task
    outer: np.ndarray
    """(n, d) the most promising distinct points, best first."""
    programs: Program
    """(n, ...) their programs, each with its own scale."""
    relaxed: Relaxed
    """(n, ...) their judged answers."""
    bound: float
    """Of the first, with real batches; inf where no point is known to be feasible."""
    lower_bound: float
    """No design is below it. With whole batches it may exceed ``bound``."""
    boxes: Cover
    """Boxes that cover all outer variables, with their lower bounds in original units."""

    @property
    def gap(self) -> float:
        """(bound - lower_bound)/lower_bound, at least 0; inf where nothing is certified."""
        if not (np.isfinite(self.bound) and self.lower_bound > 0):
            return float("inf")
        return max(self.bound - self.lower_bound, 0.0) / self.lower_bound


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """What is searched, and the batched calls that it takes; x64 must be enabled."""

    bound: Bound
    scenario: Scenario
    """One validated scenario with the bound's constants."""
    integer: bool
    """Search whole rounds, and let lower bounds be those of whole batches."""
    gap: float
    """Relative, at which a box is excluded."""
    restrict: Restriction | None = None
    fixed: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Outer variables that are given."""
    tied: bool = False
    """All outer variables are equal."""

    @property
    def point_gap(self) -> float:
        """Relative, to which single points are solved: closer than the boxes beside them."""
        usual = self.bound.relaxed_gap
        return usual if self.integer or self.gap >= usual else _POINT_SHARE * self.gap

    def least(self) -> np.ndarray:
        """(len(bound.outer),) the fewest rounds."""
        asked = {
            PRETRAINING: self.scenario.min_pretraining_rounds,
            FINETUNING: self.scenario.min_finetuning_rounds,
        }
        if not self.bound.finite_without_finetuning:
            asked[FINETUNING] = np.maximum(asked[FINETUNING], 1)
        low = np.array([float(self.fixed.get(name, asked[name])) for name in self.bound.outer])
        return np.full_like(low, low.max()) if self.tied else low

    def grids(self) -> list[np.ndarray]:
        """For each searched variable a grid from the fewest up to what budgets could allow."""
        low = self.least()
        ones = take(self.programs(np.maximum(low, 1.0)[None]), np.array(0))
        most = most_rounds(ones, np.maximum(low, 1.0), self.bound.outer)
        most = np.maximum(np.floor(most) if self.integer else most, low)
        most = np.array([self.fixed.get(n, m) for n, m in zip(self.bound.outer, most, strict=True)])
        if self.tied:
            low, most = low[:1], most.min(keepdims=True)
        count = round(_POINTS ** (1 / len(low)))
        return [
            np.unique([a, *rounds_inside(a, b, count - 2, self.integer), b])
            for a, b in zip(low, most, strict=True)
        ]

    def programs(self, outer: np.ndarray) -> Program:
        """Programs (n, ...) at the given points (n, d); of tied variables the first counts."""
        every = np.repeat(outer[:, :1], len(self.bound.outer), axis=1) if self.tied else outer
        programs: Program = programs_at(self.bound, self.scenario, every)
        return programs if self.restrict is None else jax.vmap(self.restrict)(programs)

    def solve(self, outer: np.ndarray) -> Points:
        """Quick answers: what is hard or infeasible may come without a certificate."""
        filled = outer[_filled(len(outer), _POINTS)]
        answers = self.answers(filled, attempts=_FEW_ATTEMPTS)
        return take(Points(filled, self.programs(filled), answers), np.arange(len(outer)))

    def answers(self, outer: np.ndarray, *, attempts: int = ATTEMPTS) -> Relaxed:
        """Judged answers at the given points."""
        near = _with_noise(self.programs(np.maximum(outer, _LEAST_ROUNDS)))
        relaxed = solve_relaxed(near, gap=self.point_gap, attempts=attempts)
        if outer.min() > 0:
            return relaxed
        programs = jax.tree.map(np.asarray, self.programs(outer))
        return with_fixed_rounds(programs, _judge(programs, relaxed.prices), 0.0)

    def retried(self, points: Points, which: np.ndarray) -> Points:
        """The points with those at ``which`` solved more carefully where they missed the gap."""
        which = which[points.relaxed.gap[which] > self.point_gap]
        if not which.size:
            return points
        filled = which[_filled(len(which), _POINTS)]
        again = take(self.answers(points.outer[filled]), np.arange(len(which)))
        better = np.flatnonzero(again.gap < points.relaxed.gap[which])
        return points._replace(relaxed=put(points.relaxed, which[better], take(again, better)))

    def split(self, points: Points, boxes: Cover) -> tuple[Points, Cover]:
        """New points inside the boxes, and the boxes between them."""
        each = max(_POINTS // len(boxes.low), 1)
        parts = [cut(*box, each, self.integer) for box in zip(*boxes, strict=True)]
        known = {tuple(outer) for outer in points.outer}
        new = np.unique(np.concatenate([part[0] for part in parts[:SPLITS]]), axis=0)
        new = new[[tuple(outer) not in known for outer in new]]
        points = concatenate([points, self.solve(new)]) if len(new) else points
        return points, self.bounded(points, concatenate([part[1] for part in parts]))

    def bounded(self, points: Points, cover: Cover) -> Cover:
        """The cover with bounds from the prices of its points."""
        size = _BOXES if cover.low.shape[1] == 1 else 16 * _BOXES
        found = []
        for part in _filled(len(cover.low), size).reshape(-1, size):
            low, high = cover.low[part], cover.high[part]
            found.append(self._box_bounds(low, high, *points.prices(low, high)))
        bound = np.concatenate(found)[: len(cover.low)]
        return cover._replace(bound=np.maximum(cover.bound, bound))

    def impossible(self, outer: np.ndarray) -> np.ndarray:
        """(n,) bool: no design has as many rounds."""
        filled = outer[_filled(len(outer), _POINTS)]
        least = jax.tree.map(np.asarray, self.programs(filled))
        never = in_chunks(cheapest_of_each, least, *fewest(least)).provably_not
        return np.asarray(never)[: len(outer)]

    def _box_bounds(self, low: np.ndarray, high: np.ndarray, left: Prices, right: Prices) -> Any:
        if self.tied:
            low, high = (np.repeat(x, len(self.bound.outer), axis=1) for x in (low, high))
        return _box_bounds(
            self.bound,
            self.scenario,
            *(low, high, left, right),
            integer=self.integer,
            restrict=self.restrict,
        )


def search(task: Task) -> Searched:
    """Minimise a bound over outer variables of at least the fewest rounds, and all else.

    Returns:
        The most promising points, and a lower bound over all. The gap may be larger than asked for
        after many points, or where the scenario is not feasible.
    """
    grids = task.grids()
    points = task.solve(
        np.stack(np.meshgrid(*grids, indexing="ij"), axis=-1).reshape(-1, len(grids))
    )
    if not np.isfinite(points.values.min()):
        points = task.retried(points, np.array([0]))  # if any, the fewest rounds are feasible
    cover = task.bounded(points, boxes_of(grids, task.integer))
    while len(points.outer) < _MAX_POINTS and np.isfinite(points.values.min()):
        chosen = to_split(task, points, cover)
        if not chosen.size:
            break
        never = task.impossible(cover.low[chosen])
        cover.bound[chosen[never]] = np.inf
        chosen = chosen[~never]
        if not chosen.size:
            continue
        points, children = task.split(points, take(cover, chosen))
        cover = take(cover, np.delete(np.arange(len(cover.bound)), chosen)).joined(children)
    points = task.retried(points, doubtful(task, points, cover))
    return _result(task, points, task.bounded(points, cover))


@partial(jax.jit, static_argnames="bound")
def programs_at(bound: Bound, scenario: Scenario, outer: Array) -> Program:
    """The programs of one scenario at outer variables (n, d)."""
    return jax.vmap(partial(bound.program, scenario))(outer)


@partial(jax.jit, static_argnames=("bound", "integer", "restrict"))
def _box_bounds(
    bound: Bound,
    scenario: Scenario,
    low: Array,
    high: Array,
    left: Prices,
    right: Prices,
    *,
    integer: bool,
    restrict: Restriction | None,
) -> Array:
    """(n,) the best lower bounds of boxes (n, d) at two prices each and their mean."""

    def one(low: Array, high: Array, a: Prices, b: Prices) -> Array:
        def at(share: Array) -> Array:
            prices: Prices = jax.tree.map(lambda x, y: (1 - share) * x + share * y, a, b)
            return bound.lower_bound(
                scenario, low, high, prices, integer=integer, restrict=restrict
            )

        return jnp.max(jax.vmap(at)(jnp.asarray([0, 0.5, 1], a.energy.dtype)))

    return jax.vmap(one)(low, high, left, right)


_judge = jax.jit(jax.vmap(judge))


def _with_noise(programs: Program) -> Program:
    """Programs whose best batches, square roots of the noise, have derivatives."""

    def noisy(part: Any) -> Any:
        return dataclasses.replace(part, variance=jnp.maximum(part.variance, _LEAST_VARIANCE))

    return dataclasses.replace(
        programs, server=noisy(programs.server), devices=noisy(programs.devices)
    )


def _filled(count: int, size: int) -> np.ndarray:
    """Positions 0 ... count - 1, repeated up to a multiple of ``size``."""
    return np.resize(np.arange(count), -(-count // size) * size)


def _result(task: Task, points: Points, cover: Cover) -> Searched:
    best = take(points, promising(task, points, cover))
    return Searched(
        task=task,
        outer=best.outer,
        programs=best.programs,
        relaxed=best.relaxed,
        bound=float(best.values[0]),
        lower_bound=float(cover.bound.min()),
        boxes=cover,
    )
