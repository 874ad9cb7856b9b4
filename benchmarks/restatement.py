"""The model and its dual once more, in plain NumPy over stacked scenarios: the referee's own.

Written from the formulas of docs/theory.md and importing nothing of jaxedge, so that a mistake in
one is not a mistake in both. Scenarios and allocations are jaxedge's dataclasses of float64 arrays
with a leading axis (B, ...); prices are per J and per s of the two-stage bound's numerator.
"""

from __future__ import annotations

import dataclasses
import types
from typing import Any

import numpy as np
from scipy.special import lambertw

LN2 = np.log(2.0)


def energy_and_delay(scenario: Any, design: Any) -> tuple[np.ndarray, np.ndarray]:
    """(B,) J and s of whole plans."""
    server, devices, own, each = scenario.server, scenario.devices, design.server, design.devices
    m, n = design.pretraining_rounds, design.finetuning_rounds
    own_cycles = server.cycles_per_sample * own.batch
    cycles = devices.cycles_per_sample * each.batch
    up = _sending(devices, each, devices.gain, *_column(scenario.upload_bits, scenario))
    weakest = devices.downlink_gain.min(axis=-1)
    down = _sending(server, own, weakest, scenario.download_bits, scenario.noise_density)
    e0, t0 = server.capacitance * own_cycles * own.clock**2, own_cycles / own.clock
    e1 = (devices.capacitance * cycles * each.clock**2 + each.power * up).sum(axis=-1)
    t1 = (cycles / each.clock + up).max(axis=-1)
    return m * e0 + n * (own.power * down + e1), m * t0 + n * (down + t1)


def two_stage_bound(scenario: Any, design: Any) -> np.ndarray:
    """(B,) [2 Delta + M (eta0 d2 + L eta0² s0/b0) + N L eta² sum w² s/b]/(M eta0 + N eta)."""
    task, m, n = scenario.learning, design.pretraining_rounds, design.finetuning_rounds
    eta0, eta = task.server_learning_rate, task.device_learning_rate
    noise0 = task.smoothness * eta0**2 * task.server_variance / design.server.batch
    spread = task.device_weight**2 * task.device_variance / design.devices.batch
    noise = task.smoothness * eta**2 * spread.sum(axis=-1)
    numerator = 2 * task.initial_gap + m * (eta0 * task.discrepancy + noise0) + n * noise
    return numerator / (m * eta0 + n * eta)


def violation(scenario: Any, design: Any, *, integer: bool = False) -> np.ndarray:
    """(B,) largest relative excess over a limit, inf where a number is not positive or whole."""
    energy, delay = energy_and_delay(scenario, design)
    worst = [energy / scenario.energy_budget - 1, delay / scenario.delay_budget - 1]
    counts = []
    for stage in ("pretraining_rounds", "finetuning_rounds"):
        least, rounds = getattr(scenario, f"min_{stage}"), getattr(design, stage)
        worst.append((least - rounds) / np.maximum(least, 1))
        counts.append(rounds)
    for part, chosen in ((scenario.server, design.server), (scenario.devices, design.devices)):
        counts.append(chosen.batch)
        boxes = [chosen.clock / part.max_clock - 1, chosen.power / part.max_power - 1]
        boxes += [1 - chosen.batch / part.min_batch, chosen.batch / part.max_batch - 1]
        boxes += [np.where(x > 0, 0.0, np.inf) for x in (chosen.clock, chosen.power)]
        worst += [box.reshape(len(energy), -1).max(axis=1) for box in boxes]
    if integer:
        off = [(x != np.round(x)).reshape(len(energy), -1).any(axis=1) for x in counts]
        worst.append(np.where(np.any(off, axis=0), np.inf, 0.0))
    return np.nan_to_num(np.max(worst, axis=0), nan=np.inf)


def lower_bound(
    scenario: Any, energy_price: np.ndarray, device_prices: np.ndarray, *, integer: bool = False
) -> np.ndarray:
    """(B,) what no design's bound is below, at any prices >= 0: (B,) per J and (B, K) per s."""
    task, nu = scenario.learning, device_prices.sum(axis=-1)
    eta0, eta = task.server_learning_rate, task.device_learning_rate
    variance0 = task.smoothness * eta0**2 * task.server_variance
    first, second = round_costs(
        scenario,
        energy_price,
        device_prices,
        variance0,
        (task.smoothness * eta**2)[:, None] * task.device_weight**2 * task.device_variance,
        integer=integer,
    )
    first = first + eta0 * task.discrepancy
    least_m, least_n = scenario.min_pretraining_rounds, scenario.min_finetuning_rounds
    spent = energy_price * scenario.energy_budget + nu * scenario.delay_budget
    idle = 2 * task.initial_gap - spent
    with np.errstate(divide="ignore", invalid="ignore"):
        corner = (idle + least_m * first + least_n * second) / (least_m * eta0 + least_n * eta)
    # Without least rounds the corner is a direction that the numerator must not fall along.
    corner = np.where(least_m + least_n > 0, corner, np.where(idle >= 0, np.inf, -np.inf))
    return np.min([first / eta0, second / eta, corner], axis=0)


def least_energy_bound(scenario: Any, device_prices: np.ndarray) -> np.ndarray:
    """(B,) J that the fewest rounds on the smallest batches need within the delay, from below.

    Weak duality at any prices (B, K) of a device's time, in J/s: least energy + nu (delay - T).
    """
    none, one = np.zeros_like(scenario.energy_budget), np.ones_like(scenario.energy_budget)
    smallest = _on_smallest_batches(scenario)
    first, second = round_costs(smallest, one, device_prices, none, 0.0 * device_prices)
    least_m, least_n = scenario.min_pretraining_rounds, scenario.min_finetuning_rounds
    return least_m * first + least_n * second - device_prices.sum(axis=-1) * scenario.delay_budget


