"""The decisions of a design as a table: one row for each stage of the server and each device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jax.typing import ArrayLike

from jaxedge.system.accounts import Breakdown
from jaxedge.system.allocation import Allocation
from jaxedge.words.quantities import count, dbm, quantity
from jaxedge.words.text_table import aligned

MANY_DEVICES = 12
"""With more than these, devices are summarised."""

_HEAD = ("DESIGN", "rounds", "batch", "clock", "power", "", "round time", "energy")
_SUMMARY: dict[str, Callable[[np.ndarray], Any]] = {
    "least": np.min,
    "median": np.median,
    "most": np.max,
}

Row = tuple[str, ...]


def design_table(allocation: Allocation, spent: Breakdown | None = None) -> list[str]:
    """Lines of the table; times of a round and joules of the plan where ``spent`` is given."""
    rows = [_HEAD, _pretraining(allocation, spent), _broadcast(allocation, spent)]
    rows += _devices(allocation, spent)
    columns = len(_HEAD) if spent is not None else len(_HEAD) - 2
    return aligned([row[:columns] for row in rows])


def _pretraining(allocation: Allocation, spent: Breakdown | None) -> Row:
    rounds, server = _float(allocation.pretraining_rounds), allocation.server
    if not rounds > 0:
        return ("server, pre-training", "0", "-", "-")
    choice = (count(_float(server.batch)), quantity(_float(server.clock), "Hz"), "", "")
    cost = _cost(spent, "pre-training computing", rounds)
    return ("server, pre-training", count(rounds), *choice, *cost)


def _broadcast(allocation: Allocation, spent: Breakdown | None) -> Row:
    rounds, power = _float(allocation.finetuning_rounds), _float(allocation.server.power)
    if not rounds > 0:
        return ("server, broadcast", "0", "", "", "-", "-")
    choice = ("", "", quantity(power, "W"), dbm(power))
    return ("server, broadcast", count(rounds), *choice, *_cost(spent, "broadcasts", rounds))


def _cost(spent: Breakdown | None, component: str, rounds: float) -> Row:
    """Time of one round and energy of all."""
    if spent is None:
        return ()
    round_time = quantity(spent.delay[component] / rounds, "s")
    return (round_time, quantity(spent.energy[component], "J"))


def _devices(allocation: Allocation, spent: Breakdown | None) -> list[Row]:
    """One row for each device, or their least, median and most, column by column."""
    rounds, devices = _float(allocation.finetuning_rounds), allocation.devices
    columns = [np.asarray(part) for part in (devices.batch, devices.clock, devices.power)]
    if not rounds > 0:
        return [("devices, fine-tuning", "0", "-", "-", "-", "-")]
    if spent is not None:
        columns += [spent.device_round_time, spent.device_energy]
    if columns[0].size <= MANY_DEVICES:
        return [
            (f"device {index}, fine-tuning", count(rounds), *_device(values))
            for index, values in enumerate(zip(*columns, strict=True))
        ]
    return [
        (
            f"{columns[0].size} devices, {name}",
            count(rounds),
            *_device(tuple(float(summary(column)) for column in columns)),
        )
        for name, summary in _SUMMARY.items()
    ]


def _device(values: tuple[float, ...]) -> Row:
    batch, clock, power, *cost = map(float, values)
    texts = [count(batch), quantity(clock, "Hz"), quantity(power, "W"), dbm(power)]
    texts += [quantity(value, unit) for value, unit in zip(cost, ("s", "J"), strict=False)]
    return tuple(texts)


def _float(value: ArrayLike) -> float:
    return float(np.asarray(value))
