"""What a search over outer variables knows: solved points, and all there are in boxes."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from jaxedge.machine.trees import concatenate, take
from jaxedge.program.program import Program
from jaxedge.program.responses import Prices
from jaxedge.relaxation.judge import Relaxed

_GOOD_GAP = 1e-3
"""Gap at which an answer's prices are used for the boxes beside it."""


_CUTS = 7
"""Across each side of a box of several variables."""


class Points(NamedTuple):
    """Solved outer variables with their programs and answers."""

    outer: np.ndarray
    """(n, d)"""
    programs: Program
    relaxed: Relaxed

    @property
    def values(self) -> np.ndarray:
        """(n,) bounds in original units."""
        return np.asarray(self.relaxed.design.value * self.programs.scale)

    def nearest(self, places: np.ndarray, among: np.ndarray) -> np.ndarray:
        """(m,) positions of the points, ``among`` those given, that are nearest to places (m, d).

        Distances are those of log(1 + x).
        """
        away = np.log1p(places)[:, None] - np.log1p(self.outer[among])
        return np.asarray(among[np.argmin(np.sum(away**2, axis=-1), axis=1)])

    def prices(self, low: np.ndarray, high: np.ndarray) -> tuple[Prices, Prices]:
        """Prices in original units at the good answers nearest to both corners of boxes (m, d)."""
        gap = self.relaxed.gap
        good = np.flatnonzero(gap <= max(_GOOD_GAP, gap.min()))
        left, right = (self._prices_at(self.nearest(corner, good)) for corner in (low, high))
        return left, right

    def _prices_at(self, index: np.ndarray) -> Prices:
        prices, scale = take(self.relaxed.prices, index), self.programs.scale[index]
        return Prices(energy=prices.energy * scale, device_time=prices.device_time * scale[:, None])


class Cover(NamedTuple):
    """Boxes of outer variables, closed, with their lower bounds."""

    low: np.ndarray
    """(n, d)"""
    high: np.ndarray
    """(n, d)"""
    bound: np.ndarray
    """(n,) in original units."""

    @property
    def single(self) -> np.ndarray:
        """(n,) bool: boxes of one point."""
        return np.all(self.low == self.high, axis=1)

    def joined(self, other: Cover) -> Cover:
        """These boxes, then the others."""
        return concatenate([self, other])


def rounds_inside(low: float, high: float, count: int, integer: bool) -> np.ndarray:
    """Up to ``count`` rounds strictly between two, evenly spaced in log(1 + x)."""
    rounds = np.expm1(np.linspace(np.log1p(low), np.log1p(high), count + 2)[1:-1])
    if integer:
        few = high - low - 1 <= count
        rounds = np.arange(low + 1, high) if few else np.clip(np.round(rounds), low + 1, high - 1)
    return np.unique(rounds[(rounds > low) & (rounds < high)])


def _pieces(low: float, high: float, cuts: np.ndarray, integer: bool) -> list[tuple[float, float]]:
    """The interval [low, high] cut: real pieces meet in the cuts, whole ones leave them out."""
    ends = [low, *cuts, high]
    if not integer:
        return list(itertools.pairwise(ends)) if low < high else [(low, high)]
    between = [low - 1, *cuts, high + 1]
    open_ones = [(a + 1, b - 1) for a, b in itertools.pairwise(between) if b - a > 1]
    return [*open_ones, *((float(c), float(c)) for c in cuts)]


def boxes_of(grids: list[np.ndarray], integer: bool) -> Cover:
    """All boxes between the points of a grid for each variable; its ends are those of the whole."""
    sides = [_pieces(grid[0], grid[-1], grid if integer else grid[1:-1], integer) for grid in grids]
    boxes = np.array(list(itertools.product(*sides)))
    return Cover(boxes[..., 0], boxes[..., 1], np.full(len(boxes), -np.inf))


def cut(
    low: np.ndarray, high: np.ndarray, bound: float, count: int, integer: bool
) -> tuple[np.ndarray, Cover]:
    """A box cut across every side: new points (n, d) inside, and its children.

    One variable is cut ``count`` times, at the new points. Of several the children are many: they
    need no solve, and near the best point prices are alike. There two points are taken.
    """
    shift, several = float(integer), len(low) > 1
    each = _CUTS if several else count
    ends = list(zip(low, high, strict=True))
    grids = [rounds_inside(a - shift, b + shift, each, integer) for a, b in ends]
    points = grids[0][:, None]
    if several:
        inner = zip(grids, low, strict=True)
        middle = [grid[grid.size // 2] if grid.size else least for grid, least in inner]
        points = np.array([low, middle])
    sides = [_pieces(*end, grid, integer) for end, grid in zip(ends, grids, strict=True)]
    boxes = np.array(list(itertools.product(*sides)))
    # A child is no lower than the whole that it comes from.
    return points, Cover(boxes[..., 0], boxes[..., 1], np.full(len(boxes), bound))
