"""The last iterate under the Polyak-Lojasiewicz inequality: the end loss's proved companion."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jax import Array

from jaxedge.bounds.base import effort_of
from jaxedge.bounds.fine_tuning import required_pl_constant
from jaxedge.bounds.modal import Modal
from jaxedge.bounds.modes import Modes, coefficients
from jaxedge.scenario.scenario import Learning, Scenario
from jaxedge.system.allocation import Allocation


def last_iterate_modes(learning: Learning) -> Modes:
    """The bound as one mode: A = Delta, C = d2/(2 mu), and B their mean.

    With this B the bracket A q² + 2 B q (1-q) + C (1-q)² is A q + C (1-q).

    Raises:
        ValueError: where there is no ``learning.pl_constant``.
    """
    mu = jnp.asarray(required_pl_constant(learning))
    eta0, eta = (
        jnp.asarray(learning.server_learning_rate),
        jnp.asarray(learning.device_learning_rate),
    )
    start = jnp.asarray(learning.initial_gap)
    shift = jnp.asarray(learning.discrepancy) / (2 * mu)
    step = jnp.asarray(learning.smoothness) / (2 * mu)
    noise = jnp.square(jnp.asarray(learning.device_weight)) * learning.device_variance
    slow0, slow = -_log_below_one(mu * eta0), -_log_below_one(mu * eta)
    return Modes(
        start=start[None],
        cross=((start + shift) / 2)[None],
        shift=shift[None],
        pretraining_rate=slow0[None],
        finetuning_rate=slow[None],
        forgetting_rate=slow0[None],
        server_noise=(step * eta0 * learning.server_variance)[None],
        device_noise=(step * eta * noise)[:, None],
        floor=jnp.zeros_like(start),
        warmup=jnp.zeros_like(start),
        clock_ratio=eta0 / eta,
    )


def last_iterate_bound(scenario: Scenario, allocation: Allocation) -> Array:
    """Bound on E F - F* after both stages.

        r^N {q^M Delta + (1 - q^M) [d2/(2 mu) + L eta0 s0/(2 mu b0)]}
            + (1 - r^N) L eta/(2 mu) sum_k w_k² s_k/b_k,      q = 1 - mu eta0,  r = 1 - mu eta

    Args:
        scenario: one scenario; needs ``learning.pl_constant`` and eta0, eta <= 1/L.
        allocation: of which the rounds and the batches matter.

    Returns:
        () the bound; Delta at M = N = 0.

    Raises:
        ValueError: where the scenario has no ``learning.pl_constant``.
    """
    effort = effort_of(allocation)
    modes = last_iterate_modes(scenario.learning)
    at = coefficients(modes, effort.pretraining_rounds, effort.finetuning_rounds)
    return at.value(effort.inverse_server_batch, effort.inverse_device_batch)


def _log_below_one(contraction: Array) -> Array:
    """ln(1 - x), finite at x = 1, where mu = L and one step does all."""
    below_one = jnp.nextafter(jnp.ones_like(contraction), jnp.zeros_like(contraction))
    return jnp.log1p(-jnp.minimum(contraction, below_one))


@dataclasses.dataclass(frozen=True)
class LastIterate(Modal):
    """A proved bound on the excess loss after both stages, under the PL inequality."""

    name = "last-iterate"

    def check(self, scenario: Scenario) -> None:
        """Make sure that there is a ``learning.pl_constant``."""
        required_pl_constant(scenario.learning)

    def modes(self, learning: Learning) -> Modes:
        """`last_iterate_modes`."""
        return last_iterate_modes(learning)

    def value(self, scenario: Scenario, allocation: Allocation) -> Array:
        """() `last_iterate_bound`."""
        return last_iterate_bound(scenario, allocation)
