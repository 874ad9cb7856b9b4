"""What finite changes of a parameter do to the best whole design: it is planned again for each.

Whole designs have no derivatives: their bound moves in steps. Each new bound is certified, so the
change is known to within the gaps of the two designs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxedge.answers.batch import Answers
from jaxedge.bounds.registry import DEFAULT
from jaxedge.planning.entry import plan_batch
from jaxedge.scenario.fields import field_value, with_field
from jaxedge.scenario.scenario import FIELDS, Field, Scenario
from jaxedge.scenario.stacking import stack
from jaxedge.scenario.validation import validate
from jaxedge.words.progress import Progress

CHANGES = (-0.05, -0.01, 0.01, 0.05)
"""Relative, of a whole field at once."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FiniteChange:
    """One parameter changed, and what the best whole design then reaches."""

    change: float
    """Relative. Whole numbers change to the nearest whole number, but by at least one."""
    bound: float
    """nan where the changed value is not accepted, or no design is found."""
    relative: float
    """The bound's relative change, by designs."""
    least: float
    """No change is below it, by the designs' certificates."""
    most: float
    """No change is above it."""


def finite_changes(
    scenario: Scenario,
    paths: Sequence[str],
    changes: Sequence[float] = CHANGES,
    progress: Progress | None = None,
    bound: str = DEFAULT,
) -> dict[str, tuple[FiniteChange, ...]]:
    """Replan whole designs at finite changes of some fields.

    Args:
        scenario: one valid scenario.
        paths: of the fields to change, such as "devices.gain".
        changes: relative changes.
        progress: as in `planning.plan`.
        bound: as in `planning.plan`.
    """
    items = [next(item for item in FIELDS if item.path == path) for path in paths]
    cases = [(item.path, change, _changed(scenario, item, change)) for item in items
             for change in changes]  # fmt: skip
    accepted = [case for _, _, case in cases if case is not None]
    answers = plan_batch(stack([scenario, *accepted]), bound=bound, progress=progress)
    found: dict[str, list[FiniteChange]] = {path: [] for path in paths}
    row = 0
    for path, change, case in cases:
        row += case is not None
        found[path].append(_of_row(answers, change, row if case is not None else None))
    return {path: tuple(each) for path, each in found.items()}


def _changed(scenario: Scenario, item: Field, change: float) -> Scenario | None:
    """The scenario with one field changed; None where that is not a valid one."""
    value = field_value(scenario, item)
    if value is None:
        return None
    new = value * (1 + change)
    if item.integer:
        step = np.maximum(np.rint(np.abs(change) * value), 1.0)
        new = value + np.sign(change) * step
    try:
        return validate(with_field(scenario, item, new))
    except ValueError:
        return None


def _of_row(answers: Answers, change: float, row: int | None) -> FiniteChange:
    if row is None:
        return FiniteChange(change=change, bound=np.nan, relative=np.nan, least=np.nan, most=np.nan)
    bound, least = answers.bound, answers.lower_bound
    return FiniteChange(
        change=change,
        bound=float(bound[row]),
        relative=float(bound[row] / bound[0] - 1),
        least=float(least[row] / bound[0] - 1),
        most=float(bound[row] / least[0] - 1),
    )
