"""The program's optimum over real rounds and batches, judged whoever found it."""

from jaxedge.machine.late_imports import late_imports

__all__ = [
    "SOLVERS",
    "Solver",
]

_HOMES = {
    "SOLVERS": "solvers",
    "Solver": "solvers",
}
__getattr__, __dir__ = late_imports(__name__, _HOMES)
