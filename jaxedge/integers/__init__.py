"""Whole rounds and batches, with a certificate."""
