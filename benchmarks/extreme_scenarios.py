"""Sampled scenarios pushed to where solvers break: scales, units, budgets, copies, zeros, rounds.

Each variant takes stacked valid scenarios and a generator and gives stacked valid scenarios.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
import restatement

from jaxedge.machine.trees import take
from jaxedge.scenario.sampling import sample_batch
from jaxedge.scenario.scenario import Scenario
from jaxedge.scenario.validation import validate_batch
from jaxedge.system.allocation import Allocation, StageAllocation

TIGHTNESS = (0.0, 0.3, 0.6, 0.9, 1.0, 1.05, 1.1, 1.2)


def extreme_batch(seed: int, count: int, devices: int) -> tuple[Scenario, list[str]]:
    """Stacked scenarios, an eighth of each variant at changing tightness, and their variants."""
    rng, parts, names = np.random.default_rng(seed), [], []
    share = -(-count // len(VARIANTS))
    for i, (name, variant) in enumerate(VARIANTS.items()):
        key = jax.random.fold_in(jax.random.key(seed), i)
        tightness = TIGHTNESS[(seed + i) % len(TIGHTNESS)]
        parts.append(variant(sample_batch(key, share, devices, tightness=tightness), rng))
        names += [name] * share
    joined = jax.tree.map(lambda *xs: np.concatenate(xs), *parts)
    return validate_batch(take(joined, np.arange(count))), names[:count]


def as_sampled(scenarios: Scenario, rng: np.random.Generator) -> Scenario:
    """No change."""
    return scenarios


def powers_of_ten(scenarios: Scenario, rng: np.random.Generator) -> Scenario:
    """Every field times a power of ten from 1e-2 to 1e2; budgets of 0.3 to 1e4 rounds."""

    def scaled(part: Any, names: str) -> Any:
        size = np.shape(scenarios.energy_budget)
        factors = {name: 10.0 ** rng.integers(-2, 3, size) for name in names.split()}
        values = {name: getattr(part, name) for name in factors}
        columns = {
            name: factor.reshape(-1, *[1] * (np.ndim(values[name]) - 1))
            for name, factor in factors.items()
        }
        return dataclasses.replace(part, **{n: values[n] * columns[n] for n in factors})

    computing = "cycles_per_sample capacitance max_clock bandwidth max_power"
    task = scaled(scenarios.learning, "initial_gap discrepancy server_variance device_variance")
    moved = dataclasses.replace(
        scaled(scenarios, "noise_density upload_bits download_bits"),
        learning=task,
        server=scaled(scenarios.server, computing),
        devices=scaled(scenarios.devices, f"{computing} gain downlink_gain"),
    )
    energy, delay = restatement.energy_and_delay(moved, half_speed(moved))
    rounds = 10.0 ** rng.uniform(-0.5, 4.0, (2, len(energy)))
    return dataclasses.replace(
        moved, energy_budget=energy * rounds[0], delay_budget=delay * rounds[1]
    )


def other_units(scenarios: Scenario, rng: np.random.Generator) -> Scenario:
    """The same scenarios with energy in units of 1e-6 to 1e6 J and time in 1e-3 to 1e3 s."""
    size = np.shape(scenarios.energy_budget)
    a, b = 10.0 ** rng.integers(-6, 7, size), 10.0 ** rng.integers(-3, 4, size)

    def part(of: Any, a: np.ndarray, b: np.ndarray) -> Any:
        return dataclasses.replace(
            of,
            capacitance=of.capacitance * a * b**2,
            max_clock=of.max_clock / b,
            bandwidth=of.bandwidth / b,
            max_power=of.max_power * a / b,
        )

    return dataclasses.replace(
        scenarios,
        server=part(scenarios.server, a, b),
        devices=part(scenarios.devices, a[:, None], b[:, None]),
        noise_density=scenarios.noise_density * a,
        energy_budget=scenarios.energy_budget * a,
        delay_budget=scenarios.delay_budget * b,
    )


def other_budgets(scenarios: Scenario, rng: np.random.Generator) -> Scenario:
    """Each budget times a power of ten from 1e-6 to 1e6."""
    factors = 10.0 ** rng.integers(-6, 7, (2, len(scenarios.energy_budget)))
    return dataclasses.replace(
        scenarios,
        energy_budget=scenarios.energy_budget * factors[0],
        delay_budget=scenarios.delay_budget * factors[1],
    )


def copies(scenarios: Scenario, rng: np.random.Generator) -> Scenario:
    """All devices but the last are the first, weights too."""
    count = scenarios.devices.gain.shape[-1]
    index = np.where(np.arange(count) == count - 1, count - 1, 0)
    task = scenarios.learning
    return dataclasses.replace(
        scenarios,
        devices=jax.tree.map(lambda x: x[:, index], scenarios.devices),
        learning=dataclasses.replace(
            task,
            device_variance=task.device_variance[:, index],
            device_weight=np.full_like(task.device_weight, 1 / count),
        ),
    )


def zeros(scenarios: Scenario, rng: np.random.Generator) -> Scenario:
    """No discrepancy; each with a chance of one half: no variance, all weight on one device."""
    task, size = scenarios.learning, (len(scenarios.energy_budget), 1)
    first = np.zeros_like(task.device_weight)
    first[:, 0] = 1.0
    some = rng.uniform(size=(3, *size)) < 0.5
    return dataclasses.replace(
        scenarios,
        learning=dataclasses.replace(
            task,
            discrepancy=np.zeros_like(task.discrepancy),
            server_variance=np.where(some[0, :, 0], 0.0, task.server_variance),
            device_variance=np.where(some[1], 0.0, task.device_variance),
            device_weight=np.where(some[2], first, task.device_weight),
        ),
    )


def other_rounds(scenarios: Scenario, rng: np.random.Generator) -> Scenario:
    """Least rounds of 0, 1, 10 or 100 in either stage, and of 1 where both would be 0."""
    least = rng.choice([0.0, 1.0, 10.0, 100.0], (2, len(scenarios.energy_budget)))
    least[0] = np.where(least.sum(axis=0) > 0, least[0], 1.0)
    return dataclasses.replace(
        scenarios, min_pretraining_rounds=least[0], min_finetuning_rounds=least[1]
    )


def other_batches(scenarios: Scenario, rng: np.random.Generator) -> Scenario:
    """Batches fixed, or at least 1 to 64, or at most a million."""

    def part(of: Any) -> Any:
        shape = np.shape(of.max_batch)
        least = rng.choice([1.0, 2.0, 8.0, 64.0], shape)
        most = np.maximum(rng.choice([1.0, 4.0, 64.0, 1e6], shape), least)
        return dataclasses.replace(of, min_batch=least, max_batch=most)

    return dataclasses.replace(
        scenarios, server=part(scenarios.server), devices=part(scenarios.devices)
    )


VARIANTS = {
    variant.__name__.replace("_", " "): variant
    for variant in (
        as_sampled,
        powers_of_ten,
        other_units,
        other_budgets,
        copies,
        zeros,
        other_rounds,
        other_batches,
    )
}


def half_speed(scenarios: Scenario) -> Allocation:
    """One round of each stage at half of all clocks and powers on batches of about ten."""

    def stage(part: Any) -> StageAllocation:
        batch = np.clip(10.0, part.min_batch, part.max_batch)
        return StageAllocation(batch=batch, clock=part.max_clock / 2, power=part.max_power / 2)

    one = np.ones_like(scenarios.energy_budget)
    return Allocation(
        pretraining_rounds=one,
        finetuning_rounds=one,
        server=stage(scenarios.server),
        devices=stage(scenarios.devices),
    )
