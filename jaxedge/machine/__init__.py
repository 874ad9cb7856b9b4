"""Cores, caches and files of the machine that computes."""
