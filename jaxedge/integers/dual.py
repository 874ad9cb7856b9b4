"""Prices of the integer dual: the relaxed dual's path once more, with batches smoothed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxedge.program.certificates import lower_bound
from jaxedge.program.program import Program
from jaxedge.program.responses import Prices, respond
from jaxedge.relaxation.dual_decomposition import Blur, State, filled, iterate, prices_at
from jaxedge.relaxation.dual_paths import COLD, begin

_HOT, _COLD, _COOLING = 0.3, 1e-3, 0.75
_STEPS, _SHRINK = 30, 0.5


def integer_prices(program: Program, start: Prices) -> tuple[Prices, Array]:
    """Prices of a high Lagrangian bound for integer batches, and that bound.

    The integer dual has kinks; Newton follows a smoothed one, whose batches are soft minima over
    the two nearest integers, while the temperature falls. Every iterate is judged exactly.

    Args:
        program: scalar program; batching is vmap.
        start: prices of the relaxed optimum.

    Returns:
        The best prices met and their lower bound, never below the bound at ``start``.
    """
    relaxed = respond(program, start)
    scale = Blur(
        program.server.variance / relaxed.server.batch,
        program.devices.variance / relaxed.devices.batch,
    )

    def look(i: Array, carry: tuple[State, Prices, Array]) -> tuple[State, Prices, Array]:
        state, best, bound = carry
        heat = jnp.maximum(_HOT * _COOLING**i, _COLD)
        blur = jax.tree.map(lambda t: heat * t + jnp.finfo(t.dtype).tiny, scale)
        state = iterate(program, state, blur)
        prices = prices_at(state)
        value = lower_bound(program, prices, integer=True)
        better = value > bound
        best = jax.tree.map(lambda a, b: jnp.where(better, a, b), prices, best)
        return state, best, jnp.maximum(value, bound)

    bound = lower_bound(program, start, integer=True)
    state = filled(program, begin(start, COLD, _SHRINK, _STEPS))
    _, best, bound = jax.lax.fori_loop(0, _STEPS, look, (state, start, bound))
    return best, bound
