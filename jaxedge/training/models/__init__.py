"""Networks, what they are made of, and tasks: a network with the data that it learns from."""

from jaxedge.machine.late_imports import late_imports

__all__ = [
    "CONVOLUTIONS",
    "MODELS",
    "Task",
    "TaskSpec",
    "convolution",
    "cross_entropy",
    "load_task",
    "model",
    "task",
    "trainable",
    "upload_bits",
]

_HOMES = {
    "CONVOLUTIONS": "convolutions",
    "MODELS": "networks",
    "Task": "tasks",
    "TaskSpec": "tasks",
    "convolution": "convolutions",
    "cross_entropy": "networks",
    "load_task": "tasks",
    "model": "networks",
    "task": "tasks",
    "trainable": "networks",
    "upload_bits": "networks",
}
__getattr__, __dir__ = late_imports(__name__, _HOMES)
