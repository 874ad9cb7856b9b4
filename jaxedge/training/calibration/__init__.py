"""The bounds' constants, measured on a real model and data."""

from jaxedge.machine.late_imports import late_imports

__all__ = [
    "Calibration",
    "Estimate",
    "Trial",
    "calibrate",
    "distance",
]

_HOMES = {
    "Calibration": "constants",
    "Estimate": "estimates",
    "Trial": "path",
    "calibrate": "constants",
    "distance": "transport",
}
__getattr__, __dir__ = late_imports(__name__, _HOMES)
