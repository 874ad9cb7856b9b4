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

from jaxedge.program import costs
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
    energy_elasticity: Array
    """Of a sample's energy to lam/nu: -2/3 without circuits, or 0 where its time is at a limit."""
    time_elasticity: Array
    """Of a sample's time to lam/nu: 1/3 without circuits, or 0 at its limits."""


def respond_computing(
    part: Computing, lam: Array, nu: Array, *, integer: bool = False, blur: Array | None = None
) -> Work:
    """Minimise variance/b + lam energy + nu time of computing over b and tau.

    tau = clip((2 lam work/(nu + lam circuit))^(1/3)) and b = clip(sqrt(variance/price)).

    Args:
        part: server () or devices (K,).
        lam: price of energy.
        nu: price of time, of the part's shape.
        integer: take the better of the two whole numbers around b (the cost is convex in b).
        blur: take the soft minimum of these two at this temperature, in units of the cost: smooth,
            and below the integer cost; the batch is then the mean of both.
    """
    tiny = jnp.finfo(part.work.dtype).tiny ** 0.3
    tau = costs.best_sample_time(part, lam, nu)
    elasticity = jnp.where((tau > part.min_time) & (tau < part.max_time), 1 / 3, 0.0)
    elasticity = elasticity * costs.priced_share(part, lam, nu)
    tau = jnp.clip(tau, part.min_time, part.max_time)
    sample_energy, sample_time = costs.computing(part, tau)
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
    energy_elasticity = costs.computing_elasticity(part, tau) * elasticity
    return Work(batch, tau, *used, cost, price, slope, energy_elasticity, elasticity)


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
    """Minimise lam energy + nu time of sending over the exponent x."""
    x = costs.best_exponent(part, lam, nu)
    moves = (x > part.min_exponent) & (x < part.max_exponent)
    x = jnp.clip(x, part.min_exponent, part.max_exponent)
    x = jnp.maximum(x, jnp.finfo(part.nats.dtype).tiny)
    share = costs.priced_share(part, lam, nu)
    energy_slope, time_slope = costs.sending_slopes(part, x, moves)
    return Send(x, *costs.sending(part, x), share * energy_slope, share * time_slope)


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
