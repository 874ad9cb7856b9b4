"""Convergence bounds: what a design promises about training (derived in docs/theory.md).

A bound is any function (scenario, allocation) -> scalar that JAX can differentiate, so a user's
own enters wherever one of these does. Its unit is that of a squared gradient norm.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from types import MappingProxyType

from jaxedge.bounds.base import Bound, Effort, Fraction
from jaxedge.bounds.fine_tuning import fine_tuning_bound, fine_tuning_fraction
from jaxedge.bounds.two_stage import two_stage_bound, two_stage_fraction
from jaxedge.scenario.scenario import Learning

BOUNDS: Mapping[str, Bound] = MappingProxyType(
    {"two-stage": two_stage_bound, "fine-tuning": fine_tuning_bound}
)
"""The bounds by the name that users type."""

FRACTIONS: Mapping[str, Callable[[Learning, Effort], Fraction]] = MappingProxyType(
    {"two-stage": two_stage_fraction, "fine-tuning": fine_tuning_fraction}
)
"""The same before the division, for the coordinates in which they are convex over linear."""


def bound_named(name: str) -> Bound:
    """Return the bound of that name.

    Raises:
        ValueError: naming the nearest bound, where there is none of that name.
    """
    return BOUNDS[_known(name)]


def fraction_named(name: str) -> Callable[[Learning, Effort], Fraction]:
    """Return the bound of that name as a fraction.

    Raises:
        ValueError: naming the nearest bound, where there is none of that name.
    """
    return FRACTIONS[_known(name)]


def _known(name: str) -> str:
    if name in BOUNDS:
        return name
    near = difflib.get_close_matches(str(name).lower().replace("_", "-"), BOUNDS, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"bound is {name!r}, but must be one of {', '.join(BOUNDS)}{hint}")
