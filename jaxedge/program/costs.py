"""Joules and seconds of computing and of sending, free of units: the program's costs, once.

A sample that takes the time tau, and a transmission with the exponent x = ln(1 + SNR), cost::

    computing    time tau,       energy work/tau^2 + circuit tau
    sending      time nats/x,    energy joules (e^x - 1)/x + circuit nats/x

``circuit`` is the power that a part draws for as long as it works, None for none. It adds to what
time costs: with lam the price of energy and nu the price of time, a unit of time of such a part
costs nu + lam circuit, and all else is as without it. Every function is elementwise.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxedge.program.elementary import cube_root, rest_of_exp, transmission_exponent
from jaxedge.program.program import Computing, Transmission

Part = Computing | Transmission


def drawn(part: Part, time: ArrayLike = 1.0) -> Array | float:
    """Energy that the part's circuits draw in ``time``, or in a unit of it."""
    return 0.0 if part.circuit is None else part.circuit * time


def price_of_time(part: Part, lam: ArrayLike, nu: Array) -> Array:
    """What a unit of the part's time costs, nu + lam circuit."""
    return nu if part.circuit is None else nu + lam * part.circuit


def priced_share(part: Part, lam: Array, nu: Array) -> Array | float:
    """Derivative of the logarithm of `price_of_time` over lam to that of nu/lam."""
    if part.circuit is None:
        return 1.0
    return nu / jnp.maximum(price_of_time(part, lam, nu), jnp.finfo(nu.dtype).tiny)


def computing(part: Computing, sample_time: Array) -> tuple[Array, Array]:
    """Energy and time of one sample of the batch, which stands for ``weight`` samples computed."""
    time = part.weight * sample_time
    return part.weight * part.work / sample_time**2 + drawn(part, time), time


def computing_elasticity(part: Computing, sample_time: Array) -> Array | float:
    """Elasticity of a sample's energy to its time: -2 where no circuits draw power."""
    if part.circuit is None:
        return -2.0
    energy, time = computing(part, sample_time)
    return 3 * drawn(part, time) / energy - 2


def computing_pace(part: Computing, sample_time: Array) -> Array:
    """Energy that a unit more of a sample's time saves, 2 work/tau^3 - circuit."""
    return 2 * part.work / sample_time**3 - drawn(part)


def best_sample_time(part: Computing, lam: ArrayLike, nu: Array) -> Array:
    """The time per sample at which energy and time cost least, were there no limits."""
    tiny = jnp.finfo(part.work.dtype).tiny
    # A free price is small enough to change nothing, and large enough that the time stays finite.
    price = jnp.maximum(price_of_time(part, lam, nu), tiny**0.3)
    return cube_root(jnp.maximum(2 * lam * part.work / price, tiny))


def sending_time(part: Transmission, exponent: Array) -> Array:
    """Time of a transmission."""
    return part.nats / exponent


def sending(part: Transmission, exponent: Array) -> tuple[Array, Array]:
    """Energy and time of a transmission with a positive exponent."""
    power, rest = rest_of_exp(exponent)
    time = sending_time(part, exponent)
    # e^x - 1 = (x - rest) e^x keeps its digits where x is small.
    energy = part.joules * (exponent - rest) / (power * exponent)
    return energy + drawn(part, time), time


def sending_total(part: Transmission, rounds: Array, time: Array) -> Array:
    """Energy of ``rounds`` transmissions in ``time``: `sending` in a form for no rounds, too.

    Solvers that differentiate it twice compile it faster.
    """
    return part.joules / part.nats * time * jnp.expm1(part.nats * rounds / time) + drawn(part, time)


def sending_slopes(part: Transmission, exponent: Array, moves: Array) -> tuple[Array, Array]:
    """Derivatives of energy and time of the best exponent to the logarithm of its price ratio.

    Args:
        part: elementwise.
        exponent: the best one x, with (x - 1) e^x + 1 = y at the price ratio y.
        moves: whether it follows the prices, where 0 is answered otherwise.
    """
    _, rest = rest_of_exp(exponent)
    energy, time = sending(part, exponent)
    # y = e^x rest with rest = x - 1 + e^-x, so dx/dln y = rest/x.
    slope = jnp.where(moves, rest, 0.0) / exponent
    time_slope = -time * slope / exponent
    radiated = energy - drawn(part, time)
    energy_slope = (radiated + part.joules / exponent) * slope**2
    return energy_slope + drawn(part, time_slope), time_slope


def sending_pace(part: Transmission, exponent: Array) -> Array:
    """Energy that a unit more of time saves, joules/nats ((x - 1) e^x + 1) - circuit."""
    power, rest = rest_of_exp(exponent)
    return part.joules / part.nats * (rest / power) - drawn(part)


def best_exponent(part: Transmission, lam: ArrayLike, nu: Array) -> Array:
    """The exponent at which energy and time cost least, were there no limits."""
    tiny = jnp.finfo(part.nats.dtype).tiny
    price = price_of_time(part, lam, nu)
    return transmission_exponent(price * part.nats / jnp.maximum(lam * part.joules, tiny))
