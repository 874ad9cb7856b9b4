"""Bracketed scalar root finding that vmaps: bounded work, no failure on jumps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class _Bracket(NamedTuple):
    x1: Array
    f1: Array
    x2: Array
    f2: Array
    x3: Array
    f3: Array
    t: Array
    steps: Array
    aux: Any


def bracketed_root(
    fn: Callable[[Array, Any], tuple[Array, Any]],
    lower: Array,
    upper: Array,
    aux: Any,
    *,
    tolerance: float,
    max_steps: int = 120,
) -> tuple[Array, Any]:
    """Where ``fn`` changes sign from + at ``lower`` to - at ``upper`` (Chandrupatla's method).

    Args:
        fn: (x, aux) -> (value, aux); aux carries a warm start from one evaluation to the next.
        lower: scalar where the value is taken to be +inf.
        upper: scalar where the value is taken to be -inf.
        aux: first aux.
        tolerance: absolute width of the last bracket.
        max_steps: limit on evaluations.

    Returns:
        The end of the last bracket where the value is not positive, and the last aux. A jump is
        bracketed
        by bisection. Source: Chandrupatla, Adv. Eng. Software 28 (1997), 145-149.
    """
    big = jnp.finfo(lower.dtype).max ** 0.25

    def alive(s: _Bracket) -> Array:
        return (jnp.abs(s.x2 - s.x1) > 2 * tolerance) & (s.steps < max_steps) & (s.f1 != 0)

    def step(s: _Bracket) -> _Bracket:
        x = s.x1 + s.t * (s.x2 - s.x1)
        value, aux = fn(x, s.aux)
        value = jnp.clip(jnp.nan_to_num(value, nan=-big), -big, big)
        same = jnp.sign(value) == jnp.sign(s.f1)
        x3, f3 = jnp.where(same, s.x1, s.x2), jnp.where(same, s.f1, s.f2)
        x2, f2 = jnp.where(same, s.x2, s.x1), jnp.where(same, s.f2, s.f1)
        least = tolerance / jnp.abs(x2 - x)
        xi, phi = (x - x2) / (x3 - x2), (value - f2) / (f3 - f2)
        smooth = (phi**2 < xi) & ((1 - phi) ** 2 < 1 - xi)
        quadratic = value / (f2 - value) * f3 / (f2 - f3) + (x3 - x) / (x2 - x) * value / (
            f3 - value
        ) * f2 / (f3 - f2)
        t = jnp.clip(jnp.where(smooth, quadratic, 0.5), least, 1 - least)
        t = jnp.where(jnp.isfinite(t), t, 0.5)
        return _Bracket(x, value, x2, f2, x3, f3, t, s.steps + 1, aux)

    high, low = jnp.full_like(lower, big), jnp.full_like(lower, -big)
    half = jnp.full_like(lower, 0.5)
    start = _Bracket(lower, high, upper, low, lower, high, half, jnp.zeros((), int), aux)
    end = jax.lax.while_loop(alive, step, start)
    return jnp.where(end.f1 <= 0, end.x1, end.x2), end.aux


def decreasing_roots(
    fn: Callable[[Array], Array],
    lower: Array,
    upper: Array,
    start: Array,
    *,
    tolerance: float,
    max_steps: int = 120,
) -> Array:
    """Elementwise roots of a decreasing ``fn`` by Newton steps that fall back on bisection.

    Args:
        fn: elementwise decreasing function, (K,) -> (K,); slope by forward differentiation.
        lower: (K,) left ends; an element that is negative there is answered with its left end.
        upper: (K,) right ends, likewise.
        start: (K,) first guesses.
        tolerance: absolute error of the root.
        max_steps: limit on evaluations.

    Returns:
        (K,) roots within [lower, upper].
    """

    def alive(state: tuple[Array, ...]) -> Array:
        _, lo, hi, step, _, count = state
        return jnp.any((jnp.abs(step) > tolerance) & (hi - lo > tolerance)) & (count < max_steps)

    def advance(state: tuple[Array, ...]) -> tuple[Array, ...]:
        x, lo, hi, last, before, count = state
        value, slope = jax.jvp(fn, (x,), (jnp.ones_like(x),))
        lo, hi = jnp.where(value > 0, x, lo), jnp.where(value > 0, hi, x)
        newton = x - value / slope
        # Newton is trusted while it stays inside and its steps keep shrinking by half.
        good = (newton >= lo) & (newton <= hi) & (2 * jnp.abs(newton - x) <= jnp.abs(before))
        new = jnp.where(good, newton, 0.5 * (lo + hi))
        return new, lo, hi, new - x, last, count + 1

    wide = upper - lower
    start = jnp.clip(start, lower, upper)
    state: tuple[Array, ...] = (start, lower, upper, 2 * wide, 2 * wide, jnp.zeros((), int))
    return jax.lax.while_loop(alive, advance, state)[0]
