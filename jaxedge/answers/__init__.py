"""Statuses, plans, batches of answers, and their files and tables."""

from jaxedge.machine.late_imports import late_imports

__all__ = [
    "Answers",
    "Plan",
    "Shortfall",
    "Status",
]

_HOMES = {
    "Answers": "batch",
    "Plan": "plan",
    "Shortfall": "status",
    "Status": "status",
}
__getattr__, __dir__ = late_imports(__name__, _HOMES)
