"""The fine-tuning bound's search over pre-training rounds M, with a certificate over all of them.

At fixed M the bound is a quasiconvex program; in M it is not. So M is searched by branch and bound:
points M are solved in batches, the pieces between them are bounded from below by the prices of the
points beside them, without a solve, and split where that does not exclude them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxedge.bounds.fine_tuning import FineTuning, fine_tuning_program
from jaxedge.machine.trees import put, take
from jaxedge.outer.cover import Cover, Points, end_pieces, pieces_between, rounds_inside
from jaxedge.program.program import Program
from jaxedge.program.responses import Prices
from jaxedge.relaxation.driver import ATTEMPTS, solve_relaxed
from jaxedge.relaxation.judge import RELAXED_GAP, Relaxed, judge
from jaxedge.scenario.scenario import Scenario

PROMISING = 8
"""Most rounds that are returned."""
_POINTS = 32
"""Points solved in one call, so that one shape is compiled."""
_FEW_ATTEMPTS = 2
"""Where much may be infeasible."""
_PIECES = 64
"""Pieces bounded in one call."""
_SPLITS = 16
"""Most pieces split at a time."""
_MAX_POINTS = 1024
"""Points after which the search returns the gap it has reached."""
_LEAST_ROUNDS = 1e-9
"""Rounds at which M = 0 is priced: a server that costs nothing has no logarithm."""

_LEAST_VARIANCE = 1e-30
"""Of the server, beside a numerator of 1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Searched:
    """The best pre-training rounds with a certificate over all M; bounds are in original units."""

    pretraining_rounds: np.ndarray
    """(n,) the most promising distinct M, best first."""
    programs: Program
    """(n, ...) their programs, each with its own scale."""
    relaxed: Relaxed
    """(n, ...) their judged answers."""
    bound: float
    """Of the first, with real batches; inf where no rounds are known to be feasible."""
    lower_bound: float
    """No design of any M is below it. With whole batches it may exceed ``bound``."""
    pieces: Cover
    """Pieces of M that cover all rounds, with their lower bounds in original units."""

    @property
    def gap(self) -> float:
        """(bound - lower_bound)/lower_bound, at least 0; inf where nothing is certified."""
        if not (np.isfinite(self.bound) and self.lower_bound > 0):
            return float("inf")
        return max(self.bound - self.lower_bound, 0.0) / self.lower_bound


def search(
    scenario: Scenario,
    *,
    integer: bool,
    gap: float = RELAXED_GAP,
    restrict: Callable[[Program], Program] | None = None,
) -> Searched:
    """Minimise the fine-tuning bound over M >= min_pretraining_rounds and all else.

    Args:
        scenario: one validated scenario with a ``pl_constant``; x64 must be enabled.
        integer: search whole M, and let the lower bound be one of whole batches.
        gap: relative gap at which a piece of M is excluded.
        restrict: narrows the limits of a scalar program, in the same way at every M.

    Returns:
        The most promising M, and a lower bound over all M. The gap may be larger than asked for
        after 1024 points, or where the scenario is not feasible.
    """
    task = _Task(scenario, integer, restrict)
    points = task.solve(task.grid())
    if not np.isfinite(points.values.min()):
        points = task.retried(points, np.array([0]))  # if any, the fewest rounds are feasible
    cover = task.bounded(
        points, pieces_between(points.rounds, integer).joined(end_pieces(points.rounds))
    )
    while len(points.rounds) < _MAX_POINTS and np.isfinite(points.values.min()):
        chosen = _to_split(points, cover, integer, gap)
        if not chosen.size:
            break
        points, children = task.split(points, take(cover, chosen))
        cover = take(cover, np.delete(np.arange(len(cover.bound)), chosen)).joined(children)
    points = task.retried(points, _doubtful(points, cover, integer))
    return _result(points, task.bounded(points, cover), integer)


@jax.jit
def programs_at(scenario: Scenario, rounds: Array) -> Program:
    """The programs of one scenario at the given pre-training rounds (n,)."""
    return jax.vmap(partial(fine_tuning_program, scenario))(rounds)


