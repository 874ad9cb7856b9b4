"""Pareto fronts: which designs no other design is at least as good as in every respect."""

from __future__ import annotations

import numpy as np


def non_dominated(points: np.ndarray) -> np.ndarray:
    """Positions of the points that none dominates, in ascending order; all objectives are costs.

    A point dominates another where it is at most as large in every objective and smaller in one;
    equal points do not dominate each other. Effort: points times those kept.

    Args:
        points: (n, objectives), finite.
    """
    left = np.lexsort(points.T[::-1])
    kept: list[np.ndarray] = []
    while len(left):
        # The least of what is left in lexicographic order: nothing left can dominate it.
        best = points[left[0]]
        same = np.all(points[left] == best, axis=1)
        kept.append(left[same])
        left = left[np.any(points[left] < best, axis=1)]
    return np.sort(np.concatenate(kept)) if kept else np.zeros(0, dtype=int)


def staircase(points: np.ndarray) -> np.ndarray:
    """The front of (n, 2) points as the corners (m, 2) of the boundary that they reach."""
    front = points[non_dominated(points)]
    front = np.unique(front, axis=0)
    corners = np.column_stack([front[1:, 0], front[:-1, 1]])
    between = np.empty((len(front) + len(corners), 2))
    between[0::2], between[1::2] = front, corners
    return between
