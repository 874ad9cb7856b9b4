"""How fast are integer designs certified to 1e-3? jaxedge's beside SCIP's spatial branch and bound.

The same seeded scenarios; SCIP gets natural and logarithmic variables, two processes and a time
limit for each scenario. An answer counts where the solver proves a gap of 1e-3 and the referee
finds the design within the limits; SCIP's are allowed 1e-6 outside.

Usage: python benchmarks/integer_peers.py [--smallest] [--limit S] [--record]
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import jax
import numpy as np
import records
import referee
from peers import left_out, parameters
from peers.scip import GAP, VARIANTS, Found, solve_one

from jaxedge.machine import compilation_cache
from jaxedge.machine.chunks import cores
from jaxedge.machine.trees import take
from jaxedge.planning.entry import plan_batch
from jaxedge.scenario.sampling import sample_batch
from jaxedge.scenario.scenario import Scenario

SIZES = (2, 10)
TIGHTNESS = 0.5
PROCESSES = 2

Row = dict[str, Any]


def main() -> None:
    arguments = _arguments()
    print(f"JAX {jax.__version__}, {jax.devices()[0].device_kind}, {cores()} cores")
    rows: list[Row] = []
    scip = not (left_out("pyscipopt") or arguments.smallest)
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        for devices in SIZES[:1] if arguments.smallest else SIZES:
            scenarios = sample_batch(
                jax.random.key(3), arguments.count, devices, tightness=TIGHTNESS
            )
            row, certified = _ours(scenarios)
            rows.append(row)
            for variant in VARIANTS if scip else ():
                some = take(scenarios, np.arange(arguments.scip))
                rows.append(_scips(pool, some, variant, arguments.limit, certified))
            again, _ = _ours(scenarios)  # the faster of two, before and after
            row["seconds_each"] = min(row["seconds_each"], again["seconds_each"])
            row["rate"] = row["proven"] / row["seconds_each"]
    _print(rows)
    if arguments.record:
        print(f"recorded in {records.write('integer_peers', {'rows': rows})}")


def _ours(scenarios: Scenario) -> tuple[Row, np.ndarray]:
    """The row of jaxedge's designs, and their lower bounds (B,)."""
    start = time.perf_counter()
    answers = plan_batch(scenarios, gap=GAP)
    first = time.perf_counter() - start
    start = time.perf_counter()
    answers = plan_batch(scenarios, gap=GAP)
    each = (time.perf_counter() - start) / len(answers.bound)
    verdict = referee.judge(scenarios, answers.allocation, answers.lower_bound, integer=True)
    row = _row("jaxedge", scenarios, verdict, each, verdict.gap)
    return row | {"seconds_first": first - each * len(answers.bound)}, answers.lower_bound


def _scips(
    pool: ProcessPoolExecutor,
    scenarios: Scenario,
    variant: str,
    limit: float,
    certified: np.ndarray,
) -> Row:
    size = len(scenarios.energy_budget)
    jobs = [
        pool.submit(solve_one, parameters.scenario_at(scenarios, i), variant, limit)
        for i in range(size)
    ]
    found: list[Found] = [job.result() for job in jobs]
    designs = parameters.allocation(np.array([item.design for item in found]))
    verdict = referee.judge(scenarios, designs, certified[:size], integer=True)
    own = np.array([item.lower_bound for item in found])
    each = float(np.mean([item.seconds for item in found])) / PROCESSES
    with np.errstate(divide="ignore", invalid="ignore"):
        proven = np.where(own > 0, verdict.bound / own - 1, np.inf)
    row = _row(f"SCIP {variant}", scenarios, verdict, each, proven)
    return row | {"status": [item.status for item in found]}


def _row(
    name: str, scenarios: Scenario, verdict: referee.Verdict, each: float, proven: np.ndarray
) -> Row:
    share = float(np.mean(proven <= GAP * (1 + 1e-6)))
    return {
        "method": name,
        "devices": scenarios.devices.gain.shape[-1],
        "scenarios": len(proven),
        "seconds_each": each,
        "proven": share,
        "rate": share / each,
        "median_proven_gap": float(np.median(proven)),
        "median_gap": float(np.median(verdict.gap)),
        "no_answer": int(np.sum(np.isinf(verdict.bound))),
    }


def _print(rows: list[Row]) -> None:
    print(
        f"{'K':>3} {'method':<14} {'number':>6} {'no answer':>9} {'proven 1e-3':>11} "
        f"{'its own gap':>11} {'gap to ours':>11} {'ms each':>10} {'proven/s':>9}"
    )
    for row in rows:
        print(
            f"{row['devices']:3d} {row['method']:<14} {row['scenarios']:6d} {row['no_answer']:9d} "
            f"{row['proven']:11.1%} {row['median_proven_gap']:11.1e} {row['median_gap']:11.1e} "
            f"{row['seconds_each'] * 1e3:10.2f} {row['rate']:9.3g}"
        )
    for row in rows[1:]:
        if row["method"] != "jaxedge":
            ours = next(r for r in rows if r["devices"] == row["devices"])
            # Where SCIP proves nothing, one answer in all its time is the least that is ruled out.
            most = max(row["rate"], 1 / (row["scenarios"] * row["seconds_each"]))
            least = "" if row["rate"] else "more than "
            print(
                f"K = {row['devices']}: jaxedge certifies {least}{ours['rate'] / most:.3g} times "
                f"as many designs a second as {row['method']}"
            )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smallest", action="store_true", help="K = 2, 8 scenarios, no SCIP")
    parser.add_argument("--limit", type=float, default=30.0, help="seconds for SCIP's each")
    records.add_option(parser)
    arguments = parser.parse_args()
    if arguments.smallest:
        compilation_cache.hurry()
    arguments.count, arguments.scip = (8, 0) if arguments.smallest else (256, 2)
    return arguments


if __name__ == "__main__":
    main()
