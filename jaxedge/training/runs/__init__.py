"""Runs under a plan: courses, ledgers, checkpoints and their folders."""
