"""Does the bound hold where its constants are calibrated, and how tight is it?

Digits are shifted by several strengths. For each, the constants are calibrated, the default cell is
planned with them, and the plan is run from several seeds; what the bound speaks of, the average of
|grad F|^2 over all rounds weighted by learning rate, is measured and held against the bound at the
central constants, and at the pessimistic and optimistic ends of their intervals.

Usage: python benchmarks/calibration.py [--smallest] [--seeds 5] [--trial M N] [--worst] [--record]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import records

import jaxedge
from jaxedge.bounds.two_stage import two_stage_bound
from jaxedge.scenario.scenario import Scenario
from jaxedge.system.allocation import Allocation
from jaxedge.training.calibration.constants import calibrate
from jaxedge.training.calibration.path import Trial
from jaxedge.training.models.tasks import Task, TaskSpec, load_task
from jaxedge.training.runs.courses import course
from jaxedge.training.runs.runner import Row, train
from jaxedge.training.runs.segments import Settings

EVERY = 5


def average(rows: list[Row], scenario: Scenario, design: Allocation) -> float:
    """Mean |grad F|^2 before the rounds of each stage, weighted by learning rate."""
    first, second = int(design.pretraining_rounds), int(design.finetuning_rounds)
    total = weights = 0.0
    for start, end, rate in (
        (0, first, scenario.learning.server_learning_rate),
        (first, first + second, scenario.learning.device_learning_rate),
    ):
        norms = [row["gradient_norm_squared"] for row in rows if start <= row["round"] < end]
        if norms:
            total += float(rate) * (end - start) * float(np.mean(norms))
            weights += float(rate) * (end - start)
    return total / weights


def one(task: Task, seeds: int, trial: Trial, worst: bool, base: Scenario) -> dict[str, object]:
    began = time.perf_counter()
    found = calibrate(task, base, trial, worst=worst)
    took = time.perf_counter() - began
    design = jaxedge.plan(found.scenario).allocation
    assert design is not None
    rounds = course(found.scenario, design)
    measured = []
    for seed in range(seeds):
        settings = Settings(seed=seed, every=EVERY, gradient_norm=True)
        rows = train(task, found.scenario, rounds, settings).rows
        measured.append(average(rows, found.scenario, design))
    bounds = {
        name: float(two_stage_bound(scenario, design))
        for name, scenario in (
            ("optimistic", found.optimistic),
            ("central", found.scenario),
            ("pessimistic", found.pessimistic),
        )
    }
    return {
        "calibration_s": took,
        "rounds": rounds.rounds,
        "measured": measured,
        "bounds": bounds,
        "ratio": [value / bounds["central"] for value in measured],
        "constants": found.to_dict()["constants"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smallest", action="store_true", help="one strength, one seed, K = 3")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trial", type=int, nargs=2, default=(400, 400), metavar=("M", "N"))
    parser.add_argument("--worst", action="store_true", help="largest on the path, not its mean")
    parser.add_argument("--model", default="mlp")
    records.add_option(parser)
    given = parser.parse_args()
    strengths = (0.2,) if given.smallest else (0.0, 0.1, 0.2, 0.4, 0.8)
    seeds = 1 if given.smallest else given.seeds
    base = jaxedge.presets.get("small" if given.smallest else "default")
    model = "logistic" if given.smallest else given.model
    trial = Trial(pretraining_rounds=given.trial[0], finetuning_rounds=given.trial[1])
    results = {}
    print("strength       M       N  bound (optimistic, pessimistic)  measured  measured/bound")
    for strength in strengths:
        task = load_task(TaskSpec(model=model, strength=strength), np.size(base.devices.gain))
        found = results[str(strength)] = one(task, seeds, trial, given.worst, base)
        bounds, ratio = found["bounds"], found["ratio"]
        print(
            f"{strength:8.2f}  {found['rounds'][0]:6,}  {found['rounds'][1]:6,}  "
            f"{bounds['central']:.4f} ({bounds['optimistic']:.4f}, {bounds['pessimistic']:.4f})"
            f"         {np.mean(found['measured']):.4f}    "
            f"{np.mean(ratio):.3f} ({min(ratio):.3f}-{max(ratio):.3f}), {len(ratio)} seeds",
            flush=True,
        )
    if given.record:
        print(f"recorded in {records.write('calibration', results)}")


if __name__ == "__main__":
    main()
