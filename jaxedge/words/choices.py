"""Names and whole numbers to choose from, and what is said of one that is not among them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def choice(kind: str, name: str, known: Iterable[str]) -> str:
    """Return ``name`` if it is known.

    Raises:
        ValueError: otherwise, with the nearest known name.
    """
    known = list(known)
    if name in known:
        return name
    raise ValueError(unknown(kind, name, known))


def check_whole(name: str, value: object, least: int = 1, *, unit: str = "") -> None:
    """Make sure that a value is a whole number, no bool, of at least ``least``.

    Raises:
        ValueError: otherwise, with the name, the value and its unit.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        shown = f"{value!r} {unit}".rstrip()
        raise ValueError(f"{name} = {shown}: must be a whole number >= {least}")


def unknown(kind: str, name: str, known: Sequence[str]) -> str:
    """Say that a name is not known, and which is nearest or which there are."""
    near = difflib.get_close_matches(name[:100], known, n=1, cutoff=0.5)
    advice = f"did you mean {near[0]}?" if near else f"must be one of {', '.join(known)}"
    return f"unknown {kind} {name!r:.60}: {advice}"
