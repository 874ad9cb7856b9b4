"""How often is the relaxed optimum certified? Gap and status over sampled scenarios, by K.

Usage: python benchmarks/relaxation.py [--smallest]
"""

from __future__ import annotations

import argparse
import time

import jax
import numpy as np

from jaxedge.planning.entry import plan_batch
from jaxedge.scenario.sampling import sample_batch
from jaxedge.scenario.stacking import unstack

SIZES = (1, 2, 5, 10, 50, 200)
TIGHTNESS = (0.0, 0.5, 0.9, 1.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smallest", action="store_true", help="240 scenarios instead of 10,000")
    per_case = 10 if parser.parse_args().smallest else 417
    print(f"JAX {jax.__version__}, {jax.devices()[0].device_kind}, gap asked for 1e-6")
    head = f"{'K':>4} {'scenarios':>9} {'optimal':>8} {'infeasible':>10} {'failed':>6}"
    print(f"{head} {'median gap':>10} {'largest gap':>11} {'seconds':>8}")
    totals = np.zeros(4, int)
    for count in SIZES:
        scenarios = [
            scenario
            for i, tightness in enumerate(TIGHTNESS)
            for scenario in unstack(
                sample_batch(jax.random.key(i), per_case, count, tightness=tightness)
            )
        ]
        start = time.perf_counter()
        plans = plan_batch(scenarios, relaxed=True)
        seconds = time.perf_counter() - start
        status = [str(p.status) for p in plans]
        gaps = [p.gap for p in plans if p.gap is not None]
        row = [status.count(s) for s in ("optimal", "infeasible", "failed")]
        totals += [len(plans), *row]
        print(
            f"{count:4d} {len(plans):9d} {row[0]:8d} {row[1]:10d} {row[2]:6d} "
            f"{np.median(gaps):10.1e} {max(gaps):11.1e} {seconds:8.1f}"
        )
    answered = 1 - totals[3] / totals[0]
    print(f"total {totals[0]}: {totals[3]} failed, {100 * answered:.3f} % answered with proof")


if __name__ == "__main__":
    main()
