"""The Lagrangian lower bound once more, in plain floats and SI units: the judge of certificates.

Like ``plain_model`` it is written from the formulas and imports nothing of jaxedge. Any prices
give a lower bound; only their quality differs. Minima are found by bisection or trial.
"""

from __future__ import annotations

import math
from typing import Any

from tests.plain_model import Plain, device_count, downlink_gain, of_device, plain


def computing_cost(
    part: Plain, variance: float, energy_price: float, time_price: float, weight: float, whole: bool
) -> float:
    """Least variance/b + weight b (energy_price kappa c f² + time_price c/f) over b and f."""
    cycles, work = part["cycles_per_sample"], part["capacitance"] * part["cycles_per_sample"] ** 3
    pace = cycles / part["max_clock"]
    if time_price == 0:
        pace = max(pace, 1e12) if energy_price > 0 else pace
    else:
        pace = max(pace, (2 * energy_price * work / time_price) ** (1 / 3))
    price = weight * (energy_price * work / pace**2 + time_price * pace)
    least, most = part.get("min_batch", 1), part["max_batch"]
    best = min(most, max(least, math.sqrt(variance / price) if price > 0 else most))
    around = [math.floor(best), math.ceil(best)] if whole else [best]
    return min(variance / b + price * b for b in around)


def sending_cost(
    bits: float, width: float, noise_to_gain: float, power: float, prices: tuple[float, float]
) -> float:
    """Least energy_price p u + time_price u over the time u = bits ln 2/(width x)."""
    energy_price, time_price = prices
    nats, joules = bits * math.log(2) / width, bits * math.log(2) * noise_to_gain
    low, high = 0.0, math.log1p(power / (noise_to_gain * width))
    for _ in range(200):
        x = (low + high) / 2
        rising = energy_price * joules * ((x - 1) * math.exp(x) + 1) > time_price * nats
        low, high = (low, x) if rising else (x, high)
    return (energy_price * joules * math.expm1(high) + time_price * nats) / high


def finetuning_cost(
    scenario: Plain, energy_price: float, device_prices: list[float], scale: float, whole: bool
) -> float:
    """B: least priced cost of one fine-tuning round, device k's variance times ``scale`` w_k²."""
    server, noise = scenario["server"], scenario["noise_density"]
    total = sending_cost(
        scenario["download_bits"],
        server["bandwidth"],
        noise / min(downlink_gain(scenario, k) for k in range(device_count(scenario))),
        server["max_power"],
        (energy_price, sum(device_prices)),
    )
    for k, time_price in enumerate(device_prices):
        part = {n: of_device(v, k) for n, v in scenario["devices"].items() if v is not None}
        learning = {n: of_device(v, k) for n, v in scenario["learning"].items()}
        variance = scale * learning["device_weight"] ** 2 * learning["device_variance"]
        total += computing_cost(part, variance, energy_price, time_price, 1.0, whole)
        total += sending_cost(
            scenario["upload_bits"],
            part["bandwidth"],
            noise / part["gain"],
            part["max_power"],
            (energy_price, time_price),
        )
    return total


def two_stage_lower_bound(
    scenario: Any, energy_price: float, device_prices: list[float], *, integer: bool = False
) -> float:
    """Lower bound on the two-stage bound at prices per J and per s of its numerator."""
    scenario = plain(scenario)
    task, time_price = scenario["learning"], sum(device_prices)
    eta0, eta = task["server_learning_rate"], task["device_learning_rate"]
    variance = task["smoothness"] * eta0**2 * task["server_variance"]
    first = eta0 * task["discrepancy"] + computing_cost(
        scenario["server"], variance, energy_price, time_price, 1.0, integer
    )
    scale = task["smoothness"] * eta**2
    second = finetuning_cost(scenario, energy_price, device_prices, scale, integer)
    spent = energy_price * scenario["energy_budget"] + time_price * scenario["delay_budget"]
    least = scenario.get("min_pretraining_rounds", 1), scenario.get("min_finetuning_rounds", 1)
    corner = 2 * task["initial_gap"] - spent + least[0] * first + least[1] * second
    return min(first / eta0, second / eta, corner / (least[0] * eta0 + least[1] * eta))


def fine_tuning_lower_bound(
    scenario: Any,
    pretraining_rounds: float,
    energy_price: float,
    device_prices: list[float],
    *,
    integer: bool = False,
) -> float:
    """Lower bound on the fine-tuning bound at these pre-training rounds; prices as above."""
    scenario = plain(scenario)
    task, time_price = scenario["learning"], sum(device_prices)
    eta0, eta, mu = (
        task[name] for name in ("server_learning_rate", "device_learning_rate", "pl_constant")
    )
    kept = (1 - mu * eta0) ** pretraining_rounds
    first = 2 * (kept * task["initial_gap"] + (1 - kept) * task["discrepancy"] / (2 * mu)) / eta
    if pretraining_rounds > 0:
        variance = (1 - kept) * task["smoothness"] * eta0 * task["server_variance"] / (mu * eta)
        first += computing_cost(
            scenario["server"], variance, energy_price, time_price, pretraining_rounds, integer
        )
    scale = task["smoothness"] * eta
    second = finetuning_cost(scenario, energy_price, device_prices, scale, integer)
    spent = energy_price * scenario["energy_budget"] + time_price * scenario["delay_budget"]
    least = max(scenario.get("min_finetuning_rounds", 1), 1)
    return min(second, second + (first - spent) / least)
