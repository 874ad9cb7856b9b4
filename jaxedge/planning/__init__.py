"""From a question to judged designs."""

from jaxedge.machine.late_imports import late_imports

__all__ = [
    "PlansWithin",
    "plan",
    "plan_batch",
    "plan_within",
    "solve",
]

_HOMES = {
    "PlansWithin": "intervals",
    "plan": "entry",
    "plan_batch": "entry",
    "plan_within": "intervals",
    "solve": "solving",
}
__getattr__, __dir__ = late_imports(__name__, _HOMES)
