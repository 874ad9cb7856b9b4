"""SCIP on the integer problem through PySCIPOpt, in natural or in logarithmic variables.

The transmission exponents x = ln(1 + SNR) stand for the powers, and the devices' common round time
R for the maximum over devices; clocks are shares of their limits. SCIP stops at a proven gap of
1e-3 or at the time limit.
"""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any

import numpy as np

from jaxedge.scenario.scenario import Scenario
from peers.parameters import named, none_found, row_of

VARIANTS = ("natural", "log")
GAP = 1e-3


@dataclasses.dataclass(frozen=True)
class Found:
    """What SCIP says of one scenario."""

    design: np.ndarray
    """(5+3K,) nan where there is none."""
    lower_bound: float
    status: str
    seconds: float


def solve_one(scenario: Scenario, variant: str, limit: float) -> Found:
    """Minimise the two-stage bound over whole rounds and batches within ``limit`` seconds."""
    count = scenario.devices.gain.size
    model, read = _model(named(row_of(scenario), count), count, variant)
    model.hideOutput()
    model.setParam("limits/gap", GAP)
    model.setParam("limits/time", limit)
    start = time.perf_counter()
    model.optimize()
    seconds = time.perf_counter() - start
    design = read() if model.getNSols() else none_found(count)
    return Found(design, model.getDualbound(), model.getStatus(), seconds)


@dataclasses.dataclass
class _Part:
    """One computer or link of the model, in numbers free of units."""

    batch: Any
    clock: Any
    exponent: Any
    samples: tuple[float, float]
    """Energy share and time share of a sample at full clock."""
    sending: tuple[float, float]
    """Energy share over (e^x - 1)/x, time share over 1/x."""


def _model(s: dict[str, Any], count: int, variant: str) -> tuple[Any, Any]:
    import pyscipopt

    model = pyscipopt.Model()
    parts = [_part(model, s, "server", None, variant)]
    parts += [_part(model, s, "devices", k, variant) for k in range(count)]
    m = model.addVar("M", "I", max(s["min_pretraining_rounds"], 1), _most(parts[:1], 0))
    n = model.addVar("N", "I", max(s["min_finetuning_rounds"], 1), _most(parts, 1))
    # Products of the rounds with what a round takes, or exponentials of sums of logarithms.
    if variant == "log":
        own, each = _log_costs(pyscipopt, model, parts, m, n)
    else:
        own, each = _natural_costs(pyscipopt, parts, m, n)
    slowest = model.addVar("R", "C", 0.0, 1.0)
    for time_used in each["times"]:
        model.addCons(time_used <= slowest)
    model.addCons(own["energy"] + each["energy"] <= 1)
    model.addCons(own["time"] + each["broadcast"] + slowest <= 1)
    _objective(pyscipopt, model, s, parts, m, n)

    def read() -> np.ndarray:
        best = model.getBestSol()
        values = [[best[p.batch], _clock(p, best, variant), best[p.exponent]] for p in parts]
        return _choices(s, count, [best[m], best[n]], np.array(values))

    return model, read


def _part(model: Any, s: dict[str, Any], name: str, k: int | None, variant: str) -> _Part:
    def of(field: str) -> float:
        value = s[f"{name}.{field}"]
        return float(value if k is None else value[k])

    cycles, clock = of("cycles_per_sample"), of("max_clock")
    gain = float(s["devices.downlink_gain"].min()) if k is None else of("gain")
    bits = s["download_bits"] if k is None else s["upload_bits"]
    width, noise = of("bandwidth"), s["noise_density"]
    most = math.log1p(of("max_power") * gain / (noise * width))
    low = math.log(1e-3) if variant == "log" else 1e-3
    high = 0.0 if variant == "log" else 1.0
    return _Part(
        batch=model.addVar(f"b{k}", "I", of("min_batch"), of("max_batch")),
        clock=model.addVar(f"f{k}", "C", low, high),
        exponent=model.addVar(f"x{k}", "C", 1e-4 * most, most),
        samples=(
            of("capacitance") * cycles * clock**2 / s["energy_budget"],
            cycles / clock / s["delay_budget"],
        ),
        sending=(
            bits * math.log(2) * noise / gain / s["energy_budget"],
            bits * math.log(2) / width / s["delay_budget"],
        ),
    )


def _most(parts: list[_Part], stage: int) -> float:
    """Rounds that fit into the delay flat out on the smallest batches."""
    if stage == 0:
        return max(math.floor(1 / (parts[0].samples[1] * parts[0].batch.getLbOriginal())), 1)
    each = [
        p.samples[1] * p.batch.getLbOriginal() + p.sending[1] / p.exponent.getUbOriginal()
        for p in parts[1:]
    ]
    down = parts[0].sending[1] / parts[0].exponent.getUbOriginal()
    return max(math.floor(1 / (down + max(each))), 1)


