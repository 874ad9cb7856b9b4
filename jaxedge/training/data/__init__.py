"""Data sets, their shift between the stages, and their partition over devices."""

from jaxedge.machine.late_imports import late_imports

__all__ = [
    "PARTITIONS",
    "SHIFTS",
    "SOURCES",
    "Dataset",
    "Partition",
    "Samples",
    "dataset",
    "digits",
    "load_data",
    "partition",
    "pool",
    "read_cifar",
    "read_femnist",
    "read_idx",
    "read_leaf",
    "read_npz",
    "shift",
    "split",
    "write_npz",
]

_HOMES = {
    "Dataset": "datasets",
    "PARTITIONS": "partitions",
    "Partition": "partitions",
    "SHIFTS": "shifts",
    "SOURCES": "sources",
    "Samples": "samples",
    "dataset": "datasets",
    "digits": "data_files",
    "load_data": "sources",
    "partition": "partitions",
    "pool": "samples",
    "read_cifar": "data_files",
    "read_femnist": "data_files",
    "read_idx": "data_files",
    "read_leaf": "data_files",
    "read_npz": "data_files",
    "shift": "shifts",
    "split": "datasets",
    "write_npz": "data_files",
}
__getattr__, __dir__ = late_imports(__name__, _HOMES)
