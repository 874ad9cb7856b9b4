"""Where the paths of the dual decomposition begin, and one path from there to its end."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxedge.program.program import Program
from jaxedge.program.responses import Prices
from jaxedge.relaxation.dual_decomposition import FAST, State, advance, prices_at

COLD, CAREFUL, WARM = 0.1, 1.0, 1e-3
"""Softness, and a third of the distance to the dual's value, at which a path begins: from prices
that are a guess, fast or carefully, and from those of a neighbour."""
_LEAST_SHARE = 1e-30
"""Of all prices, for a price of zero, which has no logarithm."""


def begin(
    prices: Prices, softness: ArrayLike, shrink: ArrayLike, max_steps: ArrayLike, xp: Any = jnp
) -> State:
    """A path to begin at given prices; `advance` works out the rest of its state.

    Args:
        prices: with any trailing batch axes; zeros are taken as small.
        softness: `COLD`, `CAREFUL` or `WARM`.
        shrink: of the barrier in a full step.
        max_steps: iterations allowed.
        xp: numpy for arrays on the host, or jax.numpy.
    """
    energy, times = prices.energy, prices.device_time
    least = _LEAST_SHARE * (energy + xp.sum(times, axis=0)) + np.finfo(energy.dtype).tiny
    new = xp.full_like(energy, np.nan)
    rays = xp.stack([new] * 4)
    return State(
        log_lam=xp.log(xp.maximum(energy, least)),
        log_nu=xp.log(xp.maximum(times, least / times.shape[0])),
        log_round=new,
        theta=new,
        weights=rays,
        slacks=rays,
        barrier=new,
        softness=xp.full_like(energy, softness),
        dual_value=xp.full_like(energy, -np.inf),
        change=xp.full_like(energy, np.inf),
        steps=xp.zeros_like(energy, int),
        max_steps=xp.full_like(energy, max_steps, int),
        shrink=xp.full_like(energy, shrink),
    )


def even_prices(program: Program, xp: Any = jnp) -> Prices:
    """The prices of a design limited by computing alone, (1/3, 2/3), split evenly.

    Args:
        program: with any trailing batch axes.
        xp: numpy for arrays on the host, or jax.numpy.
    """
    work = program.devices.work
    return Prices(
        energy=xp.full_like(program.gap, 1 / 3),
        device_time=xp.full_like(work, 2 / 3 / work.shape[0]),
    )


def cold_softness(shrink: Any, xp: Any) -> Any:
    """The softness at which a path from guessed prices begins.

    Args:
        shrink: of the barrier in a full step.
        xp: numpy or jax.numpy.
    """
    return xp.where(shrink <= FAST, COLD, CAREFUL)


def solve_prices(program: Program, shrink: ArrayLike, max_steps: ArrayLike) -> Prices:
    """Prices that maximise the dual of a feasible program with any trailing batch axes.

    Args:
        program: scalar program; batching is vmap.
        shrink: factor in (0, 1) of the barrier in a full step: 0.15 is fast, 0.5 is careful.
        max_steps: limit on the iterations.

    Returns:
        The prices; the certificate tells how good they are.
    """
    softness = cold_softness(jnp.asarray(shrink), jnp)
    start = begin(even_prices(program), softness, shrink, max_steps)
    return prices_at(advance(program, start))
