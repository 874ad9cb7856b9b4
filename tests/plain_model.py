"""The model once more, in plain Python floats and loops, as the judge of all designs.

Written from the formulas alone and importing nothing of jaxedge, so that a mistake in one is not
a mistake in both. Scenarios and allocations are dictionaries in the documented format or anything
with the same field names; ``plain`` makes dictionaries of either.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

Plain = dict[str, Any]


def plain(thing: Any) -> Any:
    """Dictionaries, lists and floats of a dataclass, mapping, array or number."""
    if dataclasses.is_dataclass(thing):
        return {f.name: plain(getattr(thing, f.name)) for f in dataclasses.fields(thing)}
    if isinstance(thing, Mapping):
        return {key: plain(value) for key, value in thing.items()}
    if hasattr(thing, "tolist"):
        return plain(thing.tolist())
    if isinstance(thing, list | tuple):
        return [plain(value) for value in thing]
    return thing if thing is None else float(thing)


def device_count(scenario: Plain) -> int:
    lists = [v for v in [*scenario["devices"].values(), *scenario["learning"].values()]]
    return max([len(v) for v in lists if isinstance(v, list)], default=1)


def of_device(value: Any, k: int) -> float:
    return value[k] if isinstance(value, list) else value


def downlink_gain(scenario: Plain, k: int) -> float:
    gain = scenario["devices"].get("downlink_gain")
    return of_device(scenario["devices"]["gain"] if gain is None else gain, k)


def uplink_rate(scenario: Plain, allocation: Plain, k: int) -> float:
    devices = scenario["devices"]
    width = of_device(devices["bandwidth"], k)
    signal = of_device(allocation["devices"]["power"], k) * of_device(devices["gain"], k)
    return width * math.log1p(signal / (scenario["noise_density"] * width)) / math.log(2)


def downlink_rate(scenario: Plain, allocation: Plain) -> float:
    width = scenario["server"]["bandwidth"]
    rates = []
    for k in range(device_count(scenario)):
        signal = allocation["server"]["power"] * downlink_gain(scenario, k)
        rates.append(width * math.log1p(signal / (scenario["noise_density"] * width)) / math.log(2))
    return min(rates)


def pretraining_round(scenario: Plain, allocation: Plain) -> tuple[float, float]:
    """Energy and time."""
    cycles = scenario["server"]["cycles_per_sample"] * allocation["server"]["batch"]
    clock = allocation["server"]["clock"]
    return scenario["server"]["capacitance"] * cycles * clock**2, cycles / clock


def device_round(scenario: Plain, allocation: Plain, k: int) -> dict[str, float]:
    devices, chosen = scenario["devices"], allocation["devices"]
    cycles = of_device(devices["cycles_per_sample"], k) * of_device(chosen["batch"], k)
    clock = of_device(chosen["clock"], k)
    upload_time = scenario["upload_bits"] / uplink_rate(scenario, allocation, k)
    return {
        "compute_energy": of_device(devices["capacitance"], k) * cycles * clock**2,
        "compute_time": cycles / clock,
        "upload_energy": of_device(chosen["power"], k) * upload_time,
        "upload_time": upload_time,
    }


def finetuning_round(scenario: Plain, allocation: Plain) -> tuple[float, float]:
    """Energy and time."""
    broadcast = scenario["download_bits"] / downlink_rate(scenario, allocation)
    energy, slowest = allocation["server"]["power"] * broadcast, 0.0
    for k in range(device_count(scenario)):
        part = device_round(scenario, allocation, k)
        energy += part["compute_energy"] + part["upload_energy"]
        slowest = max(slowest, part["compute_time"] + part["upload_time"])
    return energy, broadcast + slowest


def _rounds(allocation: Plain) -> tuple[float, float]:
    return allocation["pretraining_rounds"], allocation["finetuning_rounds"]


def energy_and_delay(scenario: Plain, allocation: Plain) -> tuple[float, float]:
    """J and s of the whole plan; a stage without rounds uses nothing."""
    totals = [0.0, 0.0]
    rounds = zip(_rounds(allocation), (pretraining_round, finetuning_round), strict=True)
    for count, one_round in rounds:
        if count > 0:
            used = one_round(scenario, allocation)
            totals = [totals[0] + count * used[0], totals[1] + count * used[1]]
    return totals[0], totals[1]


def aggregated_variance(scenario: Plain, allocation: Plain) -> float:
    learning, total = scenario["learning"], 0.0
    for k in range(device_count(scenario)):
        weight = of_device(learning["device_weight"], k)
        variance = of_device(learning["device_variance"], k)
        total += weight**2 * variance / of_device(allocation["devices"]["batch"], k)
    return total


def two_stage_bound(scenario: Plain, allocation: Plain) -> float:
    learning, (first, second) = scenario["learning"], _rounds(allocation)
    eta0, eta = learning["server_learning_rate"], learning["device_learning_rate"]
    total = 2 * learning["initial_gap"]
    if first > 0:
        noise = learning["server_variance"] / allocation["server"]["batch"]
        total += first * eta0 * learning["discrepancy"]
        total += first * learning["smoothness"] * eta0**2 * noise
    if second > 0:
        noise = aggregated_variance(scenario, allocation)
        total += second * learning["smoothness"] * eta**2 * noise
    return total / (first * eta0 + second * eta)


def _handed_over(scenario: Plain, allocation: Plain) -> float:
    learning, (first, _) = scenario["learning"], _rounds(allocation)
    eta0, gap = learning["server_learning_rate"], learning["initial_gap"]
    if first > 0:
        mu, noise = learning["pl_constant"], learning["server_variance"]
        kept = (1 - mu * eta0) ** first
        floor = learning["discrepancy"] / (2 * mu)
        floor += learning["smoothness"] * eta0 * noise / (2 * mu * allocation["server"]["batch"])
        gap = kept * gap + (1 - kept) * floor
    return gap


def fine_tuning_bound(scenario: Plain, allocation: Plain) -> float:
    learning, (_, second) = scenario["learning"], _rounds(allocation)
    if second == 0:
        return math.inf
    eta, noise = learning["device_learning_rate"], aggregated_variance(scenario, allocation)
    gap = _handed_over(scenario, allocation)
    return 2 * gap / (eta * second) + learning["smoothness"] * eta * noise


def last_iterate_bound(scenario: Plain, allocation: Plain) -> float:
    learning, (_, second) = scenario["learning"], _rounds(allocation)
    mu, eta = learning["pl_constant"], learning["device_learning_rate"]
    left, noise = (1 - mu * eta) ** second, aggregated_variance(scenario, allocation)
    level = learning["smoothness"] * eta * noise / (2 * mu)
    return left * _handed_over(scenario, allocation) + (1 - left) * level


BOUNDS = {
    "two-stage": two_stage_bound,
    "fine-tuning": fine_tuning_bound,
    "last-iterate": last_iterate_bound,
}


def broken_limits(
    scenario: Any, allocation: Any, *, integer: bool = True, tolerance: float = 1e-9
) -> list[str]:
    """Every limit that a design breaks, in words; empty for a feasible design."""
    scenario, allocation = plain(scenario), plain(allocation)
    broken = [text for text in _budgets(scenario, allocation, tolerance)]
    for name, part, chosen in _parts(scenario, allocation):
        broken += _box(name, part, chosen, integer, tolerance)
    for stage in ("pretraining_rounds", "finetuning_rounds"):
        rounds, least = allocation[stage], scenario.get(f"min_{stage}", 1)
        if not (rounds >= least * (1 - tolerance) and math.isfinite(rounds)):
            broken.append(f"{stage} {rounds} < {least}")
        if integer and rounds != round(rounds):
            broken.append(f"{stage} {rounds} is not whole")
    return broken


def _budgets(scenario: Plain, allocation: Plain, tolerance: float) -> list[str]:
    energy, delay = energy_and_delay(scenario, allocation)
    broken = []
    for name, used in (("energy_budget", energy), ("delay_budget", delay)):
        if not used <= scenario[name] * (1 + tolerance):
            broken.append(f"{name} {scenario[name]} < {used}")
    return broken


def _parts(scenario: Plain, allocation: Plain) -> list[tuple[str, Plain, Plain]]:
    parts = [("server", scenario["server"], allocation["server"])]
    for k in range(device_count(scenario)):
        limits = {n: of_device(v, k) for n, v in scenario["devices"].items() if v is not None}
        chosen = {n: of_device(v, k) for n, v in allocation["devices"].items()}
        parts.append((f"devices[{k}]", limits, chosen))
    return parts


def _box(name: str, part: Plain, chosen: Plain, integer: bool, tolerance: float) -> list[str]:
    broken = []
    for what in ("clock", "power"):
        if not 0 < chosen[what] <= part[f"max_{what}"] * (1 + tolerance):
            broken.append(f"{name}.{what} {chosen[what]} outside (0, {part[f'max_{what}']}]")
    batch, least, most = chosen["batch"], part.get("min_batch", 1), part["max_batch"]
    if not least * (1 - tolerance) <= batch <= most * (1 + tolerance):
        broken.append(f"{name}.batch {batch} outside [{least}, {most}]")
    if integer and batch != round(batch):
        broken.append(f"{name}.batch {batch} is not whole")
    return broken
