"""Rounds of both stages: gradients, averaging, and how they are executed."""

from jaxedge.machine.late_imports import late_imports

__all__ = [
    "STRATEGIES",
    "average",
    "finetune",
    "pretrain",
]

_HOMES = {
    "STRATEGIES": "strategies",
    "average": "averaging",
    "finetune": "stages",
    "pretrain": "stages",
}
__getattr__, __dir__ = late_imports(__name__, _HOMES)
