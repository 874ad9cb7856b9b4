"""A structure-blind batch method in JAX: augmented Lagrangian, L-BFGS from Optax, vmapped, jitted.

It sees logarithms of the original variables behind a sigmoid that keeps the boxes, the objective
and 2+K limits, and nothing else. The tolerance is the number of inner steps of each of 12 rounds.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.scenario.scenario import Scenario
from peers.natural import boxes, limits, log_bound, start_of
from peers.parameters import scenario_at

_ROUNDS = 12
_GROWTH = 3.0


def solve(scenarios: Scenario, variant: str, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """(B, 5+3K) designs and (B,) seconds: equal shares of the batch's."""
    size = len(scenarios.energy_budget)
    each = [scenario_at(scenarios, i) for i in range(size)]
    with jax.enable_x64(True):
        starts = np.stack([start_of(scenario) for scenario in each])
        low, high = (np.stack(x) for x in zip(*map(boxes, each), strict=True))
        run = _method(int(tolerance))
        begun = time.perf_counter()
        found = np.asarray(run(scenarios, starts, low, high))
        seconds = np.full(size, (time.perf_counter() - begun) / size)
    return np.delete(np.exp(found), 5, axis=1), seconds


@functools.cache
def _method(steps: int) -> Callable[..., Any]:
    import optax

    descent = optax.lbfgs(memory_size=20)

    def one(scenario: Scenario, start: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
        width = jnp.maximum(high - low, 1e-12)

        def inside(y: jax.Array) -> jax.Array:
            return low + width * jax.nn.sigmoid(y)

        def merit(y: jax.Array, multipliers: jax.Array, weight: jax.Array) -> jax.Array:
            z = inside(y)
            pushed = jnp.maximum(multipliers + weight * limits(z, scenario), 0.0)
            return log_bound(z, scenario) + jnp.sum(pushed**2 - multipliers**2) / (2 * weight)

        def a_round(carry: tuple[Any, ...], _: None) -> tuple[tuple[Any, ...], None]:
            y, multipliers, weight = carry
            value_of = functools.partial(merit, multipliers=multipliers, weight=weight)
            look = optax.value_and_grad_from_state(value_of)

            def step(i: jax.Array, state: tuple[Any, Any]) -> tuple[Any, Any]:
                y, memory = state
                value, slope = look(y, state=memory)
                move, memory = descent.update(
                    slope, memory, y, value=value, grad=slope, value_fn=value_of
                )
                return optax.apply_updates(y, move), memory

            y, _ = jax.lax.fori_loop(0, steps, step, (y, descent.init(y)))
            broken = limits(inside(y), scenario)
            return (y, jnp.maximum(multipliers + weight * broken, 0.0), weight * _GROWTH), None

        share = jnp.clip((start - low) / width, 1e-3, 1 - 1e-3)
        first = (jnp.log(share / (1 - share)), jnp.full(limits(start, scenario).shape, 0.1), 1.0)
        (y, _, _), _ = jax.lax.scan(a_round, first, None, length=_ROUNDS)
        return inside(y)

    return jax.jit(jax.vmap(one))
