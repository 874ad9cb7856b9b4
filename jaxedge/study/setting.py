"""What is studied: one cell, one learning task, and the bound's constants measured on it.

The hardware, the radio and the costs of a sample are those of the default preset, a network of the
class of LeNet-5. What is trained is a small perceptron on scikit-learn's digits, turned at the
devices, in whose place that network is charged; where the model's size is varied both vary alike.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxedge.scenario import intervals, presets
from jaxedge.scenario.sampling import RESOURCE_BLOCK
from jaxedge.scenario.scenario import Learning, Scenario
from jaxedge.scenario.validation import validate
from jaxedge.study.sizes import Size
from jaxedge.study.table import Table

if TYPE_CHECKING:
    from jaxedge.training.models.tasks import Task

DEVICES, WIDTH, DEGREES = 10, 32, 18.0
"""K, hidden units of the perceptron, and how far the devices' images are turned."""
ENERGY, DELAY = 60.0, 30.0
"""J and s: budgets at which pre-training pays with some channels and fine-tuning with others."""
RATE = 0.05
"""Of both stages, below 1/smoothness of all tasks studied."""
CHANNEL = "positions"
"""Devices are placed anew in the cell for each draw, with shadowing and Rayleigh fading."""
RADIUS_KM = 0.25
"""Of the cell."""
BLOCKS = 50
"""Resource blocks that the devices share evenly."""
ALL_DEGREES = (0.0, 9.0, 18.0, 36.0, 72.0)
WIDTHS = (8, 16, 32, 64, 128)
_QUARTER = 90.0
"""Degrees of the strongest rotation."""

CONSTANTS = tuple(name for name in intervals.CONSTANTS if name != "pl_constant")
"""Of the two-stage bound."""


def weights_of(width: int) -> int:
    """Weights of the perceptron: 64 pixels, one hidden layer, 10 classes."""
    return 64 * width + width + 10 * width + 10


@functools.lru_cache(maxsize=16)
def task(width: int = WIDTH, degrees: float = DEGREES, devices: int = DEVICES) -> Task:
    """Digits, half of them at the server, the others turned and spread evenly over the devices."""
    from jaxedge.training.models.tasks import TaskSpec, load_task

    data = load_task(TaskSpec(strength=degrees / _QUARTER, model="logistic"), devices)
    return dataclasses.replace(data, **_network(width))


@functools.lru_cache
def _network(width: int) -> dict[str, Any]:
    """Weights, loss and outputs; the same functions for all data, so that they compile once."""
    from jaxedge.training.models.networks import model, trainable

    weights, loss, outputs = trainable(model("mlp", (8, 8, 1), 10, hidden=(width,)))
    return {"weights": weights, "loss": loss, "outputs": outputs}


def cases(size: Size) -> list[tuple[int, float]]:
    """Width and degrees of the tasks that a study of this size needs, the usual one first."""
    found = [(WIDTH, DEGREES)]
    found += [(WIDTH, degrees) for degrees in size.thinned(ALL_DEGREES)]
    found += [(width, DEGREES) for width in size.thinned(WIDTHS)]
    return list(dict.fromkeys(found))


def measured(size: Size, progress: Any) -> Table:
    """The bound's constants of every task, measured along a trial run."""
    from jaxedge.training.calibration.constants import calibrate
    from jaxedge.training.calibration.path import Trial

    rounds = size.trial_rounds
    trial = Trial(pretraining_rounds=rounds, finetuning_rounds=rounds)
    rows = []
    every = cases(size)
    for number, (width, degrees) in enumerate(every):
        progress(f"measuring constants, task {number + 1} of {len(every)}", number / len(every))
        found = calibrate(task(width, degrees), _uncalibrated(), trial).constants
        means = {name: float(np.mean(found[name].value)) for name in CONSTANTS}
        rows.append({"width": width, "degrees": degrees, **means})
    return Table.of(rows)


def _uncalibrated() -> Scenario:
    """The cell; fine-tuning may be left out, pre-training but for one round."""
    base = presets.get("default")
    rates: dict[str, Any] = {"server_learning_rate": RATE, "device_learning_rate": RATE}
    return dataclasses.replace(
        base,
        learning=dataclasses.replace(base.learning, **rates),
        energy_budget=ENERGY,
        delay_budget=DELAY,
        min_finetuning_rounds=0,
    )


def scenario(
    constants: Table, width: int = WIDTH, degrees: float = DEGREES, devices: int = DEVICES
) -> Scenario:
    """The cell with the constants of a task; the devices' variance is that of the mean device.

    Args:
        constants: as `measured` gives them.
        width: of the perceptron; bits and cycles grow with its weights.
        degrees: of the rotation.
        devices: K; beyond ten, clocks repeat.
    """
    row = constants.where(width=width, degrees=degrees)
    known: dict[str, Any] = {name: float(row[name][0]) for name in CONSTANTS}
    base = _uncalibrated()
    learning = Learning(
        **known,
        server_learning_rate=RATE,
        device_learning_rate=RATE,
        device_weight=np.full(devices, 1.0 / devices),
    )
    factor = weights_of(width) / weights_of(WIDTH)
    own: Any = base.devices
    samples = task(width, degrees, devices).sizes
    return validate(
        dataclasses.replace(
            base,
            learning=learning,
            server=dataclasses.replace(
                base.server, cycles_per_sample=factor * np.asarray(base.server.cycles_per_sample)
            ),
            devices=dataclasses.replace(
                own,
                cycles_per_sample=factor * np.resize(own.cycles_per_sample, devices),
                capacitance=np.resize(own.capacitance, devices),
                max_clock=np.resize(own.max_clock, devices),
                min_batch=np.resize(own.min_batch, devices),
                max_batch=np.minimum(np.resize(own.max_batch, devices), samples),
                bandwidth=np.full(devices, BLOCKS * RESOURCE_BLOCK / devices),
                gain=np.resize(own.gain, devices),
                downlink_gain=np.resize(own.gain, devices),
                max_power=np.resize(own.max_power, devices),
            ),
            upload_bits=factor * np.asarray(base.upload_bits),
            download_bits=factor * np.asarray(base.download_bits),
        )
    )
