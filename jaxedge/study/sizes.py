"""How large a study is: points, channel draws, runs of real training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """Numbers that decide how long a study takes and how fine its figures are."""

    points: int
    """Of an axis, of those that it has."""
    draws: int
    """Channels drawn at each point."""
    trained: int
    """Of these, how many plans are trained, each with a seed of its own."""
    trial_rounds: int
    """Of each stage of the run on which the bound's constants are measured."""
    grid: int
    """Points a side of maps that are planned only."""
    surface: int
    """Points a side of the map whose designs are trained."""
    every: int
    """Rounds between two measurements of convergence."""
    without: tuple[str, ...] = ()
    """Questions that are left out unless they are named."""

    def thinned(self, values: Sequence[T]) -> list[T]:
        """So many of an axis' values, as evenly as can be: from end to end, or two from the middle.

        The middle is the usual setting, which other questions need anyway.
        """
        count, last = min(self.points, len(values)), len(values) - 1
        first = 0 if count > 2 else len(values) // 2
        return [values[i] for i in np.rint(np.linspace(first, last, count)).astype(int)]


SIZES = {
    "full": Size(points=6, draws=40, trained=8, trial_rounds=300, grid=80, surface=8, every=10),
    "quick": Size(
        points=2,
        draws=4,
        trained=1,
        trial_rounds=300,
        grid=24,
        surface=3,
        every=25,
        without=("devices", "model-size"),  # other shapes: as long to compile as all others to run
    ),
}
"""By name, the default first."""
