"""The unit-free program in its convex form, as a block-arrow problem for the interior point.

Variables are the totals of docs/theory.md in Charnes-Cooper coordinates, with the rounds as a mix
of the program's rays::

    shared      (w_1, w_2, w_3, X0, T0, D, R)        (P, Q, G) = sum_i w_i ray_i,  sum_i w_i = 1
    device k    (X_k, C_k, U_k)

    minimise    gap G + floor P + variance0 P²/X0 + sum_k variance_k Q²/X_k
    subject to  weight work0 X0³/T0² + send0(Q, D) + sum_k [work_k X_k³/C_k² + send_k(Q, U_k)] <= G
                weight T0 + D + R <= G,    C_k + U_k <= R,    linear limits on X, T0, C, D and U

with send(Q, U) = joules U (e^(nats Q/U) - 1)/nats. The multipliers of the energy row and of the
devices' times are the dual's prices.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxedge.methods.arrow import ArrowProblem, Terms
from jaxedge.program import costs
from jaxedge.program.program import Computing, Program, Transmission

_MARGIN = 1e-8
"""Relative widening of every box, so that a fixed batch, clock or power has an interior."""
DEVICE_TIME = 0
"""Position of C_k + U_k <= R among the local rows."""


class Mix(NamedTuple):
    """Rounds in Charnes-Cooper coordinates."""

    pretraining: Array
    """() P."""
    finetuning: Array
    """() Q."""
    scaling: Array
    """() G."""


class Shared(NamedTuple):
    """The shared variables."""

    ray_weights: Array
    """(3,) of the first three rays."""
    samples: Array
    """() X0."""
    computing: Array
    """() T0 over the server's weight."""
    broadcast: Array
    """() D."""
    round_time: Array
    """() R."""

    @classmethod
    def named(cls, vector: Array) -> Shared:
        """The variables in the order in which `vector` (7,) has them."""
        return cls(vector[:3], *vector[3:])

    @property
    def vector(self) -> Array:
        """(7,) as the method knows them."""
        return jnp.concatenate([self.ray_weights, jnp.stack(self[1:])])

    @property
    def all_weights(self) -> Array:
        """(4,) weights of the rays."""
        return jnp.concatenate([self.ray_weights, 1 - jnp.sum(self.ray_weights, keepdims=True)])

    def mix(self, program: Program) -> Mix:
        """The rounds that the weights mean."""
        return Mix(*jnp.sum(self.all_weights[:, None] * program.rays, axis=0))


class Device(NamedTuple):
    """The variables of a device (), or of all (K,)."""

    samples: Array
    """X_k."""
    computing: Array
    """C_k over the device's weight."""
    sending: Array
    """U_k."""


class View(NamedTuple):
    """What a device sees of the shared variables."""

    rounds: Array
    """() Q."""
    round_time: Array
    """() R."""


def _repeats(rays: Array) -> Array:
    """(4,) 1 at each ray that stood before: unless it costs something, its weight is undefined."""
    same = jnp.all(rays[:, None] == rays[None], axis=2)
    return 1.0 * jnp.any(jnp.tril(same, -1), axis=1)


def _computing_rows(part: Computing, rounds: Array, samples: Array, time: Array) -> list[Array]:
    """Batch and time per sample inside their boxes."""
    there = jnp.isfinite(part.max_time)
    slowest = jnp.where(there, part.max_time, 0.0) * (1 + _MARGIN)
    return [
        rounds * part.min_batch * (1 - _MARGIN) - samples,
        samples - rounds * part.max_batch * (1 + _MARGIN),
        samples * part.min_time * (1 - _MARGIN) - time,
        jnp.where(there, time - samples * slowest, -1.0),
    ]


def _sending_rows(part: Transmission, rounds: Array, time: Array) -> list[Array]:
    """Exponent nats rounds/time inside its box."""
    there = part.min_exponent > 0
    least = jnp.where(there, part.min_exponent, 0.0) * (1 - _MARGIN)
    nats = part.nats * rounds
    return [
        nats - time * part.max_exponent * (1 + _MARGIN),
        jnp.where(there, time * least - nats, -1.0),
    ]


def computing_energy(part: Computing, samples: Array, time: Array) -> Array:
    """Energy of all ``samples`` in ``time``, before the part's weight."""
    return samples * costs.computing(part, time / samples)[0]


def _shared(program: Program, vector: Array) -> Terms:
    s, server = Shared.named(vector), program.server
    p, q, g = s.mix(program)
    spent = computing_energy(server, s.samples, s.computing)
    spent = spent + costs.sending_total(program.broadcast, q, s.broadcast)
    rows = [
        server.weight * s.computing + s.broadcast + s.round_time - g,
        *_computing_rows(server, p, s.samples, s.computing),
        *_sending_rows(program.broadcast, q, s.broadcast),
    ]
    bound = program.gap * g + program.floor * p + server.variance * p * (p / s.samples)
    first = s.ray_weights
    return Terms(
        objective=bound + jnp.sum(_repeats(program.rays) * s.all_weights),
        coupling=(spent - g)[None],
        residuals=jnp.concatenate([jnp.stack(rows), -first, jnp.sum(first, keepdims=True) - 1]),
    )


def _view(program: Program, vector: Array) -> Array:
    s = Shared.named(vector)
    return jnp.stack(View(s.mix(program).finetuning, s.round_time))


def _block(program: Program, own: tuple[Computing, Transmission], v: Array, x: Array) -> Terms:
    (part, upload), view, device = own, View(*v), Device(*x)
    spent = computing_energy(part, device.samples, device.computing)
    spent = spent + costs.sending_total(upload, view.rounds, device.sending)
    rows = [
        part.weight * device.computing + device.sending - view.round_time,
        *_computing_rows(part, view.rounds, device.samples, device.computing),
        *_sending_rows(upload, view.rounds, device.sending),
    ]
    return Terms(
        objective=part.variance * view.rounds * (view.rounds / device.samples),
        coupling=spent[None],
        residuals=jnp.stack(rows),
    )


PROGRAM = ArrowProblem(shared=_shared, block=_block, view=_view)
"""Parameters: the program; of a block: its `Computing` and its `Transmission`."""
