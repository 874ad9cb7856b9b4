"""jaxedge plans two-stage edge learning: ``jaxedge.plan(scenario)`` gives a certified design.

Everything public stands here and is imported when first used, so ``import jaxedge`` costs nothing
and ``jaxedge --help`` answers before JAX is loaded.
"""

import importlib
from typing import TYPE_CHECKING

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
    "answer_batch",
    "bounds",
    "load",
    "own_limits",
    "plan",
    "plan_batch",
    "presets",
    "sampling",
    "solve",
    "validate",
]

_HOME = {
    "Allocation": "allocation",
    "Answers": "answers",
    "Devices": "scenario",
    "Learning": "scenario",
    "Plan": "answer",
    "Scenario": "scenario",
    "Server": "scenario",
    "StageAllocation": "allocation",
    "Status": "answer",
    "answer_batch": "planning",
    "load": "scenario_files",
    "plan": "planning",
    "plan_batch": "planning",
    "solve": "solving",
    "validate": "validation",
}
"""Public name -> its module; the other public names are modules themselves."""

if TYPE_CHECKING:
    from jaxedge import bounds, own_limits, presets, sampling
    from jaxedge.allocation import Allocation, StageAllocation
    from jaxedge.answer import Plan, Status
    from jaxedge.answers import Answers
    from jaxedge.planning import answer_batch, plan, plan_batch
    from jaxedge.scenario import Devices, Learning, Scenario, Server
    from jaxedge.scenario_files import load
    from jaxedge.solving import solve
    from jaxedge.validation import validate
else:  # hidden from type checkers, to which it would make every name of jaxedge exist

    def __getattr__(name):
        """Import a public name when it is first asked for (PEP 562)."""
        if name not in __all__:
            raise AttributeError(f"module 'jaxedge' has no attribute {name!r}")
        if name not in _HOME:
            return importlib.import_module(f"jaxedge.{name}")
        return getattr(importlib.import_module(f"jaxedge.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
