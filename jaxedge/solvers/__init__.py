"""Solvers of the relaxed program; they know nothing of radios."""
