"""The optimal design as a function that JAX transforms, to stand in a larger program."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxedge.bounds.formulation import allocation_of
from jaxedge.bounds.two_stage import two_stage_program
from jaxedge.machine.precision import require_x64
from jaxedge.scenario.fields import as_arrays
from jaxedge.scenario.scenario import Scenario
from jaxedge.sensitivity.gradients import is_certified, solve_in_trace
from jaxedge.sensitivity.optimality import design_at, optimum, starting_point
from jaxedge.system.allocation import Allocation

_RESIDUAL = 1e-8
"""Relative error of the optimality conditions above which no derivative is claimed."""


def optimal_allocation(scenario: Scenario) -> Allocation:
    """The relaxed optimal design of the two-stage bound, with its implicit derivative.

    With x the optimum's prices and rounds and F(x, s) = 0 its optimality conditions in a scenario
    s, dx/ds = -(dF/dx)^-1 dF/ds; batches, clocks and powers follow from the prices in closed form.
    It may stand inside ``jit``, ``vmap``, ``grad``, ``jacfwd`` and the like. Nothing is validated.

    Args:
        scenario: one scenario; numbers are broadcast over the devices.

    Returns:
        Real rounds and batches, clocks in Hz, powers in W, devices (K,). All nan, derivatives too,
        where the optimum is not certified to 1e-6. Where the active limits change it has no
        derivative, and what is given there is that of slightly smoothed conditions.

    Raises:
        ValueError: where 64-bit numbers are not enabled.
    """
    require_x64("optimal_allocation")
    full = as_arrays(scenario)
    program, fixed = two_stage_program(full), two_stage_program(jax.lax.stop_gradient(full))
    relaxed = solve_in_trace(fixed)
    start = starting_point(fixed, relaxed.design, relaxed.prices, relaxed.lower_bound)
    point, error = optimum(program, start)
    known = is_certified(relaxed) & (error <= _RESIDUAL)
    allocation = allocation_of(full, program, design_at(program, point))
    # A product, so that derivatives are nan with the values.
    mask = jnp.where(known, 1.0, jnp.nan)
    masked: Allocation = jax.tree.map(lambda x: x * mask, allocation)
    return masked
