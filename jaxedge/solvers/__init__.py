"""Solvers of the relaxed program; they know nothing of radios."""

SOLVERS = ("dual-decomposition",)
"""What users call them, the default first."""
