"""What the optimum depends on: gradients, kinks, designs' derivatives, whole ranges."""

from jaxedge.machine.late_imports import late_imports

__all__ = [
    "GlobalSensitivity",
    "analyse",
    "both_sides",
    "elasticities",
    "global_sensitivity",
    "optimal_allocation",
    "optimal_bound",
    "value_and_grad",
]

_HOMES = {
    "GlobalSensitivity": "over_ranges",
    "analyse": "analysis",
    "both_sides": "kinks",
    "elasticities": "gradients",
    "global_sensitivity": "over_ranges",
    "optimal_allocation": "allocation",
    "optimal_bound": "gradients",
    "value_and_grad": "gradients",
}
__getattr__, __dir__ = late_imports(__name__, _HOMES)
