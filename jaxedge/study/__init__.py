"""The study: the questions of arXiv:2404.00836 answered with this package's model.

Each question has data, a figure, and a finding that is computed from the data. Only the abstract of
that paper is at hand: formulas, parameters and numbers are this package's.
"""

from jaxedge.machine.late_imports import late_imports

__all__ = [
    "QUESTIONS",
    "SIZES",
    "StudyFolder",
    "run",
]

_HOMES = {
    "QUESTIONS": "questions",
    "SIZES": "sizes",
    "StudyFolder": "folder",
    "run": "running",
}
__getattr__, __dir__ = late_imports(__name__, _HOMES)
