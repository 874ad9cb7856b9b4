"""The system model: rates, energies and delays as pure functions of a scenario and an allocation.

Written for one scenario, in SI units; a batch is ``jax.vmap``. Nothing here knows of optimisation.
Clocks and powers must be positive even in a stage of zero rounds, as the scenario's limits say:
then values and gradients are finite at zero rounds too.
"""

from jaxedge.machine.late_imports import late_imports

__all__ = [
    "Allocation",
    "StageAllocation",
]

_HOMES = {
    "Allocation": "allocation",
    "StageAllocation": "allocation",
}
__getattr__, __dir__ = late_imports(__name__, _HOMES)
