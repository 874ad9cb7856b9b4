"""Telling how far a computation is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, float | None], None]


def no_progress(text: str, fraction: float | None) -> None:
    """Say nothing."""
