"""Modes of learning that decay with the rounds: what the end loss and its proved companion share.

With q_j = exp(-a_j m) and R_j = exp(-c_j n) after m and n effective rounds of the two stages::

    constant = floor + sum_j R_j [A_j q_j² + 2 B_j q_j (1 - q_j) + C_j (1 - q_j)²]
    server   = sum_j R_j (1 - exp(-g_j m)) s_j
    devices  = sum_j (1 - R_j) d_kj                                   the loss is
    constant + server/b_0 + sum_k devices_k/b_k
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxedge.program.elementary import rest_of_exp


class Modes(NamedTuple):
    """J modes, and how rounds count."""

    start: Array
    """(J,) A >= 0."""
    cross: Array
    """(J,) B."""
    shift: Array
    """(J,) C >= 0."""
    pretraining_rate: Array
    """(J,) a > 0 of q."""
    finetuning_rate: Array
    """(J,) c > 0 of R."""
    forgetting_rate: Array
    """(J,) g > 0 of the server's noise."""
    server_noise: Array
    """(J,) s >= 0."""
    device_noise: Array
    """(K, J) d >= 0."""
    floor: Array
    """() the loss that no training goes below."""
    warmup: Array
    """() rounds at the devices' rate; 0 for none."""
    clock_ratio: Array
    """() eta0/eta: how far a pre-training round brings the warm-up."""


class Coefficients(NamedTuple):
    """The loss at fixed rounds: constant + server/b_0 + sum_k devices_k/b_k."""

    constant: Array
    """()"""
    server: Array
    """()"""
    devices: Array
    """(K,)"""

    def value(self, inverse_server_batch: ArrayLike, inverse_device_batch: ArrayLike) -> Array:
        """() the loss."""
        devices = jnp.sum(self.devices * inverse_device_batch, axis=-1)
        return self.constant + self.server * inverse_server_batch + devices


def effective_rounds(
    warmup: ArrayLike, clock_ratio: ArrayLike, pretraining_rounds: ArrayLike, rounds: ArrayLike
) -> tuple[Array, Array]:
    """The rounds m and n that M and N are worth where curvature grows as 1 - exp(-t/w).

        m = tau(x M)/x,  n = tau(x M + N) - tau(x M),  tau(t) = t - w (1 - exp(-t/w)),  x = eta0/eta

    without cancellation; m = M and n = N where w = 0.
    """
    w, after = jnp.asarray(warmup), jnp.asarray(rounds)
    some = jnp.where(w > 0, w, 1)
    before = jnp.asarray(clock_ratio) * pretraining_rounds
    kept, rest = rest_of_exp(before / some)
    _, rest_after = rest_of_exp(after / some)
    # Written so that the derivative to w is that of tau at w = 0, too.
    plain = before - w * (before > 0), after - jnp.where(before > 0, 0.0, w * (after > 0))
    warm = some * rest, -jnp.expm1(-before / some) * after + some * kept * rest_after
    m, n = (jnp.where(w > 0, x, y) for x, y in zip(warm, plain, strict=True))
    return m / clock_ratio, n


def coefficients(modes: Modes, pretraining_rounds: ArrayLike, rounds: ArrayLike) -> Coefficients:
    """The loss at M and N rounds, as a differentiable function of both and of the modes."""
    m, n = effective_rounds(modes.warmup, modes.clock_ratio, pretraining_rounds, rounds)
    kept, lost = jnp.exp(-modes.pretraining_rate * m), -jnp.expm1(-modes.pretraining_rate * m)
    left, gone = jnp.exp(-modes.finetuning_rate * n), -jnp.expm1(-modes.finetuning_rate * n)
    bracket = modes.start * kept**2 + 2 * modes.cross * kept * lost + modes.shift * lost**2
    forgotten = -jnp.expm1(-modes.forgetting_rate * m)
    return Coefficients(
        constant=modes.floor + jnp.sum(left * bracket),
        server=jnp.sum(left * forgotten * modes.server_noise),
        devices=jnp.sum(gone[None] * modes.device_noise, axis=-1),
    )


def least_coefficients(modes: Modes, low: Array, high: Array) -> Coefficients:
    """No more than each coefficient of any rounds (2,) from ``low`` to ``high``.

    The bracket is convex in q on [q(M2), q(M1)], or concave; R, and what pre-training's noise
    forgets, are monotone in the rounds. Exact for a box of one point.
    """
    (m, n), (most_m, most_n) = (
        effective_rounds(modes.warmup, modes.clock_ratio, *end) for end in (low, high)
    )
    kept, least_kept = (jnp.exp(-modes.pretraining_rate * x) for x in (m, most_m))
    bend = modes.start - 2 * modes.cross + modes.shift
    lowest = jnp.where(bend > 0, (modes.shift - modes.cross) / jnp.where(bend > 0, bend, 1), 0)

    def bracket(kept: Array) -> Array:
        lost = 1 - kept
        return modes.start * kept**2 + 2 * modes.cross * kept * lost + modes.shift * lost**2

    places = kept, least_kept, jnp.clip(lowest, least_kept, kept)
    bracketed = jnp.min(jnp.stack([bracket(place) for place in places]), axis=0)
    left = jnp.exp(-modes.finetuning_rate * most_n)
    gone = -jnp.expm1(-modes.finetuning_rate * n)
    forgotten = -jnp.expm1(-modes.forgetting_rate * m)
    return Coefficients(
        constant=modes.floor + jnp.sum(left * bracketed),
        server=jnp.sum(left * forgotten * modes.server_noise),
        devices=jnp.sum(gone[None] * modes.device_noise, axis=-1),
    )
