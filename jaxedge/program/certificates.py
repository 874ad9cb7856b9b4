"""Lower bounds from prices: valid for any prices, whoever found the design."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxedge.program.program import Program
from jaxedge.program.responses import Prices, Responses, respond


def ray_values(program: Program, pretraining: Array, finetuning: Array, idle: Array) -> Array:
    """(4,) the values M A + N B + c on the program's rays."""
    # Written as a sum of products: rank promotion stays explicit and no small matmul is called.
    rays = program.rays
    return rays[:, 0] * pretraining + rays[:, 1] * finetuning + rays[:, 2] * idle


def lower_bound(program: Program, prices: Prices, *, integer: bool = False) -> Array:
    """The Lagrangian lower bound on the program's value at any nonnegative prices.

        min over rays (M, N, 1)/d of  [gap - lam - nu + M A(lam, nu) + N B(lam, nu_k)]/d

    Args:
        program: scalar program; batching is vmap.
        prices: any prices >= 0.
        integer: restrict batches to whole numbers, which tightens the bound for integer designs.

    Returns:
        () lower bound, -inf where the prices are not finite and nonnegative.
    """
    return bound_from_responses(program, prices, respond(program, prices, integer=integer))


def bound_from_responses(program: Program, prices: Prices, answer: Responses) -> Array:
    """The `lower_bound` at prices whose best responses are known."""
    idle = program.gap - prices.energy - prices.time
    values = ray_values(program, answer.pretraining_cost, answer.finetuning_cost, idle)
    value = jnp.min(values, axis=0)
    priced = (prices.energy >= 0) & jnp.all(prices.device_time >= 0, axis=0)
    valid = priced & jnp.isfinite(value)
    return jnp.where(valid, value, -jnp.inf)
