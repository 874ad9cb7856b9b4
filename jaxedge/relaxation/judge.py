"""A judged real answer: a design and a lower bound from any prices, whoever found them."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxedge.program.certificates import bound_from_responses
from jaxedge.program.design import Design, design_from_responses
from jaxedge.program.program import Program
from jaxedge.program.responses import Prices, respond
from jaxedge.relaxation.solvers import DUAL_DECOMPOSITION

RELAXED_GAP = DUAL_DECOMPOSITION.gap
"""Certified relative gap at which a relaxed answer counts as optimal."""


def relative_gap(bound: Any, lower: Any) -> Any:
    """(bound - lower)/lower, at least 0; inf where that is no certificate: lower <= 0 or nan.

    Args:
        bound: what designs reach, (...) of NumPy or of JAX.
        lower: what no design is below, of the same shape.
    """
    xp = jnp if isinstance(bound, Array) else np
    known = xp.isfinite(bound) & xp.isfinite(lower) & (lower > 0)
    above = xp.where(known, bound, 1.0) - xp.where(known, lower, 1.0)
    return xp.where(known, xp.maximum(above, 0) / xp.where(known, lower, 1.0), xp.inf)


_Tree = TypeVar("_Tree")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Relaxed:
    """Judged answers to relaxed programs, with a leading batch axis."""

    design: Design
    prices: Prices
    lower_bound: Array

    @property
    def gap(self) -> np.ndarray:
        """(batch,) certified relative gap; inf where nothing is certified."""
        return np.asarray(relative_gap(np.asarray(self.design.value), np.asarray(self.lower_bound)))


def judge(program: Program, prices: Prices, own: Design | None = None) -> Relaxed:
    """Design and certificate of a scalar program, or with trailing batch axes, at given prices.

    Where the energy budget is slack its price is zero, which no logarithm reaches: zero is tried
    too, and the better certificate is kept, and of the designs the best.

    Args:
        program: feasible program.
        prices: any; the certificate is valid wherever they come from.
        own: a design that the solver found besides; its value is inf unless it keeps all limits.
    """
    free = dataclasses.replace(prices, energy=jnp.zeros_like(prices.energy))
    responses, free_responses = respond(program, prices), respond(program, free)
    bound = bound_from_responses(program, prices, responses)
    free_bound = bound_from_responses(program, free, free_responses)
    kept = _where(free_bound > bound, free, prices)
    best = design_from_responses(program, responses)
    for design in (design_from_responses(program, free_responses), own):
        if design is not None:
            best = _where(design.value < best.value, design, best)
    return Relaxed(design=best, prices=kept, lower_bound=jnp.maximum(bound, free_bound))


def _where(which: Array, a: _Tree, b: _Tree) -> _Tree:
    chosen: _Tree = jax.tree.map(lambda x, y: jnp.where(which, x, y), a, b)
    return chosen
