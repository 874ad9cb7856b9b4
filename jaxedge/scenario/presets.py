"""Named scenarios, each number with its source or reason."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from jaxedge.scenario.sampling import (
    DEVICE_POWER,
    NOISE_DENSITY,
    RESOURCE_BLOCK,
    path_loss_gain,
    sample,
    sample_batch,
)
from jaxedge.scenario.scenario import Devices, Learning, Scenario, Server
from jaxedge.scenario.validation import validate

__all__ = ["get", "names", "sample", "sample_batch"]

# LeNet-5 has 61,706 parameters; 16-bit numbers halve the upload at little cost in accuracy.
_MODEL_BITS = 61_706 * 16

_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Cell:
    """What the presets differ in."""

    devices: int
    blocks_each: int
    """Uplink resource blocks of one device."""
    blocks: int
    """Resource blocks of the carrier, all of them for the broadcast."""
    energy: float
    delay: float
    discrepancy: float


# Resource blocks of the carriers are those of TS 38.101-1, table 5.3.2-1, at 15 kHz spacing: 52 in
# 10 MHz and 106 in 20 MHz; each device gets an equal whole number of them.
# Budgets: some minutes of training at some watts, so that the server has to throttle (energy binds)
# and the devices have to hurry (delay binds).
# Discrepancy: under the two-stage bound both stages run together only in a band of it. In the
# default it lies in the middle of that band, with related data far below it and with unrelated far
# above.
_DEFAULT = _Cell(devices=10, blocks_each=5, blocks=52, energy=1000.0, delay=300.0, discrepancy=0.14)
_PRESETS = {
    "default": _DEFAULT,
    "pretraining-wins": dataclasses.replace(_DEFAULT, discrepancy=0.02),
    # At 1000 J devices that do all they can within the delay would leave energy over.
    "finetuning-wins": dataclasses.replace(_DEFAULT, discrepancy=0.5, energy=500.0),
    "small": _Cell(
        devices=3, blocks_each=17, blocks=52, energy=300.0, delay=200.0, discrepancy=0.12
    ),
    "usual": _DEFAULT,
    "large": _Cell(
        devices=100, blocks_each=1, blocks=106, energy=6e3, delay=600.0, discrepancy=0.31
    ),
}


def names() -> tuple[str, ...]:
    """The names that :func:`get` accepts, the default first."""
    return tuple(_PRESETS)


def get(name: str = "default") -> Scenario:
    """The named scenario, valid and normalised, in SI units.

    Raises:
        ValueError: if there is no such preset.
    """
    if name not in _PRESETS:
        raise ValueError(f"preset {name!r} is unknown: must be one of {', '.join(_PRESETS)}")
    cell = _PRESETS[name]
    spread = np.arange(1, cell.devices + 1)
    return validate(
        Scenario(
            learning=_learning(cell, spread),
            server=_server(cell),
            devices=_devices(cell, spread),
            noise_density=NOISE_DENSITY,
            upload_bits=_MODEL_BITS,
            download_bits=_MODEL_BITS,
            energy_budget=cell.energy,
            delay_budget=cell.delay,
        )
    )


def _learning(cell: _Cell, spread: np.ndarray) -> Learning:
    return Learning(
        initial_gap=2.3,  # ln 10: cross-entropy of guessing among ten classes
        smoothness=10.0,  # cross-entropy in a few normalised features
        discrepancy=cell.discrepancy,
        server_learning_rate=0.01,  # a usual step of SGD, a tenth of 1/smoothness
        device_learning_rate=0.01,
        server_variance=10.0,  # some times the squared gradient at the start, as SGD finds it
        device_variance=_rounded(8.0 + 8.0 * (spread * _GOLDEN**2 % 1.0)),  # data differ
        device_weight=np.full(cell.devices, 1.0 / cell.devices),  # equally many samples each
        pl_constant=0.1,  # condition number 100, as with a little weight decay
    )


def _server(cell: _Cell) -> Server:
    return Server(
        cycles_per_sample=5e6,  # a quarter of the devices': wider vector units
        capacitance=1e-27,  # class of a server in the edge computing literature; 1 kW at 10 GHz
        max_clock=1e10,  # three or four cores together
        max_batch=512,  # beyond it the variance hardly matters
        bandwidth=cell.blocks * RESOURCE_BLOCK,
        max_power=1.0,  # 30 dBm, a small cell
    )


def _devices(cell: _Cell, spread: np.ndarray) -> Devices:
    return Devices(
        cycles_per_sample=2e7,  # 2.5 MFLOP of LeNet-5 forward and backward at 8 cycles each
        capacitance=1e-28,  # class of a handset in the edge computing literature; 0.1 W at 1 GHz
        max_clock=_rounded((1.0 + spread * _GOLDEN % 1.0) * 1e9),  # 1-2 GHz: old and new handsets
        max_batch=128,  # what fits a handset's memory
        bandwidth=cell.blocks_each * RESOURCE_BLOCK,
        gain=_rounded(path_loss_gain(_rings(cell.devices))),
        max_power=DEVICE_POWER,
    )


def _rings(devices: int) -> np.ndarray:
    """Distances in km that fill a disc evenly: an urban cell of 250 m, 500 m between sites."""
    return 0.25 * np.sqrt((np.arange(devices) + 0.5) / devices)


def _rounded(values: np.ndarray) -> np.ndarray:
    """Six digits: readable in files, and the same on machines whose libm differ in the last bit."""
    return np.array([float(f"{value:.6g}") for value in values])
