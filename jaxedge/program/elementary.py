"""Elementary functions without cancellation, in forms that fill vector instructions on a CPU.

XLA calls the C library for a float64 cube root there, one number at a time
(`benchmarks/elementary.py`).
"""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import Array

_REST = tuple((-1) ** i / math.factorial(i + 2) for i in range(9))
_SMALL = 0.05
"""Below it (x - 1 + e^-x)/x^2 is summed as a series."""


def polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    """Estrin's scheme: few dependent steps."""
    terms: list[Array | float] = list(coefficients)
    while len(terms) > 1:
        pairs = zip(terms[::2], [*terms[1::2], 0.0], strict=False)
        terms = [
            low if isinstance(high, float) and high == 0 else low + high * x for low, high in pairs
        ]
        x = x * x
    return jnp.asarray(terms[0])


def cube_root(x: Array) -> Array:
    """X^(1/3) for x > 0."""
    return jnp.exp(jnp.log(x) * (1 / 3))


def rest_of_exp(x: Array) -> tuple[Array, Array]:
    """e^-x, and x - 1 + e^-x without cancellation, for x >= 0."""
    power = jnp.exp(-x)
    series = x * x * polynomial(_REST, jnp.minimum(x, _SMALL))
    return power, jnp.where(x < _SMALL, series, (x - 1) + power)
