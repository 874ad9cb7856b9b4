"""Real training under a plan: data, models, the two stages, runs and calibration."""
