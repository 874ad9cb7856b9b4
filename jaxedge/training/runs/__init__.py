"""Runs under a plan: courses, ledgers, checkpoints and their folders."""

from jaxedge.machine.late_imports import late_imports

__all__ = [
    "Course",
    "Ledger",
    "Run",
    "Runs",
    "Settings",
    "Trained",
    "choose_strategy",
    "course",
    "ledger",
    "run",
    "train",
    "train_many",
]

_HOMES = {
    "Course": "courses",
    "Ledger": "ledgers",
    "Run": "opening",
    "Runs": "many",
    "Settings": "segments",
    "Trained": "runner",
    "choose_strategy": "strategy_choice",
    "course": "courses",
    "ledger": "ledgers",
    "run": "opening",
    "train": "runner",
    "train_many": "many",
}
__getattr__, __dir__ = late_imports(__name__, _HOMES)
