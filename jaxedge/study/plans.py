"""Designs of many scenarios under many channels, all schemes at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxedge.answers.batch import Answers
from jaxedge.bounds.registry import DEFAULT
from jaxedge.machine.trees import concatenate, select
from jaxedge.planning.entry import plan_batch
from jaxedge.planning.question import INTEGER_GAP
from jaxedge.planning.schemes import FINETUNING_ONLY, JOINT
from jaxedge.scenario.scenario import Scenario
from jaxedge.scenario.validation import validate_batch
from jaxedge.study.setting import CHANNEL, RADIUS_KM
from jaxedge.sweeps.axes import channels
from jaxedge.sweeps.checks import check_sweep
from jaxedge.sweeps.generation import scenarios
from jaxedge.sweeps.sweep import Sweep
from jaxedge.system.allocation import Allocation
from jaxedge.words.progress import Progress


@dataclasses.dataclass(frozen=True, kw_only=True)
class Planned:
    """Whole designs of P points under D channels each; the same channels at all points."""

    answers: Mapping[str, Answers]
    """Scheme -> P D answers, point after point."""
    draws: int

    def of(self, scheme: str, read: Any) -> np.ndarray:
        """(P, D) of numbers that ``read`` takes from the answers of a scheme."""
        return np.asarray(read(self.answers[scheme]), np.float64).reshape(-1, self.draws)

    def design(self, scheme: str, point: int, draw: int) -> Allocation | None:
        """One design, None where there is none."""
        plan = self.answers[scheme].plan(
            point * self.draws + draw,
            bound_name=DEFAULT,
            relaxed=False,
            requested_gap=INTEGER_GAP,
        )
        return plan.allocation


def under_channels(scenario: Scenario, draws: int) -> Scenario:
    """The scenario with its devices placed anew in the cell for each draw, stacked."""
    axis = channels(draws, CHANNEL, radius_km=RADIUS_KM)
    sweep = check_sweep(Sweep(scenario=scenario, axes=[axis]))
    return validate_batch(scenarios(sweep, np.arange(draws)))


def better(first: Answers, second: Answers) -> Answers:
    """Of two answers to each scenario the one with the lesser bound, the first where they tie.

    The joint design has to run a round of pre-training, as a design must do something; without any
    it may be better.
    """
    chosen = (second.bound < first.bound) | (np.isnan(first.bound) & ~np.isnan(second.bound))
    return select(chosen, second, first)


def planned(points: Sequence[Scenario], draws: int, *, progress: Progress) -> Planned:
    """Joint and benchmark designs of every point under every channel."""
    stacked = concatenate([under_channels(point, draws) for point in points])
    return planned_at(stacked, draws, progress=progress)


def planned_at(stacked: Scenario, draws: int = 1, *, progress: Progress) -> Planned:
    """Joint and benchmark designs of stacked scenarios, so many draws of each point together."""
    found = plan_batch(stacked, schemes=True, progress=progress)
    found[JOINT] = better(found[JOINT], found[FINETUNING_ONLY])
    return Planned(answers=found, draws=draws)
