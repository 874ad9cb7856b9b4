"""Optimisation methods for any smooth functions; they know neither program nor radio."""
