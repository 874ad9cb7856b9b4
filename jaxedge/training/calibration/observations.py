"""A pilot's losses as the end loss sees them: linear in start, shift, floor and noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxedge.bounds.end_loss import end_loss_coefficients
from jaxedge.scenario.scenario import Learning, Spectrum
from jaxedge.training.calibration.pilot import Leg

PARTS = ("start", "cross", "shift", "floor", "server_noise", "device_noise")
"""Of a spectrum, in which the end loss is linear."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Designs:
    """Rounds and batches of n designs."""

    pretraining_rounds: Any
    """(n,) M"""
    finetuning_rounds: Any
    """(n,) N"""
    server_batch: Any
    """(n,) b0"""
    device_batch: Any
    """(n, K) b_k"""

    @classmethod
    def of(cls, legs: Sequence[Leg]) -> Designs:
        """What each measurement of some legs stands for, one leg after the other."""
        return cls(
            pretraining_rounds=np.concatenate([leg.pretraining_rounds for leg in legs]) * 1.0,
            finetuning_rounds=np.concatenate([leg.finetuning_rounds for leg in legs]) * 1.0,
            server_batch=np.concatenate([0.0 * leg.loss + leg.server_batch for leg in legs]),
            device_batch=np.concatenate(
                [np.tile(1.0 * leg.device_batch, (len(leg.loss), 1)) for leg in legs]
            ),
        )


def _end_loss(learning: Learning, spectrum: Spectrum, design: Designs) -> Array:
    with_it = dataclasses.replace(learning, spectrum=spectrum)
    at = end_loss_coefficients(with_it, design.pretraining_rounds, design.finetuning_rounds)
    return at.value(1 / design.server_batch, 1 / design.device_batch)


@jax.jit
def _values(learning: Learning, spectrum: Spectrum, designs: Designs) -> Array:
    of_design = jax.vmap(_end_loss, in_axes=(None, None, 0))
    return jax.vmap(of_design, in_axes=(None, 0, None))(learning, spectrum, designs)


@jax.jit
def _slopes(learning: Learning, spectrum: Spectrum, designs: Designs) -> dict[str, Array]:
    noise = {name: getattr(spectrum, name) for name in ("server_noise", "device_noise")}

    def value(parts: dict[str, Array], design: Designs) -> Array:
        scaled = {name: parts[name] * shape for name, shape in noise.items()}
        return _end_loss(learning, dataclasses.replace(spectrum, **{**parts, **scaled}), design)

    parts = {name: jnp.asarray(getattr(spectrum, name)) for name in PARTS}
    parts |= {name: jnp.ones(()) for name in noise}
    return jax.vmap(jax.jacfwd(value), in_axes=(None, 0))(parts, designs)


def end_losses(learning: Learning, spectra: Spectrum, designs: Designs) -> np.ndarray:
    """(S, n) end loss G of n designs under S spectra with a leading axis."""
    with jax.enable_x64(True):
        return np.asarray(_values(_doubled(learning), _doubled(spectra), _doubled(designs)))


def loss_columns(learning: Learning, spectrum: Spectrum, designs: Designs) -> dict[str, np.ndarray]:
    """What G changes by with each part of a spectrum; G is linear in them.

    Args:
        learning: rates and the devices' weights.
        spectrum: curvature, warm-up and the shapes of both noises; the rest does not matter.
        designs: n of them.

    Returns:
        (n, J) by start, cross and shift; (n,) by floor, and by server_noise and device_noise as
        multiples of those of the spectrum.
    """
    with jax.enable_x64(True):
        found = _slopes(_doubled(learning), _doubled(spectrum), _doubled(designs))
        return {name: np.asarray(value) for name, value in found.items()}


def _doubled(tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.asarray(np.asarray(x, np.float64)), tree)
