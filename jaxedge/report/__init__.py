"""Every table and figure."""

from jaxedge.machine.late_imports import late_imports

__all__ = [
    "non_dominated",
    "plot_pilot",
    "plot_plan",
    "plot_sweep",
]

_HOMES = {
    "non_dominated": "pareto",
    "plot_pilot": "pilot_plots",
    "plot_plan": "plan_plots",
    "plot_sweep": "sweep_plots",
}
__getattr__, __dir__ = late_imports(__name__, _HOMES)
