"""Accounts of a design: where its joules and seconds go, and which limits it touches."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxedge.scenario.scenario import Scenario
from jaxedge.system.allocation import Allocation
from jaxedge.system.round_costs import round_costs

COMPONENTS = ("pre-training computing", "broadcasts", "device computing", "uploads")
"""What energy and delay are spent on, in the order of a plan; the first alone is pre-training."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Breakdown:
    """What a whole plan spends, over all its rounds, as plain floats and NumPy arrays."""

    energy: dict[str, float]
    """J by component; they sum to the plan's energy."""
    delay: dict[str, float]
    """s by component, of the slowest device where devices differ; they sum to the plan's delay."""
    slowest_device: int
    """Index of the device that every fine-tuning round waits for."""
    device_energy: np.ndarray
    """(K,) J, computing and uploads of each device."""
    device_round_time: np.ndarray
    """(K,) s from the broadcast to the end of the upload, in one round."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BindingLimit:
    """A limit that a design touches."""

    owner: str
    """"server", "devices" or "plan"."""
    limit: str
    """In words, e.g. "clock at its maximum"."""
    devices: tuple[int, ...] = ()
    """The devices concerned, by index."""


def breakdown(scenario: Scenario, allocation: Allocation) -> Breakdown:
    """Where the joules and seconds of ``allocation`` go.

    Args:
        scenario: one valid scenario.
        allocation: one design, fields of shape () and (K,).
    """
    with jax.enable_x64(True):
        spent = jax.device_get(_spent(scenario, allocation))
    return Breakdown(
        energy=dict(zip(COMPONENTS, map(float, spent["energy"]), strict=True)),
        delay=dict(zip(COMPONENTS, map(float, spent["delay"]), strict=True)),
        slowest_device=int(spent["slowest"]),
        device_energy=spent["device_energy"],
        device_round_time=spent["device_time"],
    )


@jax.jit
def _spent(scenario: Scenario, allocation: Allocation) -> dict[str, Any]:
    """All sums in one compiled program: a dozen separate ones would take longer to compile."""
    first, second = _rounds(allocation)
    spent = round_costs(scenario, allocation)
    computing, uploads = spent.devices.energy * second, spent.uploads.energy * second
    device_time = spent.devices.time + spent.uploads.time
    slowest = jnp.argmax(device_time)
    return {
        "energy": (
            spent.server.energy * first,
            spent.broadcast.energy * second,
            computing.sum(),
            uploads.sum(),
        ),
        "delay": (
            spent.server.time * first,
            spent.broadcast.time * second,
            spent.devices.time[slowest] * second,
            spent.uploads.time[slowest] * second,
        ),
        "slowest": slowest,
        "device_energy": computing + uploads,
        "device_time": device_time,
    }


def _rounds(allocation: Allocation) -> tuple[Array, Array]:
    return jnp.asarray(allocation.pretraining_rounds), jnp.asarray(allocation.finetuning_rounds)


def binding_limits(
    scenario: Scenario,
    allocation: Allocation,
    *,
    budget_slack: float = 1e-3,
    tolerance: float = 1e-6,
) -> tuple[BindingLimit, ...]:
    """The budgets, clocks, powers, batches and round minima that ``allocation`` touches.

    Limits of a stage that runs for no round are left out.

    Args:
        scenario: one valid scenario.
        allocation: one design, fields of shape () and (K,).
        budget_slack: relative; whole rounds leave a part of a round of each budget over.
        tolerance: relative, for every other limit.
    """
    found = _binding_budgets(scenario, breakdown(scenario, allocation), budget_slack)
    for name, count, least in (
        ("pre-training", allocation.pretraining_rounds, scenario.min_pretraining_rounds),
        ("fine-tuning", allocation.finetuning_rounds, scenario.min_finetuning_rounds),
    ):
        if np.asarray(count) <= np.asarray(least) * (1 + tolerance):
            found.append(BindingLimit(owner="plan", limit=f"{name} rounds at their minimum"))
    for owner, name, value, limit in _limits(scenario, allocation):
        touched = np.abs(value - limit) <= tolerance * limit
        if np.any(touched):
            devices = tuple(np.flatnonzero(touched).tolist()) if owner == "devices" else ()
            found.append(BindingLimit(owner=owner, limit=name, devices=devices))
    return tuple(found)


def _binding_budgets(scenario: Scenario, spent: Breakdown, slack: float) -> list[BindingLimit]:
    used = {"energy budget": sum(spent.energy.values()), "delay budget": sum(spent.delay.values())}
    budgets = (scenario.energy_budget, scenario.delay_budget)
    return [
        BindingLimit(owner="plan", limit=name)
        for (name, amount), budget in zip(used.items(), budgets, strict=True)
        if amount >= float(np.asarray(budget)) * (1 - slack)
    ]


def _limits(
    scenario: Scenario, allocation: Allocation
) -> list[tuple[str, str, np.ndarray, np.ndarray]]:
    """(owner, words, value, limit) of every box limit of the stages that run."""
    server, devices = (scenario.server, allocation.server), (scenario.devices, allocation.devices)
    rounds = {"pre": allocation.pretraining_rounds, "fine": allocation.finetuning_rounds}
    table = [
        ("pre", "server", server, ("clock", "min_batch", "max_batch")),
        ("fine", "server", server, ("power",)),
        ("fine", "devices", devices, ("clock", "power", "min_batch", "max_batch")),
    ]
    return [
        (owner, words, np.asarray(getattr(choice, field)), np.asarray(getattr(part, limit)))
        for stage, owner, (part, choice), names in table
        if np.asarray(rounds[stage]) > 0
        for field, limit, words in map(_BOX.__getitem__, names)
    ]


_BOX = {
    "clock": ("clock", "max_clock", "clock at its maximum"),
    "power": ("power", "max_power", "power at its maximum"),
    "min_batch": ("batch", "min_batch", "batch at its minimum"),
    "max_batch": ("batch", "max_batch", "batch at its maximum"),
}
