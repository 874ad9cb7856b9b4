"""What a design promises about training, and the program that finds the best promise."""

from jaxedge.machine.late_imports import late_imports

__all__ = [
    "BOUNDS",
    "DEFAULT",
    "Bound",
    "Effort",
    "FineTuning",
    "Fraction",
    "TwoStage",
    "aggregated_variance",
    "bound_named",
    "decay",
    "fine_tuning_bound",
    "fine_tuning_fraction",
    "handed_over_gap",
    "two_stage_bound",
    "two_stage_fraction",
]

_HOMES = {
    "BOUNDS": "registry",
    "DEFAULT": "registry",
    "Bound": "base",
    "Effort": "base",
    "FineTuning": "fine_tuning",
    "Fraction": "base",
    "TwoStage": "two_stage",
    "aggregated_variance": "base",
    "bound_named": "registry",
    "decay": "fine_tuning",
    "fine_tuning_bound": "fine_tuning",
    "fine_tuning_fraction": "fine_tuning",
    "handed_over_gap": "fine_tuning",
    "two_stage_bound": "two_stage",
    "two_stage_fraction": "two_stage",
}
__getattr__, __dir__ = late_imports(__name__, _HOMES)
