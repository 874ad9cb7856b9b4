"""Cores, caches and files of the machine that computes; other rooms import its modules."""

__all__: list[str] = []
