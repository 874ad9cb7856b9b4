"""What a user's own bound or limit sees of a design: totals over all rounds, in SI units.

Every energy here is jointly convex in the other totals and all else is linear in them
(docs/theory.md, section 4), so sums with nonnegative weights of energies, and of any convex
function of the rest, are convex.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxedge.scenario.scenario import FIELDS, SECTIONS, Scenario, Spectrum
from jaxedge.system.allocation import Allocation
from jaxedge.system.constraints import energy_in_totals
from jaxedge.system.totals import to_totals


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class PlanTotals:
    """Totals of the server and of the plan as a whole, each of shape ()."""

    pretraining_rounds: Array
    """M."""
    finetuning_rounds: Array
    """N."""
    server_samples: Array
    """X_0 = M b_0."""
    server_time: Array
    """T_0 = M t_0 in s, of pre-training."""
    broadcast_time: Array
    """D = N t_dl in s."""
    device_time: Array
    """R >= max_k (C_k + U_k) in s: fine-tuning without the broadcasts."""
    computing_time: Array
    """Z >= max_k C_k in s: the longest computing of a device."""
    server_energy: Array
    """J, computing of pre-training."""
    broadcast_energy: Array
    """J."""

    @property
    def energy(self) -> Array:
        """() J of the server; the devices' come on top."""
        return self.server_energy + self.broadcast_energy

    @property
    def delay(self) -> Array:
        """() s of the whole plan, T_0 + D + R."""
        return self.server_time + self.broadcast_time + self.device_time


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceTotals:
    """Totals of one device, each of shape ()."""

    rounds: Array
    """N."""
    samples: Array
    """X_k = N b_k."""
    computing_time: Array
    """C_k in s."""
    upload_time: Array
    """U_k in s."""
    computing_energy: Array
    """J."""
    upload_energy: Array
    """J."""

    @property
    def energy(self) -> Array:
        """() J."""
        return self.computing_energy + self.upload_energy

    @property
    def time(self) -> Array:
        """() s that the device computes or sends."""
        return self.computing_time + self.upload_time


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """What a user's function is told besides the totals."""

    scenario: Scenario
    """The scenario; for a device's function every field is that device's, of shape ()."""
    own: Mapping[str, Any]
    """The user's own numbers by name; for a device's function of shape ()."""


_PER_DEVICE = {(item.section, item.name) for item in FIELDS if item.per_device}


def device_cases(case: Case) -> Case:
    """The case as each device sees it: every leaf of shape (K,)."""
    count = jnp.shape(case.scenario.devices.gain)[0]

    def fields(part: Any, section: str) -> dict[str, Any]:
        names = [item.name for item in dataclasses.fields(part) if item.name not in SECTIONS]
        found = {name: getattr(part, name) for name in names}
        return {
            name: value if (section, name) in _PER_DEVICE else jnp.broadcast_to(value, (count,))
            for name, value in found.items()
            if value is not None and not isinstance(value, Spectrum)
        }

    scenario = case.scenario
    sections = {
        name: kind(**fields(getattr(scenario, name), name)) for name, kind in SECTIONS.items()
    }
    own = {name: jnp.broadcast_to(value, (count,)) for name, value in case.own.items()}
    return Case(scenario=Scenario(**sections, **fields(scenario, "")), own=own)


def totals_of(scenario: Scenario, allocation: Allocation) -> tuple[PlanTotals, DeviceTotals]:
    """Totals of an allocation, R and Z at their least; the devices' fields have shape (K,)."""
    totals = to_totals(scenario, allocation)
    spent = energy_in_totals(scenario, totals)
    broadcast = jnp.asarray(totals.broadcast_time)
    plan = PlanTotals(
        pretraining_rounds=jnp.asarray(totals.pretraining_rounds),
        finetuning_rounds=jnp.asarray(totals.finetuning_rounds),
        server_samples=jnp.asarray(totals.server_samples),
        server_time=jnp.asarray(totals.server_time),
        broadcast_time=broadcast,
        device_time=jnp.asarray(totals.finetuning_time) - broadcast,
        computing_time=jnp.max(jnp.asarray(totals.device_time)),
        server_energy=spent.server,
        broadcast_energy=spent.broadcast,
    )
    samples = jnp.asarray(totals.device_samples)
    devices = DeviceTotals(
        rounds=jnp.broadcast_to(plan.finetuning_rounds, samples.shape),
        samples=samples,
        computing_time=jnp.asarray(totals.device_time),
        upload_time=jnp.asarray(totals.upload_time),
        computing_energy=spent.devices,
        upload_energy=spent.uploads,
    )
    return plan, devices
