"""Planning again what is left of a run: fine-tuning alone, as pre-training is over by then."""

from __future__ import annotations

import dataclasses

from jaxedge.bounds.registry import DEFAULT
from jaxedge.planning.entry import plan_one
from jaxedge.planning.question import question
from jaxedge.planning.schemes import FINETUNING_ONLY
from jaxedge.relaxation.solvers import DUAL_DECOMPOSITION
from jaxedge.scenario.scenario import Scenario
from jaxedge.system.allocation import Allocation


def plan_finetuning(scenario: Scenario) -> Allocation | None:
    """The best design without pre-training, in whole rounds and batches; None where none fits.

    Args:
        scenario: what is left, as `training.courses.rest_of` gives it.

    Raises:
        ValueError: if the scenario is not valid.
    """
    asked = question(DEFAULT, DUAL_DECOMPOSITION.name, False, None)
    return plan_one(scenario, dataclasses.replace(asked, designs=(FINETUNING_ONLY,))).allocation