@partial(jax.jit, static_argnames=("integer", "restrict"))
def _box_bounds(
    scenario: Scenario,
    low: Array,
    high: Array,
    left: Prices,
    right: Prices,
    *,
    integer: bool,
    restrict: Callable[[Program], Program] | None,
) -> Array:
    """The best lower bounds (n,) of boxes at two prices each and their mean."""

    def one(low: Array, high: Array, a: Prices, b: Prices) -> Array:
        def at(share: Array) -> Array:
            prices: Prices = jax.tree.map(lambda x, y: (1 - share) * x + share * y, a, b)
            return FineTuning().lower_bound(
                scenario, low, high, prices, integer=integer, restrict=restrict
            )

        return jnp.max(jax.vmap(at)(jnp.asarray([0, 0.5, 1], a.energy.dtype)))

    return jax.vmap(one)(low, high, left, right)


_judge = jax.jit(jax.vmap(judge))


def _with_server_noise(programs: Program) -> Program:
    """Programs whose best server batch, a square root of the noise, has a derivative."""
    variance = jnp.maximum(programs.server.variance, _LEAST_VARIANCE)
    server = dataclasses.replace(programs.server, variance=variance)
    return dataclasses.replace(programs, server=server)


def _filled(count: int, size: int) -> np.ndarray:
    """Positions 0 ... count - 1, repeated up to a multiple of ``size``."""
    return np.resize(np.arange(count), -(-count // size) * size)


@dataclasses.dataclass(frozen=True)
class _Task:
    """What is searched, and the batched calls that it takes."""

    scenario: Scenario
    integer: bool
    restrict: Callable[[Program], Program] | None

    def programs(self, rounds: np.ndarray) -> Program:
        """Programs at the given rounds."""
        programs: Program = programs_at(self.scenario, rounds)
        return programs if self.restrict is None else jax.vmap(self.restrict)(programs)

    def grid(self) -> np.ndarray:
        """Rounds from the fewest up to what one budget alone would allow.

        M rounds of the smallest batch b take at least M b tau_min, and within the whole delay at
        least M^3 b^3 work of energy.
        """
        least = float(self.scenario.min_pretraining_rounds)  # type: ignore[arg-type]
        server = take(self.programs(np.array([max(least, 1.0)])), np.array(0)).server
        sample = max(float(server.min_time), float(np.cbrt(server.work)))
        most = (1 + 1e-9) / (sample * float(server.min_batch))
        most = max(np.floor(most) if self.integer else most, least)
        return np.unique([least, *rounds_inside(least, most, _POINTS - 2, self.integer), most])

    def solve(self, rounds: np.ndarray) -> Points:
        """Quick answers: what is hard or infeasible may come without a certificate."""
        filled = rounds[_filled(len(rounds), _POINTS)]
        points = Points(filled, self.programs(filled), self.answers(filled, attempts=_FEW_ATTEMPTS))
        return take(points, np.arange(len(rounds)))

    def answers(self, rounds: np.ndarray, *, attempts: int = ATTEMPTS) -> Relaxed:
        """Judged answers at the given rounds."""
        near = self.programs(np.maximum(rounds, _LEAST_ROUNDS))
        relaxed = solve_relaxed(_with_server_noise(near), attempts=attempts)
        if rounds.min() > 0:
            return relaxed
        judged: Relaxed = _judge(self.programs(rounds), relaxed.prices)
        return judged

    def retried(self, points: Points, which: np.ndarray) -> Points:
        """The points with those at ``which`` solved more carefully where they missed the gap."""
        which = which[points.relaxed.gap[which] > RELAXED_GAP]
        if not which.size:
            return points
        filled = which[_filled(len(which), _POINTS)]
        again = take(self.answers(points.rounds[filled]), np.arange(len(which)))
        better = np.flatnonzero(again.gap < points.relaxed.gap[which])
        return points._replace(relaxed=put(points.relaxed, which[better], take(again, better)))

    def split(self, points: Points, pieces: Cover) -> tuple[Points, Cover]:
        """New points inside the pieces, and the pieces between them."""
        each = _POINTS // len(pieces.low)
        inside, children = [], []
        for low, high, bound in zip(*pieces, strict=True):
            rounds = rounds_inside(low, high, each, self.integer)
            child = pieces_between(np.array([low, *rounds, high]), self.integer)
            inside.append(rounds)
            # A piece is no lower than the whole that it comes from.
            children.append(child._replace(bound=np.maximum(child.bound, bound)))
        cover: Cover = jax.tree.map(lambda *parts: np.concatenate(parts), *children)
        points = points.joined(self.solve(np.concatenate(inside)))
        return points, self.bounded(points, cover)

    def bounded(self, points: Points, cover: Cover) -> Cover:
        """The cover with bounds from the prices of its points."""
        count = len(cover.low)
        found = []
        for part in _filled(count, _PIECES).reshape(-1, _PIECES):
            low, high = cover.low[part], cover.high[part]
            inward = self.integer & (low < high)
            first, last = low + inward, high - inward
            prices = points.prices(low, high)
            ends = first[:, None], last[:, None]
            settings = {"integer": self.integer, "restrict": self.restrict}
            found.append(_box_bounds(self.scenario, *ends, *prices, **settings))
        bound = np.concatenate(found)[:count]
        return cover._replace(bound=np.maximum(cover.bound, bound))


def _to_split(points: Points, cover: Cover, integer: bool, gap: float) -> np.ndarray:
    """The pieces to split next, the least bounds first."""
    wide = cover.high - cover.low > (0 if integer else 1e-9 * (1 + cover.high))
    doubtful = cover.bound < _target(points, cover, integer) * (1 - gap)
    if integer:
        # Bounds with whole batches do not settle which rounds are best with real ones.
        doubtful |= _beside_best(points, cover, gap)
    chosen = np.flatnonzero(wide & doubtful)
    return chosen[np.argsort(cover.bound[chosen], kind="stable")][:_SPLITS]


def _beside_best(points: Points, cover: Cover, gap: float) -> np.ndarray:
    """(n,) bool: the pieces beside the best point at whose ends the values do not agree."""
    best = int(np.argmin(points.values))
    beside = np.zeros(len(cover.low), bool)
    for low, high in ((best - 1, best), (best, best + 1)):
        if low >= 0 and high < len(points.rounds):
            ends = points.rounds[[low, high]]
            differ = points.values[[low, high]].max() > points.values[best] * (1 + gap)
            beside |= differ & (cover.low == ends[0]) & (cover.high == ends[1])
    return beside


def _target(points: Points, cover: Cover, integer: bool) -> float:
    """What the pieces have to reach for the best point to be proven best."""
    best = float(points.values.min())
    if not integer:
        return best
    # With whole batches the lower bound at single rounds is what limits the certificate.
    certified = points.rounds[points.relaxed.gap <= RELAXED_GAP]
    single = (cover.low == cover.high) & np.isin(cover.low, certified)
    return float(cover.bound[single].min()) if single.any() else best


def _promising(points: Points, cover: Cover, integer: bool) -> np.ndarray:
    """The best point, then those of the least values, or least bounds with whole batches."""
    score = points.values.copy()
    best = int(np.argmin(score))
    if integer:
        single = cover.low == cover.high
        at = np.searchsorted(points.rounds, cover.low[single])
        score[at] = np.where(np.isfinite(score[at]), cover.bound[single], np.inf)
    score[best] = -np.inf
    order = np.argsort(score, kind="stable")[:PROMISING]
    return np.asarray(order[score[order] < np.inf])


def _doubtful(points: Points, cover: Cover, integer: bool) -> np.ndarray:
    """Points on which the result rests, to be solved carefully where that was not done."""
    low = cover.low[(cover.low == cover.high) & (cover.bound < points.values.min())]
    below = np.flatnonzero(np.isin(points.rounds, low))
    promising = _promising(points, cover, integer)
    return np.union1d(promising if integer else promising[:1], below)


def _result(points: Points, cover: Cover, integer: bool) -> Searched:
    best = take(points, _promising(points, cover, integer))
    return Searched(
        pretraining_rounds=best.rounds,
        programs=best.programs,
        relaxed=best.relaxed,
        bound=float(best.values[0]),
        lower_bound=float(cover.bound.min()),
        pieces=cover,
    )