def shortest_delay(scenario: Any) -> np.ndarray:
    """(B,) s of the fewest rounds on the smallest batches, flat out."""
    parts = {
        name: types.SimpleNamespace(batch=p.min_batch, clock=p.max_clock, power=p.max_power)
        for name, p in (("server", scenario.server), ("devices", scenario.devices))
    }
    m, n = scenario.min_pretraining_rounds, scenario.min_finetuning_rounds
    design = types.SimpleNamespace(pretraining_rounds=m, finetuning_rounds=n, **parts)
    return energy_and_delay(scenario, design)[1]


def round_costs(
    scenario: Any,
    lam: np.ndarray,
    nus: np.ndarray,
    server_variance: np.ndarray,
    device_variance: np.ndarray,
    *,
    integer: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """(B,) least priced cost of a pre-training and of a fine-tuning round, noise included."""
    server, devices, nu = scenario.server, scenario.devices, nus.sum(axis=-1)
    noise, bits = scenario.noise_density, scenario.upload_bits
    first = _computing_cost(server, server_variance, lam, nu, integer)
    each = _computing_cost(devices, device_variance, lam[:, None], nus, integer)
    each = each + _sending_cost(
        devices, devices.gain, bits[:, None], noise[:, None], (lam[:, None], nus)
    )
    weakest = devices.downlink_gain.min(axis=-1)
    sent = _sending_cost(server, weakest, scenario.download_bits, noise, (lam, nu))
    return first, each.sum(axis=-1) + sent


def device_times(scenario: Any, nus: np.ndarray) -> np.ndarray:
    """(B, K) s of a device's round on the smallest batch at prices nus of its time in J/s."""
    devices = scenario.devices
    pace = pace_of(devices, 1.0, nus)
    x = exponent(devices, devices.gain, scenario.noise_density[:, None], (1.0, nus))
    return pace * devices.min_batch + scenario.upload_bits[:, None] * LN2 / devices.bandwidth / x


def _column(bits: np.ndarray, scenario: Any) -> tuple[np.ndarray, np.ndarray]:
    return bits[:, None], scenario.noise_density[:, None]


def _sending(part: Any, chosen: Any, gain: Any, bits: Any, noise: Any) -> np.ndarray:
    snr = chosen.power * gain / (noise * part.bandwidth)
    return bits * LN2 / (part.bandwidth * np.log1p(snr))


def pace_of(part: Any, lam: Any, nu: Any) -> np.ndarray:
    """Seconds per sample at the best clock."""
    work = part.capacitance * part.cycles_per_sample**3
    with np.errstate(divide="ignore", over="ignore"):
        free = np.cbrt(2 * lam * work / np.maximum(nu, 1e-300))
    return np.clip(free, part.cycles_per_sample / part.max_clock, 1e100)


def _computing_cost(part: Any, variance: Any, lam: Any, nu: Any, integer: bool) -> np.ndarray:
    pace = pace_of(part, lam, nu)
    price = lam * part.capacitance * part.cycles_per_sample**3 / pace**2 + nu * pace
    batch = np.sqrt(variance / np.maximum(price, 1e-300))
    batch = np.clip(batch, part.min_batch, part.max_batch)
    around = (np.floor(batch), np.ceil(batch)) if integer else (batch,)
    return np.min([variance / b + price * b for b in around], axis=0)


def exponent(part: Any, gain: Any, noise: Any, prices: tuple[Any, Any]) -> np.ndarray:
    """X = ln(1 + SNR) with (x - 1) e^x + 1 = nu gain/(lam noise width), inside its limits."""
    most = np.log1p(part.max_power * gain / (noise * part.bandwidth))
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        y = prices[1] * gain / (np.maximum(prices[0], 1e-300) * noise * part.bandwidth)
    y = np.clip(np.nan_to_num(y, posinf=1e250), 1e-200, 1e250)
    small = y < 1e-3
    x = np.where(small, np.sqrt(2 * y), 1 + lambertw((np.where(small, 1.0, y) - 1) / np.e).real)
    for _ in range(4):  # Newton's method
        x = x - (_rise(x) - y) / (x * np.exp(x))
    return np.minimum(x, most)


def _rise(x: np.ndarray) -> np.ndarray:
    """(x - 1) e^x + 1, by its series where that would lose digits."""
    series = x**2 * (1 / 2 + x * (1 / 3 + x * (1 / 8 + x * (1 / 30 + x * (1 / 144 + x / 840)))))
    return np.where(x < 0.05, series, (x - 1) * np.exp(x) + 1)


def _sending_cost(
    part: Any, gain: Any, bits: Any, noise: Any, prices: tuple[Any, Any]
) -> np.ndarray:
    """Least lam p u + nu u over the time u = bits ln 2/(width x)."""
    x = exponent(part, gain, noise, prices)
    joules, seconds = bits * LN2 * noise / gain, bits * LN2 / part.bandwidth
    return prices[0] * joules * np.expm1(x) / x + prices[1] * seconds / x


def _on_smallest_batches(scenario: Any) -> Any:
    parts = {
        name: dataclasses.replace(part, max_batch=part.min_batch)
        for name, part in (("server", scenario.server), ("devices", scenario.devices))
    }
    return dataclasses.replace(scenario, **parts)
