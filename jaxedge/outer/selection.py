"""Which boxes of a search are cut next, and on which points its result rests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jaxedge.outer.cover import Cover, Points

if TYPE_CHECKING:
    from jaxedge.outer.search import Task

PROMISING = 8
"""Most points that are returned."""
SPLITS = 16
"""Most boxes cut at a time, four times as many of several variables."""


def to_split(task: Task, points: Points, cover: Cover) -> np.ndarray:
    """The boxes to cut next, the least bounds first."""
    width = np.max(cover.high - cover.low - 1e-9 * (1 + cover.high) * (not task.integer), axis=1)
    open_ones = cover.bound < _target(task, points, cover) * (1 - task.gap)
    if task.integer:
        # Bounds with whole batches do not settle which rounds are best with real ones.
        open_ones |= _beside_best(task, points, cover)
    # Of several variables single boxes come without a solved point.
    cuttable = (width > 0) | _unsolved_singles(points, cover)
    chosen = np.flatnonzero(cuttable & open_ones)
    most = SPLITS if cover.low.shape[1] == 1 else 4 * SPLITS
    return chosen[np.argsort(cover.bound[chosen], kind="stable")][:most]


def _beside_best(task: Task, points: Points, cover: Cover) -> np.ndarray:
    """(n,) bool: the boxes beside the best point at whose corners the values do not agree."""
    best = int(np.argmin(points.values))
    touches = np.all(
        (cover.low - 1 <= points.outer[best]) & (points.outer[best] <= cover.high + 1), 1
    )
    beside = np.flatnonzero(touches & np.isfinite(cover.bound))
    every = np.arange(len(points.outer))
    ends = [
        points.values[points.nearest(corner, every)]
        for corner in (np.maximum(cover.low[beside] - 1, 0), cover.high[beside] + 1)
    ]
    differ = np.maximum(*ends) > points.values[best] * (1 + task.gap)
    return np.isin(np.arange(len(cover.low)), beside[differ])


def _solved_singles(points: Points, cover: Cover) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of one point, and the points in them, where these were solved."""
    places = {tuple(outer): i for i, outer in enumerate(points.outer)}
    pairs = [(i, places.get(tuple(cover.low[i]), -1)) for i in np.flatnonzero(cover.single)]
    boxes, at = np.array([pair for pair in pairs if pair[1] >= 0], int).reshape(-1, 2).T
    return boxes, at


def _unsolved_singles(points: Points, cover: Cover) -> np.ndarray:
    """(n,) bool: boxes of one point that was not solved."""
    unsolved = cover.single
    unsolved[_solved_singles(points, cover)[0]] = False
    return unsolved & np.isfinite(cover.bound)


def _target(task: Task, points: Points, cover: Cover) -> float:
    """What the boxes have to reach for the best point to be proven best."""
    best = float(points.values.min())
    if not task.integer:
        return best
    # With whole batches the lower bound at single points is what limits the certificate.
    boxes, at = _solved_singles(points, cover)
    certified = boxes[points.relaxed.gap[at] <= task.point_gap]
    return float(cover.bound[certified].min()) if certified.size else best


def promising(task: Task, points: Points, cover: Cover) -> np.ndarray:
    """The best point, then those of the least values, or least bounds with whole batches."""
    score = points.values.copy()
    best = int(np.argmin(score))
    if task.integer:
        boxes, at = _solved_singles(points, cover)
        score[at] = np.where(np.isfinite(score[at]), cover.bound[boxes], np.inf)
    score[best] = -np.inf
    order = np.argsort(score, kind="stable")[:PROMISING]
    return np.asarray(order[score[order] < np.inf])


def doubtful(task: Task, points: Points, cover: Cover) -> np.ndarray:
    """Points on which the result rests, to be solved carefully where that was not done."""
    boxes, at = _solved_singles(points, cover)
    below = at[cover.bound[boxes] < points.values.min()]
    best = promising(task, points, cover)
    return np.union1d(best if task.integer else best[:1], below)
