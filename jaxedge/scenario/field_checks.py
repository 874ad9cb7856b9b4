"""Checks of one field by itself: its type, its domain, and how messages name it."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from jaxedge.scenario.scenario import Field
from jaxedge.scenario.units import suffixes_of


def describe(item: Field, value: object, position: str = "") -> str:
    """The field, its value and unit as messages begin: ``server.max_power = -1.0 W``."""
    unit = "" if item.unit == "1" else f" {item.unit}"
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return f"{item.path}{position} = {shown}{unit}"


def as_numbers(item: Field, value: object) -> np.ndarray:
    """Convert a field's value to a float64 array of any shape.

    Raises:
        ValueError: if it is not a number or a regular array of real numbers.
    """
    if isinstance(value, jax.core.Tracer):
        raise ValueError(f"{item.path} is being traced by JAX: validate scenarios before jit")
    if not _is_real(value):
        kind = type(value).__name__
        expected = "one number or a list of K numbers" if item.shape == "(K,)" else item.layout
        raise ValueError(
            f"{describe(item, value)} is not numeric (type {kind}): "
            f"must be {expected}, each {item.domain} ({item.meaning})"
        )
    try:
        return np.asarray(value, dtype=np.float64)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{describe(item, value)} is ragged or too large for a float: "
            f"must be {item.domain} ({item.meaning})"
        ) from None


def _is_real(value: object) -> bool:
    """Whether ``value`` is a real number, an array of them, or lists of those (bool is not)."""
    if isinstance(value, list | tuple):
        return all(_is_real(element) for element in value)
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        return not isinstance(value, np.complexfloating)
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    return kind in tuple("fiu") and hasattr(value, "__array__")


def check_domain(item: Field, value: np.ndarray) -> None:
    """Check that every element of a field lies in its domain.

    Raises:
        ValueError: naming the first that does not, with value, unit, domain and remedy.
    """
    short = value <= item.least if item.above else value < item.least
    fraction = np.isfinite(value) & (value != np.floor(value)) if item.integer else np.False_
    bad = ~np.isfinite(value) | short | fraction
    if np.any(bad):
        at = np.argwhere(bad)[0]
        found = float(value[tuple(at)])
        hint = _hint(item, found)
        raise ValueError(
            f"{describe_at(item, value, at)} must be {item.domain} ({item.meaning}){hint}"
        )


def _hint(item: Field, found: float) -> str:
    if np.isinf(found):
        return "; for no limit give a large finite number"
    decibels = [suffix for suffix in suffixes_of(item.unit) if suffix.startswith("db")]
    if decibels and found <= 0:
        keys = " or ".join(f"{item.name}_{suffix}" for suffix in decibels)
        return f"; in a file a value in decibels goes under {keys}"
    return ""


def describe_at(item: Field, value: np.ndarray, at: Sequence[int] | np.ndarray) -> str:
    """Describe one element; leading axes are named as the scenario of a batch."""
    lead, own = at[: len(at) - item.ndim], at[len(at) - item.ndim :]
    batch = f"scenario {', '.join(str(int(i)) for i in lead)}: " if len(lead) else ""
    position = f"[{', '.join(str(int(i)) for i in own)}]" if len(own) else ""
    return batch + describe(item, float(value[tuple(at)]), position)
