"""How many certified relaxed optima a second? By K and batch size, compile time apart.

Usage: python benchmarks/throughput.py [--smallest]
"""

from __future__ import annotations

import argparse
import resource
import time

import jax
import numpy as np

from jaxedge.chunks import cores, in_chunks, take
from jaxedge.driver import FAST, RELAXED_GAP, begin, decompose, solve_relaxed
from jaxedge.formulation import two_stage_program
from jaxedge.program import Program
from jaxedge.sampling import sample_batch

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


def report(name: str, programs: Program, repeats: int, trials: int) -> None:
    first, _ = seconds(programs)
    runs = [seconds(programs, repeats) for _ in range(trials)]
    count, best = repeats * len(programs.gap), min(run[0] for run in runs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{name}: {count / best:.0f}/s, {count * programs.devices.work.shape[1] / best:.0f} "
        f"devices/s, {runs[0][1]:.3%} certified, first call {first:.2f} s, peak {peak:.0f} MiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smallest", action="store_true", help="K = 3 and small batches")
    smallest = parser.parse_args().smallest
    kinds = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    print(f"JAX {jax.__version__}, {kinds}, {cores()} cores, gap <= {RELAXED_GAP}")
    with jax.enable_x64(True):
        for devices, count in {3: 256}.items() if smallest else SIZES.items():
            report(f"K = {devices}", programs_of(count, devices), 1, 2)
        devices = 3 if smallest else 10
        programs = programs_of(256 if smallest else PART, devices)
        for size in BATCHES[:2] if smallest else BATCHES:
            part = take(programs, np.arange(min(size, PART)))
            report(f"K = {devices}, batch of {size}", part, max(size // PART, 1), 1)
        print("not certified after so many steps:")
        some = take(programs, np.arange(min(4096, len(programs.gap))))
        for steps in STEPS:
            answers, _ = in_chunks(decompose, some, begin(some, FAST, steps))
            print(f"  {steps}: {np.mean(answers.gap > RELAXED_GAP):.2%}")


if __name__ == "__main__":
    main()
