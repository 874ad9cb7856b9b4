"""Sweeps: named axes over the fields of a scenario, and a labelled dataset of the answers."""

from jaxedge.machine.late_imports import late_imports

__all__ = [
    "Axis",
    "StoreError",
    "Sweep",
    "channels",
    "draws",
    "linspace",
    "load_sweep",
    "log_normal",
    "log_uniform",
    "logspace",
    "normal",
    "open_sweep",
    "run",
    "uniform",
    "values",
    "zipped",
]

_HOMES = {
    **dict.fromkeys(__all__, "axes"),
    "StoreError": "store",
    "Sweep": "sweep",
    "load_sweep": "spec_files",
    "open_sweep": "store",
    "run": "running",
}
__getattr__, __dir__ = late_imports(__name__, _HOMES)
