"""A short design for the preset of three devices, and a task of digits: seconds to run."""

import dataclasses

import numpy as np

from jaxedge import presets
from jaxedge.system.allocation import Allocation, StageAllocation
from jaxedge.training.models.tasks import TaskSpec

SPEC = TaskSpec(model="logistic", strength=0.3)
DEVICES = 3


def scenario(rate=0.1):
    """The preset, with other learning rates."""
    found = presets.get("small")
    learning = dataclasses.replace(
        found.learning, server_learning_rate=rate, device_learning_rate=rate
    )
    return dataclasses.replace(found, learning=learning)


def design(pretraining=25, finetuning=35, batch=(3, 1, 4)):
    """Half of every clock and power."""
    server, devices = presets.get("small").server, presets.get("small").devices
    return Allocation(
        pretraining_rounds=np.asarray(float(pretraining)),
        finetuning_rounds=np.asarray(float(finetuning)),
        server=StageAllocation(batch=8.0, clock=server.max_clock / 2, power=server.max_power / 2),
        devices=StageAllocation(
            batch=np.array(batch, float), clock=devices.max_clock / 2, power=devices.max_power / 2
        ),
    )
