"""Steps as affine forms: arrays (5, ...) of a constant and factors of dlog lam, dlog R, dM, dN."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxedge.program.responses import Send, Work


def form(one: Array, **factors: Array) -> Array:
    """(5, ...) ``one`` and the factors by name: lam, round, m, n."""
    zero = jnp.zeros_like(one)
    names = ("lam", "round", "m", "n")
    return jnp.stack([one, *(factors.get(name, zero) + zero for name in names)])


class Used(NamedTuple):
    """Energy and time with derivatives to log lam, the log of its time's price, M and N."""

    energy: Array
    time: Array
    energy_by: tuple[Array, ...]
    time_by: tuple[Array, ...]


def use_of_work(work: Work, lam: Array, nu: Array, log_noise: Array) -> Used:
    """Of computing; ``log_noise`` (2, ...) are the slopes of the logarithm of a round's noise."""
    rate = work.batch_slope / work.batch
    by_l = rate * lam * work.energy / work.batch
    by_n = rate * nu * work.time / work.batch
    third = work.time_elasticity
    # The batch grows with the root of the noise, where it is free.
    free = -rate * work.price
    grow = [free * slope for slope in log_noise]
    return Used(
        work.energy,
        work.time,
        (
            work.energy * (by_l - 2 * third),
            work.energy * (by_n + 2 * third),
            *(work.energy * x for x in grow),
        ),
        (work.time * (by_l + third), work.time * (by_n - third), *(work.time * x for x in grow)),
    )


def use_of_send(send: Send) -> Used:
    """Of sending."""
    zero = jnp.zeros_like(send.energy)
    return Used(
        send.energy,
        send.time,
        (-send.energy_slope, send.energy_slope, zero, zero),
        (-send.time_slope, send.time_slope, zero, zero),
    )


def batch_step(work: Work, lam: Array, nu: Array, logs: Array, d_nu: Array, unit: Array) -> Array:
    """The form of dlog b."""
    rate = work.batch_slope / work.batch
    by_l = rate * lam * work.energy / work.batch
    by_n = rate * nu * work.time / work.batch
    free = -rate * work.price
    factors = [x[None] for x in (by_l, by_n, free * logs[0], free * logs[1])]
    forms = (unit[1], d_nu, unit[3], unit[4])
    return sum((x * y for x, y in zip(factors, forms, strict=True)), start=0 * d_nu)
