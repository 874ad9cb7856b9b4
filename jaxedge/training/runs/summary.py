"""What a run has come to, in a few numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxedge.scenario.scenario import Scenario
from jaxedge.training.runs.courses import Course
from jaxedge.training.runs.runner import FINETUNING, PRETRAINING, START, Row


def summary(scenario: Scenario, course: Course, rows: list[Row]) -> dict[str, Any]:
    """Measurements at the ends of both stages, and what was planned, spent and allowed.

    Args:
        scenario: gives the budgets.
        course: the rounds that are paid for.
        rows: measurements, not necessarily to the course's end.

    Returns:
        Plain JSON types: ``measured`` by stage (its last measurement; "start" is before any round),
        ``rounds``, and for ``energy`` (J) and ``delay`` (s) ``planned``, ``spent`` and ``budget``.
    """
    last = {row["stage"]: row for row in rows}
    done = rows[-1]["round"] if rows else 0
    spent = course.ledger.first(done).spent
    budgets = scenario.energy_budget, scenario.delay_budget
    names = zip(("energy", "delay"), course.planned, spent, budgets, strict=True)
    return {
        "rounds": {"planned": sum(course.wanted), "affordable": len(course.ledger), "done": done},
        "short_of": course.short_of,
        "replanned": sum(leg.fine_tuning and leg.start > 0 for leg in course.legs),
        "measured": {
            stage: {key: value for key, value in last[stage].items() if key != "stage"}
            for stage in (START, PRETRAINING, FINETUNING)
            if stage in last
        },
        **{
            name: {"planned": planned, "spent": own, "budget": float(np.asarray(budget))}
            for name, planned, own, budget in names
        },
    }
