"""Scenarios as flat rows of numbers, and designs back from rows: what peers' solvers speak."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import restatement

from jaxedge.scenario.scenario import Scenario
from jaxedge.system.allocation import Allocation, StageAllocation

COMMON = [
    "energy_budget",
    "delay_budget",
    "noise_density",
    "upload_bits",
    "download_bits",
    "min_pretraining_rounds",
    "min_finetuning_rounds",
    "learning.initial_gap",
    "learning.smoothness",
    "learning.discrepancy",
    "learning.server_learning_rate",
    "learning.device_learning_rate",
    "learning.server_variance",
    "server.cycles_per_sample",
    "server.capacitance",
    "server.max_clock",
    "server.min_batch",
    "server.max_batch",
    "server.bandwidth",
    "server.max_power",
]
EACH = [
    "learning.device_variance",
    "learning.device_weight",
    "devices.cycles_per_sample",
    "devices.capacitance",
    "devices.max_clock",
    "devices.min_batch",
    "devices.max_batch",
    "devices.bandwidth",
    "devices.gain",
    "devices.downlink_gain",
    "devices.max_power",
]


def row_of(scenario: Scenario) -> np.ndarray:
    """One scenario's numbers: `COMMON`, then `EACH` device by device of a field."""
    numbers = [np.atleast_1d(_field(scenario, path)) for path in (*COMMON, *EACH)]
    return np.concatenate(numbers).astype(np.float64)


def named(row: Any, count: int) -> dict[str, Any]:
    """Dotted names -> entries of a row, slices of K for devices; any sliceable row will do."""
    found = {path: row[i] for i, path in enumerate(COMMON)}
    for i, path in enumerate(EACH):
        start = len(COMMON) + i * count
        found[path] = row[start : start + count]
    return found


def size(count: int) -> int:
    """Numbers in a row with K devices."""
    return len(COMMON) + count * len(EACH)


def scenario_at(scenarios: Scenario, index: int) -> Scenario:
    """One element of stacked scenarios."""
    one: Scenario = jax.tree.map(lambda x: np.asarray(x)[index], scenarios)
    return one


def part_of(scenarios: Scenario, chosen: slice) -> Scenario:
    """Some elements of stacked scenarios."""
    some: Scenario = jax.tree.map(lambda x: np.asarray(x)[chosen], scenarios)
    return some


def allocation(choices: np.ndarray) -> Allocation:
    """Allocations of rows (B, 5+3K): M, N, b0, f0, p0, then all b_k, f_k and p_k."""
    own, count = choices[:, :5].T, (choices.shape[1] - 5) // 3
    each = choices[:, 5:].reshape(-1, 3, count)
    return Allocation(
        pretraining_rounds=own[0],
        finetuning_rounds=own[1],
        server=StageAllocation(batch=own[2], clock=own[3], power=own[4]),
        devices=StageAllocation(batch=each[:, 0], clock=each[:, 1], power=each[:, 2]),
    )


def none_found(count: int) -> np.ndarray:
    """(5+3K,) what stands for a design where a solver gave none."""
    return np.full(5 + 3 * count, np.nan)


def starting_choices(scenario: Scenario) -> np.ndarray:
    """(5+3K,) half of all clocks and powers, batches of about 4, rounds on half of the budgets."""

    def choices(m: float, n: float) -> np.ndarray:
        server, devices = scenario.server, scenario.devices
        batch = np.clip(4.0, server.min_batch, server.max_batch)
        batches = np.clip(4.0, devices.min_batch, devices.max_batch)
        own = [m, n, batch, server.max_clock / 2, server.max_power / 2]
        return np.concatenate([own, batches, devices.max_clock / 2, devices.max_power / 2])

    def share(m: float, n: float) -> float:
        stacked = jax.tree.map(lambda x: np.asarray(x)[None], scenario)
        energy, delay = restatement.energy_and_delay(stacked, allocation(choices(m, n)[None]))
        return float(max(energy[0] / scenario.energy_budget, delay[0] / scenario.delay_budget))

    m, n = 0.3 / share(1.0, 0.0), 0.3 / share(0.0, 1.0)
    least = scenario.min_pretraining_rounds, scenario.min_finetuning_rounds
    return choices(max(m, least[0] * 1.01, 1e-3), max(n, least[1] * 1.01, 1e-3))


def _field(scenario: Scenario, path: str) -> Any:
    thing: Any = scenario
    for name in path.split("."):
        thing = getattr(thing, name)
    return thing
