"""Closed-form best responses to prices: what each part of the system does when told its prices.

With lam the price of energy and nu the price of time, each minimisation in the Lagrangian
separates (docs/theory.md). Every function is elementwise, so that it serves the server () and the
devices (K,) alike.
"""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from jaxedge.program.elementary import cube_root, polynomial, rest_of_exp
from jaxedge.program.program import Computing, Program, Transmission


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Prices:
    """Multipliers of the scaled budgets, one time price for each device."""

    energy: Array
    """() lam >= 0."""
    device_time: Array
    """(K,) nu_k >= 0; their sum nu is the price of time."""

    @property
    def time(self) -> Array:
        """() nu."""
        return jnp.sum(self.device_time, axis=0)


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


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Work:
    """A computing response for one round."""

    batch: Array
    sample_time: Array
    energy: Array
    time: Array
    cost: Array
    """variance/batch + lam energy + nu time."""
    price: Array
    """lam energy + nu time of one sample."""
    batch_slope: Array
    """Derivative of the batch to the price, 0 at its limits."""
    time_elasticity: Array
    """Of the sample's time to lam/nu: 1/3, or 0 at its limits."""


def respond_computing(
    part: Computing, lam: Array, nu: Array, *, integer: bool = False, blur: Array | None = None
) -> Work:
    """Minimise variance/b + lam work weight b/tau^2 + nu weight b tau over b and tau.

    tau = clip((2 lam work/nu)^(1/3)) and b = clip(sqrt(variance/price)).

    Args:
        part: server () or devices (K,).
        lam: price of energy.
        nu: price of time, of the part's shape.
        integer: take the better of the two whole numbers around b (the cost is convex in b).
        blur: take the soft minimum of these two at this temperature, in units of the cost: smooth,
            and below the integer cost; the batch is then the mean of both.
    """
    # Small enough to change nothing, large enough that its square and its reciprocal are finite.
    tiny = jnp.finfo(part.work.dtype).tiny ** 0.3
    tau = cube_root(jnp.maximum(2 * lam * part.work / jnp.maximum(nu, tiny), tiny))
    elasticity = jnp.where((tau > part.min_time) & (tau < part.max_time), 1 / 3, 0.0)
    tau = jnp.clip(tau, part.min_time, part.max_time)
    sample_energy, sample_time = part.weight * part.work / tau**2, part.weight * tau
    price = jnp.maximum(lam * sample_energy + nu * sample_time, tiny)
    batch = jnp.sqrt(jnp.maximum(part.variance, tiny**2) / price)
    slope = jnp.where(
        (batch > part.min_batch) & (batch < part.max_batch), -batch / (2 * price), 0.0
    )
    batch = jnp.clip(batch, part.min_batch, part.max_batch)
    cost = part.variance / batch + price * batch
    if integer or blur is not None:
        below = jnp.clip(jnp.floor(batch), part.min_batch, part.max_batch)
        above = jnp.clip(below + 1, part.min_batch, part.max_batch)
        low = part.variance / below + price * below
        high = part.variance / above + price * above
        if blur is None:
            batch, cost = jnp.where(low <= high, below, above), jnp.minimum(low, high)
            slope = jnp.zeros_like(batch)
        else:
            share, step = jax.nn.sigmoid((low - high) / blur), above - below
            batch = below + step * share
            slope = -share * (1 - share) * step**2 / blur
            cost = -blur * jnp.logaddexp(-low / blur, -high / blur)
    used = sample_energy * batch, sample_time * batch
    return Work(batch, tau, *used, cost, price, slope, elasticity)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Send:
    """A transmission response for one round."""

    exponent: Array
    energy: Array
    time: Array
    energy_slope: Array
    """Derivative to ln(nu/lam), 0 where the exponent is at its limits."""
    time_slope: Array
    """Derivative to ln(nu/lam)."""


@jax.jit
def respond_transmission(part: Transmission, lam: Array, nu: Array) -> Send:
    """Minimise lam joules (e^x - 1)/x + nu nats/x over the exponent x."""
    tiny = jnp.finfo(part.nats.dtype).tiny
    ratio = nu * part.nats / jnp.maximum(lam * part.joules, tiny)
    x = transmission_exponent(ratio)
    free = (x > part.min_exponent) & (x < part.max_exponent)
    x = jnp.maximum(jnp.clip(x, part.min_exponent, part.max_exponent), tiny)
    power, rest = rest_of_exp(x)
    # e^x - 1 = (x - rest) e^x keeps its digits where x is small.
    energy, time = part.joules * (x - rest) / (power * x), part.nats / x
    # y = e^x rest with rest = x - 1 + e^-x, so dx/dln y = rest/x.
    rest = jnp.where(free, rest, 0.0) / x
    energy_slope = (energy + part.joules / x) * rest**2
    return Send(x, energy, time, energy_slope, -time * rest / x)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Responses:
    """What one round of either stage costs under the best responses to prices."""

    server: Work
    devices: Work
    uploads: Send
    broadcast: Send
    pretraining_cost: Array
    """() A: floor + the server's cost."""
    finetuning_cost: Array
    """() B: the devices' and the broadcast's cost."""
    pretraining_use: Array
    """(2,) energy and time of a pre-training round."""
    finetuning_use: Array
    """(2,) energy and time of a fine-tuning round, the time weighted by the devices' prices."""


@partial(jax.jit, static_argnames="integer")
def respond(program: Program, prices: Prices, *, integer: bool = False) -> Responses:
    """Best responses of the whole system to ``prices``, with the two dual pieces A and B."""
    lam, nus, nu = prices.energy, prices.device_time, prices.time
    server = respond_computing(program.server, lam, nu, integer=integer)
    devices = respond_computing(program.devices, lam, nus, integer=integer)
    uploads = respond_transmission(program.uploads, lam, nus)
    broadcast = respond_transmission(program.broadcast, lam, nu)
    upload_cost = lam * uploads.energy + nus * uploads.time
    broadcast_cost = lam * broadcast.energy + nu * broadcast.time
    share = nus / jnp.maximum(nu, jnp.finfo(nu.dtype).tiny)
    round_time = jnp.sum(share * (devices.time + uploads.time), axis=0) + broadcast.time
    round_energy = jnp.sum(devices.energy + uploads.energy, axis=0) + broadcast.energy
    return Responses(
        server,
        devices,
        uploads,
        broadcast,
        program.floor + server.cost,
        jnp.sum(devices.cost + upload_cost, axis=0) + broadcast_cost,
        jnp.stack([server.energy, server.time]),
        jnp.stack([round_energy, round_time]),
    )
