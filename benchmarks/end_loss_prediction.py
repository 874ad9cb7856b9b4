"""Does a pilot's spectrum rank and predict designs that it has not seen?

Digits are turned by several angles. For each a pilot of six short legs gives the spectrum; designs
drawn at random, rounds of either stage up to twice the pilot's longest leg and any batches, are
trained from seeds of their own, and the devices' training loss F at their end is held against the
prediction: Spearman's correlation, for all designs and for the half that is predicted to be better,
relative errors, the share of single runs within the intervals of 95 %, and what the pilot spent.

Usage: python benchmarks/end_loss_prediction.py [--smallest] [--model logistic] [--rate 0.05]
       [--rounds 400] [--designs 153] [--seeds 2] [--strengths 0 0.2 0.6] [--record]
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from typing import Any

import numpy as np
import records
from scipy import stats

import jaxedge
from jaxedge.machine import compilation_cache
from jaxedge.scenario.scenario import Scenario
from jaxedge.scenario.validation import validate
from jaxedge.system.allocation import Allocation, StageAllocation
from jaxedge.training.calibration.observations import Designs
from jaxedge.training.calibration.pilot import PilotPlan
from jaxedge.training.calibration.prediction import Predicted
from jaxedge.training.calibration.spectrum import calibrate_spectrum
from jaxedge.training.models.tasks import Task, TaskSpec, load_task
from jaxedge.training.runs.many import train_many

NEVER = 0.1
"""Share of designs without pre-training, and of those without fine-tuning."""


def base(rate: float) -> Scenario:
    preset = jaxedge.presets.get("default")
    learning = dataclasses.replace(
        preset.learning, server_learning_rate=rate, device_learning_rate=rate
    )
    return validate(dataclasses.replace(preset, learning=learning))


def drawn_designs(
    count: int, most: int, batches: tuple[int, int], devices: int, rng: np.random.Generator
) -> Designs:
    """Rounds and batches log-uniform, the devices' batches around a mean of their own."""

    def uniform(low: float, high: float) -> np.ndarray:
        return np.floor(np.exp(rng.uniform(np.log(low), np.log(high), count)))

    first, second = uniform(most / 100, most), uniform(most / 100, most)
    kind = rng.random(count)
    mean = np.exp(rng.uniform(0, np.log(12), count))
    each = mean[:, None] * np.exp(0.3 * rng.normal(size=(count, devices)))
    return Designs(
        pretraining_rounds=np.where(kind < NEVER, 0, first),
        finetuning_rounds=np.where(kind > 1 - NEVER, 0, second),
        server_batch=uniform(1, batches[0] + 1),
        device_batch=np.clip(np.round(each), 1, batches[1]),
    )


def allocations(scenario: Scenario, designs: Designs) -> list[Allocation]:
    """The designs at full clocks and powers, which training does not feel."""
    server, devices = scenario.server, scenario.devices
    return [
        Allocation(
            pretraining_rounds=first,
            finetuning_rounds=second,
            server=StageAllocation(batch=own, clock=server.max_clock, power=server.max_power),
            devices=StageAllocation(batch=theirs, clock=devices.max_clock, power=devices.max_power),
        )
        for first, second, own, theirs in zip(
            designs.pretraining_rounds,
            designs.finetuning_rounds,
            designs.server_batch,
            designs.device_batch,
            strict=True,
        )
    ]


def held_against(told: Predicted, trained: np.ndarray) -> dict[str, Any]:
    """Ranks, errors and coverage; trained is (P, S)."""
    mean, half = trained.mean(axis=1), told.loss <= np.median(told.loss)
    error = np.abs(told.loss / mean - 1)
    within = (told.low[:, None] <= trained) & (trained <= told.high[:, None])
    return {
        "designs": len(mean),
        "extrapolated": int(told.extrapolated.sum()),
        "spearman": stats.spearmanr(told.loss, mean).statistic,
        "spearman_better_half": stats.spearmanr(told.loss[half], mean[half]).statistic,
        "median_error": float(np.median(error)),
        "error_90": float(np.quantile(error, 0.9)),
        "bias": float(np.median(told.loss / mean - 1)),
        "within_interval": float(within.mean()),
        "interval_width": float(np.median((told.high - told.low) / told.loss)),
        "seed_spread": float(np.median(trained.std(axis=1, ddof=1) / mean)),
    }


def at_strength(task: Task, given: Any) -> dict[str, Any]:
    scenario, start = base(given.rate), time.perf_counter()
    found = calibrate_spectrum(task, scenario, PilotPlan(rounds=given.rounds))
    seconds = time.perf_counter() - start
    designs = drawn_designs(
        given.designs, 2 * given.rounds, given.batches, len(task.sizes), np.random.default_rng(7)
    )
    free = dataclasses.replace(scenario, min_pretraining_rounds=0, min_finetuning_rounds=0)
    seeds = range(100, 100 + given.seeds)
    runs = train_many(task, free, allocations(free, designs), seeds, every=400)
    pilot = {name: value for name, value in found.to_dict().items() if name != "legs"}
    return {
        "pilot": {**pilot, "wall_seconds": seconds},
        **held_against(found.forecast(designs), runs.training_loss),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smallest", action="store_true", help="one shift, in under a minute")
    parser.add_argument("--model", default="logistic")
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--rounds", type=int, default=400, help="of the pilot's longest legs")
    parser.add_argument("--designs", type=int, default=153)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.0, 0.2, 0.6])
    records.add_option(parser)
    given = parser.parse_args()
    given.batches = (64, 24)
    if given.smallest:
        given.rounds, given.designs, given.strengths, given.batches = 60, 8, [0.2], (16, 1)
    compilation_cache.enable()
    results = {}
    for strength in given.strengths:
        task = load_task(TaskSpec(model=given.model, strength=strength), 10)
        told = results[str(strength)] = at_strength(task, given)
        print(
            f"{given.model}, {90 * strength:g} degrees: rank correlation {told['spearman']:.4f}, "
            f"better half {told['spearman_better_half']:.4f}; error {told['median_error']:.2%}, "
            f"at the 90th percentile {told['error_90']:.2%}; within the interval "
            f"{told['within_interval']:.1%}; pilot {told['pilot']['energy']:.0f} J, "
            f"{told['pilot']['delay']:.0f} s, fitted within {told['pilot']['error']:.2%}",
            flush=True,
        )
    if given.record:
        print(f"recorded in {records.write('end_loss_prediction', {**vars(given), **results})}")


if __name__ == "__main__":
    main()
