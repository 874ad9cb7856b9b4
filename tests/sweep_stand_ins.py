"""A sweep whose answers are closed forms, so that streaming is tested without solving.

As a script, ``python -m tests.sweep_stand_ins STORE [resume]`` runs it; importing it in a Dask
worker as a preload replaces the planner there.
"""

import sys
import time

import numpy as np

from jaxedge import presets, sweeps
from jaxedge.sweeps import tasks

PAUSE = 0.0


def answers(given, outputs, options):
    """Stands in for `jaxedge.sweeps.outputs.computed`."""
    time.sleep(PAUSE)
    gain = np.atleast_2d(given.devices.gain)
    energy = np.asarray(given.energy_budget)
    bound = 1.0 / energy + gain.mean(axis=-1) * 1e10
    status = np.where(energy < 20.0, 2, 0).astype(np.int8)
    known = {
        "bound": np.where(status == 2, np.nan, bound),
        "status": status,
        "device_power": energy[:, None] * gain,
    }
    return {item.name: known[item.name] for item in outputs}


def sweep(**changes):
    """12 energies by 300 random channels, in blocks of 32."""
    options = {"outputs": ("bound", "status", "device_power"), "relaxed": True, "block": 32}
    reduce = changes.pop("reduce", False)
    axes = [
        sweeps.logspace("energy_budget", 10.0, 1000.0, 12),
        sweeps.channels(300, "rayleigh", reduce=reduce),
    ]
    return sweeps.Sweep(**{"scenario": presets.get("small"), "axes": axes, **options, **changes})


def dask_setup(worker):
    """Called by Dask in a worker that preloads this file."""
    global PAUSE
    PAUSE = 0.02
    tasks.compute_outputs = answers


if __name__ == "__main__":
    PAUSE = 0.01
    tasks.compute_outputs = answers
    sweeps.run(
        sweep(reduce="reduce" in sys.argv), sys.argv[1], resume="resume" in sys.argv, chunk=64
    )
