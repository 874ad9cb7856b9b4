"""The bounds by the name that users type: a new one is a line here."""

from __future__ import annotations

import difflib

from jaxedge.bounds.base import Bound
from jaxedge.bounds.end_loss import EndLoss
from jaxedge.bounds.fine_tuning import FineTuning
from jaxedge.bounds.last_iterate import LastIterate
from jaxedge.bounds.two_stage import TwoStage

BOUNDS: dict[str, Bound] = {
    bound.name: bound for bound in (TwoStage(), FineTuning(), EndLoss(), LastIterate())
}
"""What can be minimised, by name."""
DEFAULT = TwoStage.name
"""The bound of a question that names none."""


def bound_named(name: str) -> Bound:
    """Return the bound of that name.

    Raises:
        ValueError: naming the nearest bound, where there is none of that name.
    """
    if name in BOUNDS:
        return BOUNDS[name]
    near = difflib.get_close_matches(str(name).lower().replace("_", "-"), BOUNDS, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"bound is {name!r}, but must be one of {', '.join(BOUNDS)}{hint}")


def differentiable_bound(name: str) -> Bound:
    """The bound of that name, once `jaxedge.sensitivity` knows the derivatives of its optimum.

    Raises:
        ValueError: naming those whose derivatives are known.
    """
    bound = bound_named(name)
    if not bound.differentiable:
        known = ", ".join(repr(item.name) for item in BOUNDS.values() if item.differentiable)
        raise ValueError(
            f"bound: derivatives of the optimum are known for {known}, but not for {name!r}"
        )
    return bound
