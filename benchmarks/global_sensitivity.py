"""Which parameters matter over the sampler's ranges? Three measures, their cost, and their error.

Usage: python benchmarks/global_sensitivity.py [--smallest] [--preset NAME] [--record]
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import jax
import numpy as np
import records
from known_functions import KNOWN

from jaxedge import presets
from jaxedge.sensitivity.measures import sobol
from jaxedge.sensitivity.over_ranges import METHODS, global_sensitivity

ORDERS = ("first_order", "total_order")


def wide(low: float, high: float) -> dict[str, Any]:
    return {"low": low, "high": high, "distribution": "log-uniform"}


def factor(low: float, high: float) -> dict[str, Any]:
    return {"low": low, "high": high, "relative": True}


# The ranges that `jaxedge.sampling` draws from; budgets by a factor of two either way, and device
# fields by the same factors around the preset's.
RANGES = {
    "energy_budget": {**factor(0.5, 2.0), "distribution": "log-uniform"},
    "delay_budget": {**factor(0.5, 2.0), "distribution": "log-uniform"},
    "upload_bits": wide(1e5, 1e7),
    "learning.initial_gap": (1.0, 4.0),
    "learning.discrepancy": wide(1e-3, 1.0),
    "learning.server_learning_rate": wide(0.005, 0.02),
    "learning.device_learning_rate": wide(0.005, 0.02),
    "learning.server_variance": (5.0, 20.0),
    "learning.device_variance": (5.0, 20.0),
    "server.cycles_per_sample": wide(1e6, 1e7),
    "server.capacitance": wide(1e-28, 1e-26),
    "server.max_clock": wide(3e9, 2e10),
    "devices.cycles_per_sample": factor(0.5, 1.5),
    "devices.capacitance": factor(0.5, 2.0),
    "devices.max_clock": factor(0.5, 2.0),
    "devices.gain": {**factor(0.1, 10.0), "distribution": "log-uniform"},
}


def errors(sizes: tuple[int, ...]) -> dict[str, Any]:
    """Largest error of the indices of known functions, and the share of intervals that cover."""
    found = {}
    for name, (function, exact) in KNOWN.items():
        for samples in sizes:
            told = sobol(function, len(exact[0]), samples, 0)
            pairs = [(told[order], x) for order, x in zip(ORDERS, exact, strict=True)]
            error = max(float(np.max(np.abs(m.estimate - x))) for m, x in pairs)
            covered = np.mean([(m.low <= x) & (x <= m.high) for m, x in pairs])
            print(f"{name}, N = {samples}: largest error {error:.1e}, {covered:.0%} covered")
            found[f"{name} {samples}"] = {"error": error, "covered": float(covered)}
    return found


def study(preset: str, samples: dict[str, int], keys: list[str]) -> dict[str, Any]:
    """Each measure over the ranges: ranking, and time for each parameter."""
    scenario, ranges = presets.get(preset), {key: RANGES[key] for key in keys}
    found = {}
    for method in METHODS:
        for run in ("first", "second"):  # the first compiles
            start = time.process_time()
            told = global_sensitivity(scenario, ranges, method=method, samples=samples[method])
            seconds = time.process_time() - start
            cost = seconds / len(ranges)
            print(
                f"{method}, {run} call: {told.evaluations} optima, {cost:.3f} s of CPU each index"
            )
        print(told, end="\n\n")
        found[method] = {**told.to_dict(), "cpu_seconds_per_index": cost}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smallest", action="store_true", help="four parameters, few samples")
    parser.add_argument("--preset", default="default", choices=presets.names())
    records.add_option(parser)
    arguments = parser.parse_args()
    small = arguments.smallest
    print(f"JAX {jax.__version__}, {jax.devices()[0].device_kind}")
    known = errors((256,) if small else (256, 1024, 4096, 16384))
    samples = {"sobol": 32 if small else 1024, "morris": 8 if small else 64, "derivative": 64}
    samples |= {} if small else {"derivative": 1024}
    told = study(arguments.preset, samples, list(RANGES)[: 4 if small else None])
    if arguments.record:
        results = {"known functions": known, arguments.preset: told}
        print(f"recorded in {records.write('global_sensitivity', results)}")


if __name__ == "__main__":
    main()
