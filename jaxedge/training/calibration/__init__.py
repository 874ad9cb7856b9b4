"""The bounds' constants, measured on a real model and data."""
