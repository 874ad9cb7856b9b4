"""Sweeps: named axes over the fields of a scenario, and a labelled dataset of the answers.

Public names stand here and are imported when first used, as those of `jaxedge` are.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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

_HOME = {
    "StoreError": "store",
    "Sweep": "sweep",
    "load_sweep": "spec_files",
    "open_sweep": "store",
    "run": "running",
}
"""Public name -> its module; the others are in `jaxedge.sweeps.axes`."""

if TYPE_CHECKING:
    from jaxedge.sweeps.axes import (
        Axis,
        channels,
        draws,
        linspace,
        log_normal,
        log_uniform,
        logspace,
        normal,
        uniform,
        values,
        zipped,
    )
    from jaxedge.sweeps.running import run
    from jaxedge.sweeps.spec_files import load_sweep
    from jaxedge.sweeps.store import StoreError, open_sweep
    from jaxedge.sweeps.sweep import Sweep
else:

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first asked for (PEP 562)."""
        if name not in __all__:
            raise AttributeError(f"module 'jaxedge.sweeps' has no attribute {name!r}")
        module = importlib.import_module(f"jaxedge.sweeps.{_HOME.get(name, 'axes')}")
        return getattr(module, name)
