"""Limits and bounds of the user's own."""

from jaxedge.machine.late_imports import late_imports

__all__ = [
    "Limit",
    "OwnBound",
    "OwnProblem",
]

_HOMES = {
    "Limit": "limits",
    "OwnBound": "limits",
    "OwnProblem": "limits",
}
__getattr__, __dir__ = late_imports(__name__, _HOMES)
