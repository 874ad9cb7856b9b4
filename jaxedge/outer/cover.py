"""What a search over pre-training rounds knows: solved points, and all rounds in pieces."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import jax
import numpy as np

from jaxedge.machine.trees import take
from jaxedge.program.program import Program
from jaxedge.program.responses import Prices
from jaxedge.relaxation.judge import Relaxed

_GOOD_GAP = 1e-3
"""Gap at which an answer's prices are used for the pieces beside it."""

_Tree = TypeVar("_Tree")


def _concatenated(first: _Tree, second: _Tree) -> _Tree:
    joined: _Tree = jax.tree.map(lambda x, y: np.concatenate([x, y]), first, second)
    return joined


class Points(NamedTuple):
    """Solved rounds with their programs and answers."""

    rounds: np.ndarray
    programs: Program
    relaxed: Relaxed

    @property
    def values(self) -> np.ndarray:
        """Bounds in original units."""
        return np.asarray(self.relaxed.design.value * self.programs.scale)

    def prices(self, low: np.ndarray, high: np.ndarray) -> tuple[Prices, Prices]:
        """Prices in original units at the nearest good answers up to ``low`` and from ``high``."""
        gap = self.relaxed.gap
        good = np.flatnonzero(gap <= max(_GOOD_GAP, gap.min()))
        before = np.searchsorted(self.rounds[good], low, side="right") - 1
        after = np.searchsorted(self.rounds[good], high, side="left")
        nearest = [
            good[np.clip(np.where(one < 0, other, one), 0, good.size - 1)]
            for one, other in ((before, after), (after, before))
        ]
        left, right = (self._prices_at(index) for index in nearest)
        return left, right

    def _prices_at(self, index: np.ndarray) -> Prices:
        prices, scale = take(self.relaxed.prices, index), self.programs.scale[index]
        return Prices(energy=prices.energy * scale, device_time=prices.device_time * scale[:, None])

    def joined(self, other: Points) -> Points:
        """All points in the order of their rounds."""
        both = _concatenated(self, other)
        return take(both, np.argsort(both.rounds, kind="stable"))


class Cover(NamedTuple):
    """Pieces of M: between two points, or (low == high) a single one.

    Real pieces hold their ends; whole ones lie strictly between, and their ends are pieces.
    """

    low: np.ndarray
    high: np.ndarray
    bound: np.ndarray

    def joined(self, other: Cover) -> Cover:
        """These pieces, then the others."""
        return _concatenated(self, other)


def rounds_inside(low: float, high: float, count: int, integer: bool) -> np.ndarray:
    """Up to ``count`` rounds strictly between two, evenly spaced in log(1 + M)."""
    rounds = np.expm1(np.linspace(np.log1p(low), np.log1p(high), count + 2)[1:-1])
    if integer:
        few = high - low - 1 <= count
        rounds = np.arange(low + 1, high) if few else np.clip(np.round(rounds), low + 1, high - 1)
    return np.unique(rounds[(rounds > low) & (rounds < high)])


def pieces_between(chain: np.ndarray, integer: bool) -> Cover:
    """Pieces between consecutive rounds of a chain, and with whole rounds its inner points."""
    low, high = chain[:-1], chain[1:]
    if integer:
        gaps = high - low > 1
        low = np.concatenate([low[gaps], chain[1:-1]])
        high = np.concatenate([high[gaps], chain[1:-1]])
    return Cover(low, high, np.full(len(low), -np.inf))


def end_pieces(rounds: np.ndarray) -> Cover:
    """The first and the last point as pieces."""
    ends = rounds[[0, -1]]
    return Cover(ends, ends, np.full(2, -np.inf))
