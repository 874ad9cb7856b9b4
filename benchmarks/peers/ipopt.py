"""Ipopt through CasADi: exact sparse derivatives, built once for each K, parameters changed.

The problem is written in the original variables M, N, b, f, p and the devices' common round time
R (the maximum over devices becomes K inequalities). ``log`` optimises their logarithms and the
logarithms of objective and budgets; ``natural`` the variables themselves, each over its own scale.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxedge.scenario.scenario import Scenario
from jaxedge.system.allocation import Allocation
from peers.parameters import (
    allocation,
    named,
    none_found,
    row_of,
    scenario_at,
    size,
    starting_choices,
)

_MOST_ROUNDS = 1e12


def solve(scenarios: Scenario, variant: str, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """(B, 5+3K) designs, nan where Ipopt gave none, and (B,) seconds."""
    count = scenarios.devices.gain.shape[-1]
    solver = _solver(count, variant, tolerance)
    designs, seconds = [], []
    for i in range(len(scenarios.energy_budget)):
        scenario = scenario_at(scenarios, i)
        given, back = _arguments(scenario, variant, starting_choices(scenario))
        start = time.perf_counter()
        found = solver(**given)
        seconds.append(time.perf_counter() - start)
        designs.append(_choices(found, back, count))
    return np.array(designs), np.array(seconds)


def best_of_starts(scenarios: Scenario, starts: int) -> Allocation:
    """Ipopt's best designs over random starts, with its log variables at a tolerance of 1e-9."""
    from referee import judge

    rng, count = np.random.default_rng(0), scenarios.devices.gain.shape[-1]
    solver, chosen = _solver(count, "log", 1e-9), []
    for i in range(len(scenarios.energy_budget)):
        scenario, tried = scenario_at(scenarios, i), []
        for _ in range(starts):
            start = starting_choices(scenario)
            moved = start * np.exp(rng.normal(0, 0.5, start.size))
            given, back = _arguments(scenario, "log", moved)
            tried.append(_choices(solver(**given), back, count))
        repeated: Scenario = jax.tree.map(lambda x: np.stack([x] * starts), scenario)
        bounds = judge(repeated, allocation(np.array(tried)), np.ones(starts)).bound
        chosen.append(tried[int(np.argmin(bounds))])
    return allocation(np.array(chosen))


def _arguments(
    scenario: Scenario, variant: str, start: np.ndarray
) -> tuple[dict[str, np.ndarray], Callable[[np.ndarray], np.ndarray]]:
    """What the solver is called with, and the way back from its variables."""
    count = scenario.devices.gain.size
    low, high, scale = _boxes(scenario)
    start = np.concatenate([start[:5], [_round_time(scenario, start) * 1.1], start[5:]])
    start = np.clip(start, low * (1 + 1e-9), np.maximum(high * (1 - 1e-3), low))
    into, back = (np.log, np.exp) if variant == "log" else (_over(scale), _times(scale))
    given = {
        "x0": into(start),
        "lbx": into(low),
        "ubx": into(high),
        "lbg": np.full(2 + count, -np.inf),
        "ubg": np.zeros(2 + count),
        "p": np.concatenate([row_of(scenario), scale]),
    }
    return given, back


