"""Names and whole numbers to choose from, and what is said of one that is not among them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from numbers import Integral


def choice(kind: str, name: str, known: Iterable[str]) -> str:
    """Return ``name`` if it is known.

    Raises:
        ValueError: otherwise, with the nearest known name.
    """
    known = list(known)
    if name in known:
        return name
    raise ValueError(unknown(kind, name, known))


def check_whole(
    name: str, value: object, least: int = 1, most: int | None = None, *, unit: str = ""
) -> None:
    """Make sure that a value is a whole number, no bool, from ``least`` to ``most``.

    Raises:
        ValueError: otherwise, with the name, the value and its unit.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not (whole and least <= value and (most is None or value <= most)):  # type: ignore[operator]
        shown = f"{value!r:.40} {unit}".rstrip()
        range_ = f">= {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} = {shown}: must be a whole number {range_}")


def unknown(
    kind: str,
    name: object,
    known: Iterable[str],
    *,
    place: str = "",
    listed: Iterable[str] | None = None,
) -> str:
    """Say that a name is not known, and which is nearest or which there are.

    Args:
        kind: what the name should be of: "solver".
        name: as it was given.
        known: what may be suggested.
        place: where it was given, with a blank in front.
        listed: what is told where nothing is near; all that is known by default.
    """
    known = list(known)
    near = difflib.get_close_matches(str(name)[:100], known, n=1, cutoff=0.5)
    every = ", ".join(known if listed is None else listed)
    advice = f"did you mean {near[0]}?" if near else f"must be one of {every}"
    return f"unknown {kind} {name!r:.60}{place}: {advice}"
