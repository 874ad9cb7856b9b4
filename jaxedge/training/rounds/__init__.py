"""Rounds of both stages: gradients, averaging, and how they are executed."""
