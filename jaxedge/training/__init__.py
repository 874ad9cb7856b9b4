"""Real training under a plan: data, models, the two stages, runs and calibration."""

from jaxedge.machine.late_imports import late_imports

__all__ = [
    "Calibration",
    "Course",
    "Dataset",
    "Partition",
    "Runs",
    "Settings",
    "Task",
    "TaskSpec",
    "Trained",
    "Trial",
    "calibrate",
    "course",
    "dataset",
    "digits",
    "load_data",
    "load_task",
    "partition",
    "shift",
    "split",
    "task",
    "train",
    "train_many",
]

_HOMES = {
    "Calibration": "calibration.constants",
    "Course": "runs.courses",
    "Dataset": "data.datasets",
    "Partition": "data.partitions",
    "Runs": "runs.many",
    "Settings": "runs.segments",
    "Task": "models.tasks",
    "TaskSpec": "models.tasks",
    "Trained": "runs.runner",
    "Trial": "calibration.path",
    "calibrate": "calibration.constants",
    "course": "runs.courses",
    "dataset": "data.datasets",
    "digits": "data.data_files",
    "load_data": "data.sources",
    "load_task": "models.tasks",
    "partition": "data.partitions",
    "shift": "data.shifts",
    "split": "data.datasets",
    "task": "models.tasks",
    "train": "runs.runner",
    "train_many": "runs.many",
}
__getattr__, __dir__ = late_imports(__name__, _HOMES)
