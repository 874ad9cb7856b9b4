"""The two-stage spectral end loss: what is left at the end of training, mode by mode.

Exact for quadratics whose Hessians commute, with constant gradient noise; a model, and not a bound,
for everything else (docs/theory.md, section 8).
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxedge.bounds.base import effort_of
from jaxedge.bounds.modal import Modal
from jaxedge.bounds.modes import Coefficients, Modes, coefficients
from jaxedge.scenario.scenario import Learning, Scenario, Spectrum
from jaxedge.system.allocation import Allocation


def end_loss_modes(learning: Learning) -> Modes:
    """The modes of a learning task's spectrum, in terms of both stages' rates.

        q = (1 - eta0 h)^m,  R = (1 - eta h)^(2 n),  s = eta0 c0/(2 (2 - eta0 h)),
        d_k = w_k² eta ck/(2 (2 - eta h))

    Raises:
        ValueError: where the task has no ``spectrum``.
    """
    spectrum = required_spectrum(learning)
    h = jnp.asarray(spectrum.curvature)
    eta0, eta = (
        jnp.asarray(learning.server_learning_rate),
        jnp.asarray(learning.device_learning_rate),
    )
    slow0, slow = -jnp.log1p(-eta0 * h), -jnp.log1p(-eta * h)
    weight = jnp.square(jnp.asarray(learning.device_weight))[:, None]
    # (eta² h/2)/(1 - (1 - eta h)²) = eta/(2 (2 - eta h)): nothing cancels where h is small.
    device_share = eta / (2 * (2 - eta * h))[None]
    return Modes(
        start=jnp.asarray(spectrum.start),
        cross=jnp.asarray(spectrum.cross),
        shift=jnp.asarray(spectrum.shift),
        pretraining_rate=slow0,
        finetuning_rate=2 * slow,
        forgetting_rate=2 * slow0,
        server_noise=eta0 / (2 * (2 - eta0 * h)) * spectrum.server_noise,
        device_noise=weight * device_share * jnp.asarray(spectrum.device_noise),
        floor=jnp.asarray(spectrum.floor),
        warmup=jnp.asarray(spectrum.warmup),
        clock_ratio=eta0 / eta,
    )


def end_loss_coefficients(
    learning: Learning, pretraining_rounds: ArrayLike, finetuning_rounds: ArrayLike
) -> Coefficients:
    """The end loss at fixed rounds, constant + server/b_0 + sum_k devices_k/b_k.

    Args:
        learning: needs a ``spectrum``.
        pretraining_rounds: () M >= 0, real or whole.
        finetuning_rounds: () N >= 0.

    Raises:
        ValueError: where the task has no ``spectrum``.
    """
    return coefficients(end_loss_modes(learning), pretraining_rounds, finetuning_rounds)


def end_loss(scenario: Scenario, allocation: Allocation) -> Array:
    """Expected loss after both stages under the spectral model, in units of the loss.

        F* + sum_j r_j^2n [A q² + 2 B q (1-q) + C (1-q)²] + noise of the server + of the devices

    with r = 1 - eta h, q = (1 - eta0 h)^m, and m = M, n = N without a warm-up.

    Args:
        scenario: one scenario; needs ``learning.spectrum``.
        allocation: of which the rounds and the batches matter.

    Returns:
        () the loss; F* + sum A at M = N = 0.

    Raises:
        ValueError: where the scenario has no ``learning.spectrum``.
    """
    effort = effort_of(allocation)
    at = end_loss_coefficients(
        scenario.learning, effort.pretraining_rounds, effort.finetuning_rounds
    )
    return at.value(effort.inverse_server_batch, effort.inverse_device_batch)


def required_spectrum(learning: Learning) -> Spectrum:
    """The spectrum of the end loss; ValueError where the task has none."""
    if learning.spectrum is None:
        raise ValueError(
            "learning.spectrum is missing: the end loss needs the curvatures, start, shift and "
            "noise of the task, as `jaxedge calibrate` measures them"
        )
    return learning.spectrum


@dataclasses.dataclass(frozen=True)
class EndLoss(Modal):
    """The expected loss at the end of both stages, by the spectrum that a pilot measured."""

    name = "end-loss"

    def check(self, scenario: Scenario) -> None:
        """Make sure that there is a ``learning.spectrum``."""
        required_spectrum(scenario.learning)

    def modes(self, learning: Learning) -> Modes:
        """`end_loss_modes`."""
        return end_loss_modes(learning)

    def value(self, scenario: Scenario, allocation: Allocation) -> Array:
        """() `end_loss`."""
        return end_loss(scenario, allocation)
