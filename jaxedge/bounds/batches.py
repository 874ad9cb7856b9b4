"""Programs of a batch of scenarios."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import jax
import jax.numpy as jnp

from jaxedge.bounds.base import Bound
from jaxedge.program.program import Program
from jaxedge.scenario.scenario import Scenario


@cache
def programs_of_each(bound: Bound) -> Callable[[Scenario], Program]:
    """A compiled function from scenarios (B, ...) to their programs, for a bound of one program."""

    def program(scenario: Scenario) -> Program:
        return bound.program(scenario, jnp.zeros(0))

    return jax.jit(jax.vmap(program))
