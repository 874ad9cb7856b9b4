"""Planning again what is left of a run: fine-tuning alone, as pre-training is over by then."""

from __future__ import annotations

from jaxedge.planning.entry import plan
from jaxedge.planning.schemes import FINETUNING_ONLY
from jaxedge.scenario.scenario import Scenario
from jaxedge.system.allocation import Allocation


def plan_finetuning(scenario: Scenario) -> Allocation | None:
    """The best design without pre-training, in whole rounds and batches; None where none fits.

    Args:
        scenario: what is left, as `training.courses.rest_of` gives it.

    Raises:
        ValueError: if the scenario is not valid.
    """
    return plan(scenario, schemes=True).schemes[FINETUNING_ONLY].allocation
