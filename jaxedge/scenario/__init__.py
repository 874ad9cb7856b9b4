"""What is given: the parts of a scenario, their units, checks, files, presets and samples."""

from jaxedge.machine.late_imports import late_imports

__all__ = [
    "Devices",
    "Learning",
    "Scenario",
    "Server",
    "files",
    "load",
    "presets",
    "sampling",
    "stack",
    "unstack",
    "validate",
    "validate_batch",
]

_HOMES = {
    "Devices": "scenario",
    "Learning": "scenario",
    "Scenario": "scenario",
    "Server": "scenario",
    "files": "files",
    "load": "files",
    "presets": "presets",
    "sampling": "sampling",
    "stack": "stacking",
    "unstack": "stacking",
    "validate": "validation",
    "validate_batch": "validation",
}
__getattr__, __dir__ = late_imports(__name__, _HOMES)
