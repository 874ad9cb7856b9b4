"""The bounds' constants, measured on a real model and data."""

from jaxedge.machine.late_imports import late_imports

__all__ = [
    "Calibration",
    "Estimate",
    "Forecast",
    "PilotPlan",
    "PilotRefused",
    "SpectrumCalibration",
    "Trial",
    "calibrate",
    "calibrate_spectrum",
    "distance",
]

_HOMES = {
    "Calibration": "constants",
    "Estimate": "estimates",
    "Forecast": "prediction",
    "PilotPlan": "pilot",
    "PilotRefused": "pilot",
    "SpectrumCalibration": "spectrum",
    "Trial": "path",
    "calibrate": "constants",
    "calibrate_spectrum": "spectrum",
    "distance": "transport",
}
__getattr__, __dir__ = late_imports(__name__, _HOMES)
