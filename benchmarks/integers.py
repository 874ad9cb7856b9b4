"""How good are integer designs? Certified gaps over sampled scenarios, naive rounding beside them.

Usage: python benchmarks/integers.py [--smallest]
"""

from __future__ import annotations

import argparse
import time

import jax
import numpy as np

from jaxedge.planning.entry import plan_batch
from jaxedge.scenario.sampling import sample_batch
from jaxedge.scenario.stacking import unstack

DEVICES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smallest", action="store_true", help="32 scenarios instead of 1,000")
    parser.add_argument("--gap", type=float, help="close gaps to this by branch and bound")
    arguments = parser.parse_args()
    size = 32 if arguments.smallest else 1000
    scenarios = unstack(sample_batch(jax.random.key(0), size, DEVICES))
    print(f"JAX {jax.__version__}, {jax.devices()[0].device_kind}, K = {DEVICES}")
    for gap in (None, arguments.gap) if arguments.gap else (None,):
        start = time.perf_counter()
        plans = plan_batch(scenarios, gap=gap)
        seconds = time.perf_counter() - start
        _report(f"gap asked for: {gap or 'none'}", plans, scenarios, seconds)


def _report(title: str, plans: list, scenarios: list, seconds: float) -> None:
    solved = [(p, s) for p, s in zip(plans, scenarios, strict=True) if p.bound is not None]
    gaps = np.array([p.gap for p, _ in solved])
    over = max(
        max(p.energy / float(s.energy_budget), p.delay / float(s.delay_budget)) for p, s in solved
    )
    naive = [p.naive_rounding / p.bound - 1 for p, _ in solved if p.naive_rounding is not None]
    shares = ", ".join(f"{q} %: {np.percentile(gaps, q):.1e}" for q in (50, 90, 99, 100))
    print(f"{title}: {len(plans)} scenarios in {seconds:.1f} s (compile included)")
    print(f"  certified gap at {shares}")
    print(f"  gap <= 1e-2 on {np.mean(gaps <= 1e-2):.2%}, <= 1e-3 on {np.mean(gaps <= 1e-3):.2%}")
    print(f"  largest share of a budget used: 1 {over - 1:+.1e}")
    print(
        f"  naive rounding: {len(plans) - len(naive)} fail; the others are worse by "
        f"{np.median(naive):.2%} (median), {max(naive):.2%} (most)"
    )


if __name__ == "__main__":
    main()
