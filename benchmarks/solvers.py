"""How good and how fast is each solver of the relaxed problem? By number of devices and tightness.

The certified optimum is the dual decomposition's; every solver's design is held against it, and
certified by its own prices. Times are processor time in steady state, all threads together.

Usage: python benchmarks/solvers.py [--smallest] [--record]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import records

from jaxedge.bounds.two_stage import two_stage_program
from jaxedge.program.program import Program
from jaxedge.relaxation.by_augmented_lagrangian import find, settings_for_logs
from jaxedge.relaxation.driver import in_chunks, solve_relaxed
from jaxedge.relaxation.solvers import DUAL_DECOMPOSITION, SOLVERS
from jaxedge.scenario.sampling import sample_batch

BASELINE = "convex-approximation"
VARIANTS: dict[str, dict[str, Any]] = {
    "augmented-lagrangian, optax lbfgs": {"direction": "lbfgs"},
    "augmented-lagrangian, optax adam": {"direction": "adam"},
    "penalty, no multipliers": {"multipliers": False},
}
DEVICES = (1, 10, 50)
TIGHTNESS = (0.0, 0.5, 0.9)
COUNTS = {DUAL_DECOMPOSITION.name: 512, BASELINE: 4}
"""Scenarios of a case at K = 10; fewer where there are more devices."""
DEFAULT_COUNT = 256


def methods(smallest: bool) -> dict[str, Callable[[Program], tuple[Any, Any]]]:
    """From a batch of programs to (values, own certified gaps or None), by name."""

    def of(solver: str) -> Callable[[Program], tuple[Any, Any]]:
        def solved(programs: Program) -> tuple[Any, Any]:
            relaxed = solve_relaxed(programs, solver=solver)
            return relaxed.design.value, relaxed.gap

        return solved

    found = {solver: of(solver) for solver in ([*SOLVERS][:3] if smallest else SOLVERS)}
    if smallest:
        return found
    for name, changes in VARIANTS.items():
        found[name] = _uncertified(
            lambda p, c=changes: find(p, settings_for_logs(**c)).design.value
        )
    return found


def _uncertified(fn: Callable[[Program], Any]) -> Callable[[Program], tuple[Any, Any]]:
    """A method that leaves its certification to the optimum it is held against."""
    mapped = jax.jit(jax.vmap(fn))
    return lambda programs: (in_chunks(mapped, programs), None)


def programs_of(count: int, devices: int, tightness: float) -> Program:
    drawn = sample_batch(jax.random.key(1), count, devices, tightness=tightness)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(two_stage_program))(drawn))


def measure(method: Callable[[Program], tuple[Any, Any]], programs: Program) -> dict[str, Any]:
    """Shares, failures, median gap and times of a method on programs with a certified optimum."""
    start = time.process_time()
    method(programs)
    first = time.process_time() - start
    start = time.process_time()
    value, own = method(programs)
    steady = time.process_time() - start
    reference = solve_relaxed(programs)
    known = reference.gap <= DUAL_DECOMPOSITION.gap
    bound = np.asarray(reference.lower_bound)[known]
    away = np.asarray(value)[known] / bound - 1
    away = np.where(np.isfinite(away), away, np.inf)
    certified = away if own is None else np.asarray(own)[known]
    return {
        "scenarios": len(away),
        "not_certified_by_reference": int(np.sum(~known)),
        "within_1e-6": float(np.mean(away <= 1e-6)),
        "within_1e-4": float(np.mean(away <= 1e-4)),
        "certified_1e-6": None if own is None else float(np.mean(certified <= 1e-6)),
        "failed": int(np.sum(np.isinf(away))),
        "median_gap": float(np.median(away)),
        "largest_gap": float(np.max(away)),
        "cpu_us_per_scenario": steady / len(reference.gap) * 1e6,
        "compile_cpu_s": max(first - steady, 0.0),
    }


def _line(name: str, devices: int, tightness: float, row: dict[str, Any]) -> str:
    certified = row["certified_1e-6"]
    return (
        f"{name:34} {devices:4d} {tightness:9.1f} {row['scenarios']:9d} "
        f"{row['within_1e-6']:8.2%} {row['within_1e-4']:8.2%} "
        f"{'-' if certified is None else f'{certified:.2%}':>9} {row['failed']:6d} "
        f"{row['median_gap']:8.1e} {row['largest_gap']:8.1e} "
        f"{row['cpu_us_per_scenario']:10.0f} {row['compile_cpu_s']:7.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smallest", action="store_true", help="three solvers, K = 3, few cases")
    parser.add_argument("--only", help="a single method, by name")
    records.add_option(parser)
    arguments = parser.parse_args()
    smallest = arguments.smallest
    print(f"JAX {jax.__version__}, {jax.devices()[0].device_kind}")
    print(
        f"{'method':34} {'K':>4} {'tightness':>9} {'scenarios':>9} {'<= 1e-6':>8} {'<= 1e-4':>8} "
        f"{'certified':>9} {'failed':>6} {'median':>8} {'largest':>8} "
        f"{'CPU us each':>10} {'compile':>7}"
    )
    rows = []
    with jax.enable_x64(True):
        for name, method in methods(smallest).items():
            if arguments.only and name != arguments.only:
                continue
            rows += _of_method(name, method, smallest)
    if arguments.record:
        print(f"recorded in {records.write('solvers', {'rows': rows})}")


def _of_method(
    name: str, method: Callable[[Program], tuple[Any, Any]], smallest: bool
) -> list[dict[str, Any]]:
    rows = []
    for devices in (3,) if smallest else (10,) if name == BASELINE else DEVICES:
        for tightness in (0.5,) if smallest else TIGHTNESS:
            count = 8 if smallest else COUNTS.get(name, DEFAULT_COUNT) * 10 // max(10, devices)
            row = measure(method, programs_of(count, devices, tightness))
            print(_line(name, devices, tightness, row), flush=True)
            rows.append({"method": name, "devices": devices, "tightness": tightness} | row)
    return rows


if __name__ == "__main__":
    main()
