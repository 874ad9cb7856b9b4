"""Real training of many designs: what they reach on the devices' task."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from jaxedge.scenario.scenario import Scenario
from jaxedge.system.allocation import Allocation
from jaxedge.words.progress import Progress

if TYPE_CHECKING:
    from jaxedge.training.models.tasks import Task
    from jaxedge.training.runs.many import Curve

Key = TypeVar("Key")

SELDOM = 25
"""Rounds between two measurements where the end and the average are looked at."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a design."""

    curve: Curve
    average: float
    """Of |grad F|^2 over all rounds, as measured: what the two-stage bound is above."""

    def last(self, name: str) -> float:
        """What the run ends with."""
        return float(self.curve[name][-1])


def trained(
    task: Task,
    scenario: Scenario,
    designs: Mapping[Key, Allocation | None],
    *,
    seed: int,
    every: int = SELDOM,
    progress: Progress | None = None,
) -> dict[Key, Run]:
    """The run of each design, all from one seed; None is left out.

    Args:
        task: data and model.
        scenario: learning rates, weights, and the limits of the designs.
        designs: by whatever names them.
        seed: of the samples drawn.
        every: rounds between two measurements.
        progress: called with (text, fraction).
    """
    from jaxedge.training.runs.many import train_many

    whole = {key: design for key, design in designs.items() if design is not None}
    if not whole:
        return {}
    runs = train_many(task, scenario, list(whole.values()), [seed], every=every, progress=progress)
    return {
        key: Run(curve=runs.curves[p][0], average=float(runs.two_stage_average[p, 0]))
        for p, key in enumerate(whole)
    }
