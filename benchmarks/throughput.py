"""How many certified relaxed optima a second? By K and batch size, compile time apart.

Usage: python benchmarks/throughput.py [--smallest]
"""

from __future__ import annotations

import argparse
import time

import jax
import numpy as np

from jaxedge.formulation import two_stage_program
from jaxedge.program import Program
from jaxedge.sampling import sample_batch
from jaxedge.solve import FIRST_ATTEMPT, RELAXED_GAP, decompose, in_chunks, solve_relaxed, take

SIZES = (1, 3, 10, 50, 200, 1000)
BATCHES = (1, 32, 512, 4096, 32768)
STEPS = (12, 14, 16, 18, 20, 30)
TIGHTNESS = 0.5


def programs_of(count: int, devices: int) -> Program:
    drawn = sample_batch(jax.random.key(0), count, devices, tightness=TIGHTNESS)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(two_stage_program))(drawn))


def rate(programs: Program, trials: int) -> tuple[float, float, float]:
    """Scenarios a second (best trial), seconds of the first call, share certified."""
    start = time.perf_counter()
    relaxed = solve_relaxed(programs)
    first = time.perf_counter() - start
    times = []
    for _ in range(trials):
        start = time.perf_counter()
        relaxed = solve_relaxed(programs)
        times.append(time.perf_counter() - start)
    return len(relaxed.gap) / min(times), first, float(np.mean(relaxed.gap <= RELAXED_GAP))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smallest", action="store_true", help="K = 3 and small batches")
    smallest = parser.parse_args().smallest
    print(f"JAX {jax.__version__}, {jax.devices()[0].device_kind}, gap <= {RELAXED_GAP}")
    with jax.enable_x64(True):
        for devices in (3,) if smallest else SIZES:
            programs = programs_of(512 if smallest else 4096 if devices <= 200 else 512, devices)
            speed, first, share = rate(programs, 2)
            print(
                f"K = {devices}: {speed:.0f}/s, {speed * devices:.0f} devices/s, "
                f"{share:.2%} certified, first call {first:.1f} s"
            )
        devices = 3 if smallest else 10
        programs = programs_of(512 if smallest else max(BATCHES), devices)
        for size in BATCHES[:3] if smallest else BATCHES:
            speed, _, _ = rate(take(programs, np.arange(size)), 2)
            print(f"K = {devices}, batch of {size}: {speed:.0f}/s")
        print(f"not certified within so many steps (the first attempt takes {FIRST_ATTEMPT[1]}):")
        some = take(programs, np.arange(min(4096, len(programs.gap))))
        for steps in STEPS:
            gap = in_chunks(lambda p, n=steps: decompose(p, FIRST_ATTEMPT[0], n), some).gap
            print(f"  {steps}: {np.mean(gap > RELAXED_GAP):.2%}")


if __name__ == "__main__":
    main()
