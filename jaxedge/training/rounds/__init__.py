"""Rounds of both stages: gradients, averaging, and how they are executed."""

from jaxedge.machine.late_imports import late_imports

__all__ = [
    "STRATEGIES",
    "Epoch",
    "Span",
    "Stage",
    "Strategy",
    "average",
    "finetune",
    "pretrain",
]

_HOMES = {
    "STRATEGIES": "strategies",
    "Epoch": "averaging",
    "Span": "stages",
    "Stage": "stages",
    "Strategy": "strategies",
    "average": "averaging",
    "finetune": "stages",
    "pretrain": "stages",
}
__getattr__, __dir__ = late_imports(__name__, _HOMES)
