"""Elementary functions without cancellation, in forms that fill vector instructions on a CPU.

XLA calls the C library for a float64 cube root there, one number at a time
(`benchmarks/elementary.py`).
"""

from __future__ import annotations

import math

import jax
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


_START = (
    (
        1.0000191473373647,
        -4.560575312362012,
        8.256451209072154,
        -7.422405922023386,
        3.322626610984374,
        -0.5960331131413386,
    ),
    (
        1.0,
        -4.726646246068174,
        8.887227204234543,
        -8.304792729699722,
        3.8571171767428,
        -0.7128640498524351,
    ),
)
"""Rational fit of x/l in l/(1 + l) with l = ln(1 + sqrt(2 y)), within 2e-5 for every y."""


@jax.custom_jvp
def transmission_exponent(y: Array) -> Array:
    """X >= 0 with (x - 1) e^x + 1 = y: the optimal exponent ln(1 + SNR) at price ratio y >= 0.

    One step of Halley's method on the logarithm of the equation, which is almost linear in x,
    from a rational fit: within 1e-13.
    """
    # Squares and reciprocals of x stay finite.
    y = jnp.clip(y, 1e-250, 1e250)
    root = jnp.sqrt(2 * y)
    start = jnp.where(root < 1e-3, root * (1 - root / 2), jnp.log(1 + root))
    share = start / (1 + start)
    above, below = (polynomial(c, share) for c in _START)
    x = start * above / below
    _, rest = rest_of_exp(x)
    newton = (x + jnp.log(rest) - jnp.log(y)) * rest / x
    # The ratio of the second derivative to the first is (rest - x^2 + x rest)/(x rest).
    bend = (rest - x * x + x * rest) / (x * rest)
    return x - newton / (1 - newton * bend / 2)


@transmission_exponent.defjvp
def _transmission_exponent_jvp(
    primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    x = transmission_exponent(primals[0])
    return x, tangents[0] * jnp.exp(-x) / x
