"""Solvers of the relaxed program; they know nothing of radios."""

GAPS = {
    "dual-decomposition": 1e-6,
    "interior-point": 1e-6,
    "augmented-lagrangian": 1e-4,
    "convex-approximation": 1e-2,
}
"""The solvers as users call them, the default first, with the gap asked of relaxed answers."""
SOLVERS = tuple(GAPS)
