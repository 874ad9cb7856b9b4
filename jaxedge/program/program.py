"""The convex program that both bounds and all restrictions share, free of units.

In the totals of a stage, and scaled so that both budgets and the numerator's scale are 1, every
problem this package plans has the form (docs/theory.md)::

    minimise    [gap + M (floor + variance0/b0) + N sum_k variance_k/b_k] / (M eta0 + N eta)
    subject to  M e0 + N e1 <= 1,   M t0 + N t1 <= 1,   (M, N) in a polyhedron,
                e0 = weight work0 b0/tau0^2,   t0 = weight b0 tau0,
                e1 = e_bc + sum_k (work_k b_k/tau_k^2 + e_up,k),
                t1 = t_bc + max_k (b_k tau_k + t_up,k),
                t_up = nats/x,   e_up = joules (e^x - 1)/x        (x = ln(1 + SNR))

and, where circuits draw power, as much more energy as that times how long they work (`costs`).
Batches b, times per sample tau = c/f and transmission exponents x have limits. The set of rounds
is given by its extreme rays in Charnes-Cooper coordinates (M, N, 1)/(M eta0 + N eta); a ray with
last entry 0 is a direction in which rounds may grow.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Computing:
    """Computing of the server () or of the devices (K,)."""

    variance: Array
    """Numerator share of one round times the batch."""
    work: Array
    """Energy of a sample times the square of its time."""
    weight: Array
    """Samples processed per batch sample and round."""
    min_batch: Array
    max_batch: Array
    min_time: Array
    """Least time per sample, at the highest clock."""
    max_time: Array
    """Greatest time per sample."""
    circuit: Array | None = None
    """Power drawn while computing; None for none (`costs`)."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Transmission:
    """Broadcast () or uploads (K,): time nats/x, energy joules (e^x - 1)/x."""

    nats: Array
    joules: Array
    min_exponent: Array
    max_exponent: Array
    circuit: Array | None = None
    """Power drawn while sending; None for none (`costs`)."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """One instance of the program; all numbers are free of units."""

    gap: Array
    """() Numerator at no rounds."""
    floor: Array
    """() Numerator share of one pre-training round that no batch lowers."""
    server: Computing
    devices: Computing
    uploads: Transmission
    broadcast: Transmission
    rounds: Rounds
    """The set of rounds; change it through `with_rounds`, which keeps the rays with it."""
    rays: Array
    """(4, 3) extreme rays (M, N, 1)/(M eta0 + N eta) of the rounds; repeats are harmless."""
    scale: Array
    """() The bound is the program's value times this."""
    energy_unit: Array
    """() J that one unit of energy stands for: the energy budget."""
    delay_unit: Array
    """() s that one unit of time stands for: the delay budget."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Rounds:
    """The set of rounds: a box, or its diagonal where the stages are tied to equal rounds."""

    min_pretraining: Array
    max_pretraining: Array
    min_finetuning: Array
    max_finetuning: Array
    tied: Array
    """() bool: M = N, each in [min_pretraining, max_pretraining]."""
    server_rate: Array
    """() eta0, the weight of M in the denominator."""
    device_rate: Array
    """() eta, the weight of N."""

    def rays(self) -> Array:
        """(4, 3) extreme rays (M, N, 1)/(M eta0 + N eta); infinite limits give directions."""
        low, high = self.min_pretraining, self.max_pretraining
        low_n = jnp.where(self.tied, low, self.min_finetuning)
        high_n = jnp.where(self.tied, high, self.max_finetuning)
        box = [(low, low_n), (high, low_n), (low, high_n), (high, high_n)]
        diagonal = [(low, low), (high, high)] * 2
        corners = [
            (jnp.where(self.tied, d[0], b[0]), jnp.where(self.tied, d[1], b[1]))
            for b, d in zip(box, diagonal, strict=True)
        ]
        return jnp.stack([self._ray(*corner) for corner in corners])

    def _ray(self, pretraining: Array, finetuning: Array) -> Array:
        # An infinite corner is a direction: along the axes of the box, or along the diagonal.
        both = jnp.isinf(pretraining) & jnp.isinf(finetuning)
        grow_m = jnp.isinf(pretraining)
        grow_n = jnp.isinf(finetuning) & (~grow_m | self.tied)
        away = jnp.stack([1.0 * grow_m, 1.0 * grow_n, jnp.zeros_like(pretraining)])
        corner = jnp.stack([pretraining, finetuning, jnp.ones_like(pretraining)])
        corner = jnp.where(grow_m | grow_n | both, away, corner)
        return corner / (corner[0] * self.server_rate + corner[1] * self.device_rate)


def with_rounds(program: Program, rounds: Rounds) -> Program:
    """The program over another set of rounds."""
    return dataclasses.replace(program, rounds=rounds, rays=rounds.rays())


def with_batches(program: Program, server_batch: Array, device_batch: Array) -> Program:
    """The program with all batches fixed."""
    server = dataclasses.replace(program.server, min_batch=server_batch, max_batch=server_batch)
    devices = dataclasses.replace(program.devices, min_batch=device_batch, max_batch=device_batch)
    return dataclasses.replace(program, server=server, devices=devices)
