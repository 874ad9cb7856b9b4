"""How many certified relaxed optima a second? By K and batch size, compile time apart.

The times are of all cores together. Linear cost is devices/s that do not fall with K, flat memory a
peak that does not grow with the batch beyond its own arrays.

Usage: python benchmarks/throughput.py [--smallest] [--record]
"""

from __future__ import annotations

import argparse
import resource
import time
from typing import Any

import jax
import numpy as np
import records

from jaxedge.bounds.two_stage import two_stage_program
from jaxedge.machine.chunks import cores, in_chunks
from jaxedge.machine.trees import take
from jaxedge.program.program import Program
from jaxedge.relaxation.driver import FAST, begin, decompose, solve_relaxed
from jaxedge.relaxation.judge import RELAXED_GAP
from jaxedge.scenario.sampling import sample_batch

SIZES = {1: 16384, 3: 16384, 10: 16384, 50: 4096, 200: 512, 1000: 64}
"""K and scenarios."""
BATCHES = (1, 32, 512, 4096, 32768, 262144, 1_000_000)
PART = 1 << 15
"""Scenarios sampled at a time: a larger batch repeats them, part by part."""
STEPS = (8, 9, 10, 11, 12, 13, 16, 20)
TIGHTNESS = 0.5

_programs = jax.jit(jax.vmap(two_stage_program))


def programs_of(count: int, devices: int) -> Program:
    drawn = sample_batch(jax.random.key(0), count, devices, tightness=TIGHTNESS)
    return in_chunks(_programs, drawn)


def seconds(programs: Program, repeats: int = 1) -> tuple[float, float]:
    """Seconds of a solve of the programs, repeated part by part, and the share certified."""
    start, certified = time.perf_counter(), []
    for _ in range(repeats):
        certified.append(float(np.mean(solve_relaxed(programs).gap <= RELAXED_GAP)))
    return time.perf_counter() - start, float(np.mean(certified))


def report(name: str, programs: Program, repeats: int, trials: int) -> dict[str, Any]:
    """Measure, print and return one line."""
    first, _ = seconds(programs)
    runs = [seconds(programs, repeats) for _ in range(trials)]
    count, best = repeats * len(programs.gap), min(run[0] for run in runs)
    row = {
        "devices": programs.devices.work.shape[1],
        "scenarios": count,
        "rate": count / best,
        "certified": runs[0][1],
        "first_call_s": first,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(
        f"{name}: {row['rate']:.0f}/s, {row['rate'] * row['devices']:.0f} devices/s, "
        f"{row['certified']:.3%} certified, first call {first:.2f} s, "
        f"peak {row['peak_mib']:.0f} MiB",
        flush=True,
    )
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smallest", action="store_true", help="K = 3 and small batches")
    records.add_option(parser)
    arguments = parser.parse_args()
    smallest = arguments.smallest
    kinds = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    print(f"JAX {jax.__version__}, {kinds}, {cores()} cores, gap <= {RELAXED_GAP}")
    with jax.enable_x64(True):
        by_devices = [
            report(f"K = {devices}", programs_of(count, devices), 1, 2)
            for devices, count in ({3: 256} if smallest else SIZES).items()
        ]
        devices = 3 if smallest else 10
        programs = programs_of(256 if smallest else PART, devices)
        by_batch = []
        for size in BATCHES[:2] if smallest else BATCHES:
            part = take(programs, np.arange(min(size, PART)))
            name, repeats = f"K = {devices}, batch of {size}", max(size // PART, 1)
            by_batch.append(report(name, part, repeats, 1))
        print("not certified after so many steps:")
        some = take(programs, np.arange(min(4096, len(programs.gap))))
        missed = {}
        for steps in STEPS:
            answers, _ = in_chunks(decompose, some, begin(some, FAST, steps))
            missed[steps] = float(np.mean(answers.gap > RELAXED_GAP))
            print(f"  {steps}: {missed[steps]:.2%}")
    if arguments.record:
        content = {"by_devices": by_devices, "by_batch": by_batch, "missed_after_steps": missed}
        print(f"recorded in {records.write('throughput', content)}")


if __name__ == "__main__":
    main()