def _over(scale: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: x / scale


def _times(scale: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: x * scale


def _choices(
    found: dict[str, Any], back: Callable[[np.ndarray], np.ndarray], count: int
) -> np.ndarray:
    choices = back(np.array(found["x"]).ravel())
    return np.delete(choices, 5) if np.isfinite(choices).all() else none_found(count)


def _boxes(scenario: Scenario) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(6+3K,) limits and scales of M, N, b0, f0, p0, R, b, f, p."""
    server, devices = scenario.server, scenario.devices
    count, delay = devices.gain.size, scenario.delay_budget
    least = [scenario.min_pretraining_rounds, scenario.min_finetuning_rounds]
    least = [max(x, 1e-9) for x in least]
    low = [*least, server.min_batch, server.max_clock * 1e-4, server.max_power * 1e-8, delay * 1e-9]
    high = [
        _MOST_ROUNDS,
        _MOST_ROUNDS,
        server.max_batch,
        server.max_clock,
        server.max_power,
        delay / max(least[1], 1e-6),
    ]
    low_each = [devices.min_batch, devices.max_clock * 1e-4, devices.max_power * 1e-8]
    high_each = [devices.max_batch, devices.max_clock, devices.max_power]
    start = starting_choices(scenario)
    scale = np.concatenate([start[:5], [_round_time(scenario, start)], start[5:]])
    assert scale.size == 6 + 3 * count
    return np.concatenate([low, *low_each]), np.concatenate([high, *high_each]), scale


def _round_time(scenario: Scenario, choices: np.ndarray) -> float:
    devices = scenario.devices
    batch, clock, power = choices[5:].reshape(3, -1)
    snr = power * devices.gain / (scenario.noise_density * devices.bandwidth)
    upload = scenario.upload_bits / (devices.bandwidth * np.log2(1 + snr))
    return float(np.max(devices.cycles_per_sample * batch / clock + upload))


@functools.cache
def _solver(count: int, variant: str, tolerance: float) -> Any:
    import casadi as ca

    width = 6 + 3 * count
    z, p = ca.SX.sym("z", width), ca.SX.sym("p", size(count) + width)
    x = ca.exp(z) if variant == "log" else z * p[size(count) :]
    bound, energy, delay, late = _model(ca, named(p, count), x, count)
    limits = ca.vertcat(energy, delay, late)
    if variant == "log":
        problem = {"x": z, "p": p, "f": ca.log(bound), "g": ca.log(limits)}
    else:
        problem = {"x": z, "p": p, "f": bound, "g": limits - 1}
    options = {
        "print_time": False,
        "ipopt.print_level": 0,
        "ipopt.sb": "yes",
        "ipopt.tol": tolerance,
        "ipopt.constr_viol_tol": min(tolerance, 1e-8),
        "ipopt.acceptable_tol": tolerance,
        "ipopt.bound_relax_factor": 1e-10,
        "ipopt.mu_strategy": "adaptive",
        "ipopt.max_iter": 500,
        "error_on_fail": False,
    }
    return ca.nlpsol("design", "ipopt", problem, options)


def _model(ca: Any, s: dict[str, Any], x: Any, count: int) -> tuple[Any, Any, Any, Any]:
    """Bound, shares of both budgets, and the devices' times over R."""
    m, n, b0, f0, p0, slowest = (x[i] for i in range(6))
    b, f, p = (x[6 + i * count : 6 + (i + 1) * count] for i in range(3))
    noise = s["noise_density"]

    def sending(bits: Any, width: Any, snr: Any) -> Any:
        return bits * np.log(2) / (width * ca.log1p(snr))

    weakest = ca.mmin(s["devices.downlink_gain"])
    width0, width = s["server.bandwidth"], s["devices.bandwidth"]
    down = sending(s["download_bits"], width0, p0 * weakest / (noise * width0))
    up = sending(s["upload_bits"], width, p * s["devices.gain"] / (noise * width))
    cycles0, cycles = s["server.cycles_per_sample"] * b0, s["devices.cycles_per_sample"] * b
    e0 = s["server.capacitance"] * cycles0 * f0**2
    e1 = p0 * down + ca.sum1(s["devices.capacitance"] * cycles * f**2 + p * up)
    energy = (m * e0 + n * e1) / s["energy_budget"]
    delay = (m * cycles0 / f0 + n * (down + slowest)) / s["delay_budget"]
    eta0, eta = s["learning.server_learning_rate"], s["learning.device_learning_rate"]
    smooth = s["learning.smoothness"]
    noise0 = smooth * eta0**2 * s["learning.server_variance"] / b0
    spread = ca.sum1(s["learning.device_weight"] ** 2 * s["learning.device_variance"] / b)
    numerator = 2 * s["learning.initial_gap"] + n * smooth * eta**2 * spread
    numerator += m * (eta0 * s["learning.discrepancy"] + noise0)
    return numerator / (m * eta0 + n * eta), energy, delay, (cycles / f + up) / slowest
