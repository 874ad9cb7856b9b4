"""The allocation: what a design decides, in original units."""

from __future__ import annotations

import dataclasses

import jax
from jax.typing import ArrayLike


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class StageAllocation:
    """Batch, clock and power of the server () or of the K devices (K,)."""

    batch: ArrayLike
    """b in samples per round."""
    clock: ArrayLike
    """f in Hz."""
    power: ArrayLike
    """p in W: broadcast power of the server, uplink power of a device."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Allocation:
    """The decision variables of both stages."""

    pretraining_rounds: ArrayLike
    """() M."""
    finetuning_rounds: ArrayLike
    """() N."""
    server: StageAllocation
    """Server: fields of shape ()."""
    devices: StageAllocation
    """Devices: fields of shape (K,)."""
