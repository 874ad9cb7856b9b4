"""jaxedge plans two-stage edge learning: ``jaxedge.plan(scenario)`` gives a certified design.

Everything public stands here and is imported when first used, so ``import jaxedge`` costs nothing
and ``jaxedge --help`` answers before JAX is loaded.
"""

from typing import TYPE_CHECKING

from jaxedge.machine.late_imports import late_imports

__version__ = "0.1.0"

__all__ = [
    "Allocation",
    "Answers",
    "Devices",
    "Learning",
    "Plan",
    "Scenario",
    "Server",
    "StageAllocation",
    "Status",
    "bounds",
    "custom",
    "load",
    "plan",
    "plan_batch",
    "presets",
    "sampling",
    "sensitivity",
    "solve",
    "sweeps",
    "training",
    "validate",
]

_HOMES = {
    "Allocation": "system.allocation",
    "Answers": "answers.batch",
    "Devices": "scenario.scenario",
    "Learning": "scenario.scenario",
    "Plan": "answers.plan",
    "Scenario": "scenario.scenario",
    "Server": "scenario.scenario",
    "StageAllocation": "system.allocation",
    "Status": "answers.status",
    "bounds": "bounds",
    "custom": "custom",
    "load": "scenario.files",
    "plan": "planning.entry",
    "plan_batch": "planning.entry",
    "presets": "scenario.presets",
    "sampling": "scenario.sampling",
    "sensitivity": "sensitivity",
    "solve": "planning.solving",
    "sweeps": "sweeps",
    "training": "training",
    "validate": "scenario.validation",
}
"""Public name -> the module that it stands in; a module stands in itself."""

if TYPE_CHECKING:
    from jaxedge import bounds, custom, sensitivity, sweeps, training
    from jaxedge.answers.batch import Answers
    from jaxedge.answers.plan import Plan
    from jaxedge.answers.status import Status
    from jaxedge.planning.entry import plan, plan_batch
    from jaxedge.planning.solving import solve
    from jaxedge.scenario import presets, sampling
    from jaxedge.scenario.files import load
    from jaxedge.scenario.scenario import Devices, Learning, Scenario, Server
    from jaxedge.scenario.validation import validate
    from jaxedge.system.allocation import Allocation, StageAllocation
else:  # hidden from type checkers, to which it would make every name of jaxedge exist
    __getattr__, _ = late_imports(__name__, _HOMES)


def __dir__() -> list[str]:
    return list(__all__)
