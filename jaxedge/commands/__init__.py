"""The commands: a module each, with its summary, what it accepts, and what it does.

None imports JAX before it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

from jaxedge.commands import batch, calibrate, init, plan, plot, sensitivity, study, sweep, train
from jaxedge.commands.arguments import Command

__all__ = ["COMMANDS"]

COMMANDS: dict[str, Command] = {
    "init": init,
    "plan": plan,
    "batch": batch,
    "sensitivity": sensitivity,
    "sweep": sweep,
    "plot": plot,
    "calibrate": calibrate,
    "train": train,
    "study": study,
}
"""By name, in the order of the help."""
