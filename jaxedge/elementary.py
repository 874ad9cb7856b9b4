"""Elementary functions in forms that XLA turns into vector instructions on a CPU.

XLA calls the C library for a float64 exponential and cube root there, one number at a time
(`benchmarks/elementary.py`).
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array

_LN2_HIGH, _LN2_LOW = 0.693147180369123816490, 1.90821492927058770002e-10
"""Cody and Waite's split: multiples of the first up to 2^10 are exact."""
_TAYLOR = tuple(1 / math.factorial(i) for i in range(14))
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


@jax.custom_jvp
def exp(x: Array) -> Array:
    """e^x for float64 |x| <= 700, beyond which x is cut off; within 4e-16 relative.

    With x = n ln 2 + r and |r| <= ln(2)/2, a polynomial in r times 2^n written as bits.
    """
    if x.dtype != jnp.float64:
        return jnp.exp(x)
    x = jnp.clip(x, -700.0, 700.0)
    n = jnp.round(x * (1 / math.log(2)))
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    power = jax.lax.bitcast_convert_type((n.astype(jnp.int64) + 1023) << 52, jnp.float64)
    # XLA takes arithmetic for cheap, and would repeat it for each reader.
    return jax.lax.optimization_barrier(polynomial(_TAYLOR, r) * power)


@exp.defjvp
def _exp_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    value = exp(primals[0])
    return value, tangents[0] * value


def cube_root(x: Array) -> Array:
    """X^(1/3) for x > 0."""
    return exp(jnp.log(x) * (1 / 3))


def rest_of_exp(x: Array) -> tuple[Array, Array]:
    """e^-x, and x - 1 + e^-x without cancellation, for x >= 0."""
    power = exp(-x)
    series = x * x * polynomial(_REST, jnp.minimum(x, _SMALL))
    return power, jnp.where(x < _SMALL, series, (x - 1) + power)
