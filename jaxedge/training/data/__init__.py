"""Data sets, their shift between the stages, and their partition over devices."""
