"""Lower bounds on the fine-tuning bound over intervals of pre-training rounds, from prices.

At fixed prices only lump(M) = floor(M) + h(M) in the Lagrangian depends on M, where
h(M) = min over b0 of [(1 - q^M) s/b0 + M kap b0] is a minimum of concave functions, hence concave
and no less than its chord between the ends. The floor, constant + slope q^M, is convex for slope
>= 0: with the chord it is least where its derivative vanishes or at an end. For slope < 0 the lump
is concave, and least at an end. Either way the loss is of second order in the interval's length.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxedge.program.certificates import ray_values
from jaxedge.program.program import Program
from jaxedge.program.responses import Prices, respond, respond_computing

_MAX_FACTOR = 1e3
"""Largest multiple of prices that is tried: it bounds what is infeasible."""


class Decay(NamedTuple):
    """The floor of pre-training in original units is constant + slope e^(-rate M)."""

    slope: Array
    rate: Array


class Span(NamedTuple):
    """The rounds first <= M <= last with the fine-tuning programs at both ends."""

    first: Array
    last: Array
    at_first: Program
    at_last: Program


def span_bound(floor: Decay, span: Span, prices: Prices, *, integer: bool = False) -> Array:
    """Lower bound on the fine-tuning bound at every M of a span, real or whole.

    The programs may be restricted in batches, times, exponents and rounds, alike at both ends; rays
    that depend on M must lie between those of the ends, as those of M = N do.

    Args:
        floor: of the scenario's floor.
        span: programs are scalar; batching is vmap. Exact where first == last.
        prices: any prices >= 0 in original units: those of a program times its scale.
        integer: restrict batches to whole numbers.

    Returns:
        () lower bound in original units, -inf where the prices are not finite and nonnegative.
    """
    return _bound_and_slack(floor, span, prices, integer)[0]


def _bound_and_slack(
    floor: Decay, span: Span, prices: Prices, integer: bool
) -> tuple[Array, Array]:
    """The bound, and what is left of the lump when the budgets are paid for."""
    begin, end = span.at_first, span.at_last
    answer = respond(begin, _unit_free(prices, begin), integer=integer)
    own = _unit_free(prices, end)
    last_cost = respond_computing(end.server, own.energy, own.time, integer=integer).cost
    lump = _least_lump(floor, span, answer.server.cost * begin.scale, last_cost * end.scale)
    fine = answer.finetuning_cost * begin.scale
    idle = begin.gap * begin.scale - prices.energy - prices.time
    values = [jnp.min(ray_values(program, lump, fine, idle)) for program in (begin, end)]
    value = jnp.minimum(*values)
    valid = (prices.energy >= 0) & jnp.all(prices.device_time >= 0) & jnp.isfinite(value)
    return jnp.where(valid, value, -jnp.inf), lump + idle


def _unit_free(prices: Prices, program: Program) -> Prices:
    scaled: Prices = jax.tree.map(lambda price: price / program.scale, prices)
    return scaled


def _least_lump(floor: Decay, span: Span, first_cost: Array, last_cost: Array) -> Array:
    """Least floor(M) + chord(M) over the span, from the server's costs at its ends."""
    width = span.last - span.first
    begin = span.at_first.floor * span.at_first.scale + first_cost
    end = span.at_last.floor * span.at_last.scale + last_cost
    chord = (last_cost - first_cost) / jnp.where(width > 0, width, 1)
    left = floor.slope * jnp.exp(-floor.rate * span.first)
    bends = (left > 0) & (chord > 0) & (width > 0)
    steepness = jnp.where(bends, left * floor.rate / jnp.where(bends, chord, 1), 1)
    move = jnp.clip(jnp.log(steepness) / floor.rate, 0, width)
    inside = begin + left * jnp.expm1(-floor.rate * move) + chord * move
    return jnp.minimum(jnp.minimum(begin, end), jnp.where(bends, inside, begin))


def best_span_bound(floor: Decay, span: Span, prices: Prices, *, integer: bool) -> Array:
    """The best `span_bound` at multiples of the prices.

    Where more rounds than the fewest are best, the lump just pays for the budgets. What it lacks
    counts as often as there are fine-tuning rounds, so that prices of another M need a common
    factor. The slack is concave in it: from 0 and 1 the secant leads near its root, then beyond.
    """

    def at(factor: Array) -> tuple[Array, Array]:
        scaled: Prices = jax.tree.map(lambda price: price * factor, prices)
        return _bound_and_slack(floor, span, scaled, integer)

    def root(x: Array, y: Array, slack_x: Array, slack_y: Array) -> Array:
        fall = slack_x - slack_y
        meets = (slack_x * y - slack_y * x) / jnp.where(fall > 0, fall, 1)
        return jnp.clip(jnp.where(fall > 0, meets, _MAX_FACTOR), 1 / _MAX_FACTOR, _MAX_FACTOR)

    zero, one = jnp.zeros_like(prices.energy), jnp.ones_like(prices.energy)
    bound, slack = at(one)
    first = root(zero, one, span.at_first.floor * span.at_first.scale, slack)
    first_bound, first_slack = at(first)
    second = jnp.where(
        first < 1, root(first, one, first_slack, slack), root(one, first, slack, first_slack)
    )
    return jnp.maximum(jnp.maximum(bound, first_bound), at(second)[0])
