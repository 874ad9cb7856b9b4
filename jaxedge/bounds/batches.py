"""Programs of bounds that need nothing searched outside, of one scenario and of a batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import jax
import jax.numpy as jnp

from jaxedge.bounds.base import Bound
from jaxedge.program.program import Program
from jaxedge.scenario.scenario import Scenario


def program_of_bound(bound: Bound, scenario: Scenario) -> Program:
    """The one program of a bound whose ``outer`` is empty."""
    return bound.program(scenario, jnp.zeros(0))


@cache
def programs_of_each(bound: Bound) -> Callable[[Scenario], Program]:
    """A compiled function from scenarios (B, ...) to their `program_of_bound` (B, ...)."""
    return jax.jit(jax.vmap(partial(program_of_bound, bound)))