def _natural_costs(scip: Any, parts: list[_Part], m: Any, n: Any) -> tuple[dict, dict]:
    def sent(p: _Part) -> Any:
        return p.sending[0] * n * (scip.exp(p.exponent) - 1) / p.exponent

    server, devices = parts[0], parts[1:]
    own = {
        "energy": server.samples[0] * m * server.batch * server.clock**2,
        "time": server.samples[1] * m * server.batch / server.clock,
    }
    computing = [p.samples[0] * n * p.batch * p.clock**2 for p in devices]
    times = [p.samples[1] * n * p.batch / p.clock + p.sending[1] * n / p.exponent for p in devices]
    energy = scip.quicksum(computing) + scip.quicksum(sent(p) for p in parts)
    broadcast = server.sending[1] * n / server.exponent
    return own, {"energy": energy, "times": times, "broadcast": broadcast}


def _log_costs(scip: Any, model: Any, parts: list[_Part], m: Any, n: Any) -> tuple[dict, dict]:
    def log_of(x: Any, low: float, high: float) -> Any:
        y = model.addVar(lb=math.log(low), ub=math.log(high))
        model.addCons(y == scip.log(x))
        return y

    ym, yn = (log_of(x, x.getLbOriginal(), x.getUbOriginal()) for x in (m, n))
    yb = [log_of(p.batch, p.batch.getLbOriginal(), p.batch.getUbOriginal()) for p in parts]
    yx = [log_of(p.exponent, p.exponent.getLbOriginal(), p.exponent.getUbOriginal()) for p in parts]

    def term(factor: float, power: Any) -> Any:
        return scip.exp(power + math.log(factor))

    server = parts[0]
    own = {
        "energy": term(server.samples[0], ym + yb[0] + 2 * server.clock),
        "time": term(server.samples[1], ym + yb[0] - server.clock),
    }
    devices = list(zip(parts[1:], yb[1:], yx[1:], strict=True))
    energy = [term(p.samples[0], yn + y + 2 * p.clock) for p, y, _ in devices]
    energy += [
        term(p.sending[0], yn - x) * (scip.exp(p.exponent) - 1)
        for p, x in zip(parts, yx, strict=True)
    ]
    times = [
        term(p.samples[1], yn + y - p.clock) + term(p.sending[1], yn - x) for p, y, x in devices
    ]
    broadcast = term(server.sending[1], yn - yx[0])
    return own, {"energy": scip.quicksum(energy), "times": times, "broadcast": broadcast}


def _objective(
    scip: Any, model: Any, s: dict[str, Any], parts: list[_Part], m: Any, n: Any
) -> None:
    """Minimise theta with theta (M eta0 + N eta) >= the bound's numerator."""
    task = {name.partition(".")[2]: x for name, x in s.items() if name.startswith("learning.")}
    eta0, eta = task["server_learning_rate"], task["device_learning_rate"]
    smooth, weight = task["smoothness"], task["device_weight"] ** 2 * task["device_variance"]
    theta = model.addVar("theta", "C", 0.0, None)
    noise = [smooth * eta**2 * weight[k] * n / p.batch for k, p in enumerate(parts[1:])]
    noise.append(smooth * eta0**2 * task["server_variance"] * m / parts[0].batch)
    numerator = 2 * task["initial_gap"] + m * eta0 * task["discrepancy"] + scip.quicksum(noise)
    model.addCons(theta * (eta0 * m + eta * n) >= numerator)
    model.setObjective(theta, "minimize")


def _clock(part: _Part, best: Any, variant: str) -> float:
    share = best[part.clock]
    return math.exp(share) if variant == "log" else share


def _choices(s: dict[str, Any], count: int, rounds: list[float], values: np.ndarray) -> np.ndarray:
    """(5+3K,) with rounds and batches made whole, which SCIP has within 1e-6."""
    batch, clock, exponent = np.round(values[:, 0]), values[:, 1], values[:, 2]
    gain = np.concatenate([[s["devices.downlink_gain"].min()], s["devices.gain"]])
    width = np.concatenate([[s["server.bandwidth"]], s["devices.bandwidth"]])
    most = np.concatenate([[s["server.max_clock"]], s["devices.max_clock"]])
    limit = np.concatenate([[s["server.max_power"]], s["devices.max_power"]])
    power = np.minimum(s["noise_density"] * width / gain * np.expm1(exponent), limit)
    clock = np.minimum(clock * most, most)
    own = [*np.round(rounds), batch[0], clock[0], power[0]]
    return np.concatenate([own, batch[1:], clock[1:], power[1:]])
