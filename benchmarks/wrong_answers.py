"""Is any answer wrong? Sampled and extreme scenarios, every claim checked by other code.

A relaxed answer called optimal must keep every limit in original units, reach the bound it states,
be within 1e-6 of a lower bound that plain NumPy computes again, and no random feasible design may
be below the lower bound stated. Infeasible must be proven by weak duality, again in NumPy. Integer
designs are checked alike on a sample; some answers are compared with Ipopt from several starts.

Usage: python benchmarks/wrong_answers.py [--smallest] [--scenarios N] [--record]
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections import Counter
from typing import Any

import jax
import numpy as np
import records
import referee
import restatement
from extreme_scenarios import VARIANTS, extreme_batch
from peers import left_out

from jaxedge.answers.batch import Answers
from jaxedge.answers.status import Status
from jaxedge.machine import compilation_cache
from jaxedge.machine.chunks import in_chunks
from jaxedge.machine.trees import take
from jaxedge.planning.entry import plan_batch
from jaxedge.relaxation.driver import solve_relaxed
from jaxedge.relaxation.judge import RELAXED_GAP
from jaxedge.scenario import files
from jaxedge.scenario.scenario import Scenario
from jaxedge.system.allocation import Allocation, StageAllocation

SIZES = (1, 2, 5, 10, 20, 50)
CHUNK = 512
ROUNDING = 1e-9
RIVALS = 4
"""Random designs tried against each lower bound."""
BEYOND_IPOPT = 1e-5
"""Ipopt's own accuracy, by which it may be below an answer or above a lower bound."""

Wrong = dict[str, Any]


def main() -> None:
    arguments = _arguments()
    tally: Counter[str] = Counter()
    by_variant: dict[str, Counter[str]] = {name: Counter() for name in VARIANTS}
    wrong: list[Wrong] = []
    start = time.perf_counter()
    plan = _chunks(arguments)
    for number, (size, devices) in enumerate(plan):
        scenarios, names = extreme_batch(number, size, devices)
        answers = plan_batch(scenarios, relaxed=True)
        found = check_relaxed(scenarios, answers)
        for name, status in zip(names, answers.status, strict=True):
            by_variant[name][str(tuple(Status)[status])] += 1
        wrong += _told(found, scenarios, names, f"K = {devices}, chunk {number}")
        tally["relaxed"] += size
        if number % max(len(plan) // 10, 1) == 0:
            spent = time.perf_counter() - start
            print(f"{tally['relaxed']} scenarios, {len(wrong)} wrong, {spent:.0f} s", flush=True)
    for devices in () if arguments.smallest else (2, 10):
        scenarios, names = extreme_batch(10_000 + devices, arguments.integers, devices)
        found = check_integer(scenarios, plan_batch(scenarios))
        wrong += _told(found, scenarios, names, f"integers, K = {devices}")
        tally["integer"] += arguments.integers
    against = _against_ipopt(arguments, wrong)
    _report(tally, by_variant, wrong, against, time.perf_counter() - start)
    if arguments.record:
        results = {
            "scenarios": dict(tally),
            "against_ipopt": against,
            "wrong": wrong,
            "by_variant": {name: dict(count) for name, count in by_variant.items()},
        }
        print(f"recorded in {records.write('wrong_answers', results)}")
    if wrong:
        raise SystemExit(1)


def check_relaxed(scenarios: Scenario, answers: Answers) -> dict[int, str]:
    """Position -> what is wrong with the answer there."""
    wrong: dict[int, str] = {}
    optimal = np.flatnonzero(answers.is_(Status.OPTIMAL))
    if optimal.size:
        some, kept = take((scenarios, answers), optimal)
        certified = _certificates(some)
        problems = {
            "misses its own gap by the restated certificate": ~(
                kept.bound - certified <= (RELAXED_GAP + ROUNDING) * certified
            ),
            **_common_problems(some, kept, integer=False),
        }
        _note(wrong, optimal, problems)
    _check_infeasible(scenarios, answers, wrong)
    return wrong


def check_integer(scenarios: Scenario, answers: Answers) -> dict[int, str]:
    """Position -> what is wrong with the whole design there."""
    wrong: dict[int, str] = {}
    claimed = np.flatnonzero(answers.is_(Status.OPTIMAL) | answers.is_(Status.FEASIBLE))
    if claimed.size:
        some, kept = take((scenarios, answers), claimed)
        below = kept.bound < _certificates(some) * (1 - ROUNDING)
        problems = {"is better than any design can be": below}
        _note(wrong, claimed, problems | _common_problems(some, kept, integer=True))
    _check_infeasible(scenarios, answers, wrong)
    return wrong


def _common_problems(
    scenarios: Scenario, answers: Answers, *, integer: bool
) -> dict[str, np.ndarray]:
    verdict = referee.judge(scenarios, answers.allocation, answers.lower_bound, integer=integer)
    rivals = best_rival(scenarios, answers.allocation, integer=integer)
    return {
        "breaks a limit": ~(verdict.violation <= ROUNDING),
        "is disputed by the two computations": verdict.disputed,
        "states another bound": ~_same(answers.bound, verdict.bound, 1e-8),
        "states a lower bound above its bound": answers.lower_bound
        > answers.bound * (1 + ROUNDING),
        "states a lower bound above a random design": answers.lower_bound > rivals * (1 + ROUNDING),
        "states another energy or delay": ~_spends(scenarios, answers),
    }


def _check_infeasible(scenarios: Scenario, answers: Answers, wrong: dict[int, str]) -> None:
    claimed = np.flatnonzero(answers.is_(Status.INFEASIBLE))
    for steps in (0, 25, 50, 100):  # more care for what is not proven yet
        if not claimed.size:
            return
        some = take(scenarios, claimed)
        prices = np.zeros_like(some.devices.gain)
        if steps:
            prices = referee.prices_of_time(some, steps)
        claimed = claimed[~referee.proves_infeasible(some, prices)]
    _note(wrong, claimed, {"is not proven infeasible": np.ones(claimed.size, bool)})


def best_rival(scenarios: Scenario, near: Allocation, *, integer: bool) -> np.ndarray:
    """(B,) the least bound of random feasible designs around given ones, inf without any."""
    rng, best = np.random.default_rng(0), np.full(len(near.pretraining_rounds), np.inf)
    for _ in range(RIVALS):
        rival = _rival(scenarios, near, rng, whole=integer)
        with np.errstate(all="ignore"):
            bound = restatement.two_stage_bound(scenarios, rival)
            legal = restatement.violation(scenarios, rival, integer=integer) <= 0
        best = np.where(legal, np.minimum(best, bound), best)
    return best


def _rival(
    scenarios: Scenario, near: Allocation, rng: np.random.Generator, *, whole: bool
) -> Allocation:
    def moved(value: np.ndarray) -> np.ndarray:
        return value * np.exp(rng.choice([0.01, 0.3]) * rng.standard_normal(value.shape))

    def stage(part: Any, chosen: StageAllocation) -> StageAllocation:
        batch = np.clip(moved(chosen.batch), part.min_batch, part.max_batch)
        return StageAllocation(
            batch=np.round(batch) if whole else batch,
            clock=np.minimum(moved(chosen.clock), part.max_clock),
            power=np.minimum(moved(chosen.power), part.max_power),
        )

    rival = Allocation(
        pretraining_rounds=moved(near.pretraining_rounds),
        finetuning_rounds=moved(near.finetuning_rounds),
        server=stage(scenarios.server, near.server),
        devices=stage(scenarios.devices, near.devices),
    )
    energy, delay = restatement.energy_and_delay(scenarios, rival)
    used = np.max([energy / scenarios.energy_budget, delay / scenarios.delay_budget], axis=0)

    def fitted(rounds: np.ndarray, least: np.ndarray) -> np.ndarray:
        fitting = rounds / (used * (1 + 1e-12))
        return np.maximum(np.floor(fitting) if whole else fitting, least)

    return dataclasses.replace(
        rival,
        pretraining_rounds=fitted(rival.pretraining_rounds, scenarios.min_pretraining_rounds),
        finetuning_rounds=fitted(rival.finetuning_rounds, scenarios.min_finetuning_rounds),
    )


def _certificates(scenarios: Scenario) -> np.ndarray:
    """(B,) lower bounds at the dual decomposition's prices, computed by the restatement."""
    with jax.enable_x64(True):
        programs = in_chunks(referee.programs_of, scenarios)
        prices = solve_relaxed(programs).prices
    return referee.certificate(scenarios, programs, prices)


def _spends(scenarios: Scenario, answers: Answers) -> np.ndarray:
    energy, delay = restatement.energy_and_delay(scenarios, answers.allocation)
    return _same(energy, answers.energy, 1e-8) & _same(delay, answers.delay, 1e-8)


def _same(a: np.ndarray, b: np.ndarray, tolerance: float) -> np.ndarray:
    return np.abs(a - b) <= tolerance * np.abs(b)


def _note(wrong: dict[int, str], positions: np.ndarray, problems: dict[str, np.ndarray]) -> None:
    for text, where in problems.items():
        for position in positions[where]:
            wrong.setdefault(int(position), text)


def _told(found: dict[int, str], scenarios: Scenario, names: list[str], where: str) -> list[Wrong]:
    return [
        {
            "problem": text,
            "where": where,
            "variant": names[position],
            "scenario": files.dumps(jax.tree.map(lambda x, i=position: x[i], scenarios), "json"),
        }
        for position, text in found.items()
    ]


def _against_ipopt(arguments: argparse.Namespace, wrong: list[Wrong]) -> dict[str, int]:
    """How many answers Ipopt, from several starts, was asked about, and reached."""
    if left_out("casadi"):
        return {"asked": 0}
    from peers import ipopt

    counts: Counter[str] = Counter(asked=0)
    for devices in (2,) if arguments.smallest else (2, 10):
        size = arguments.ipopt // (1 if arguments.smallest else 2)
        scenarios, names = extreme_batch(20_000 + devices, size, devices)
        answers = plan_batch(scenarios, relaxed=True)
        optimal = np.flatnonzero(answers.is_(Status.OPTIMAL))
        some, kept = take((scenarios, answers), optimal)
        rivals = ipopt.best_of_starts(some, starts=3)
        bound = referee.judge(some, rivals, kept.lower_bound).bound
        found = {
            "is worse than Ipopt's": bound < kept.bound * (1 - BEYOND_IPOPT),
            "has a lower bound above Ipopt's design": bound < kept.lower_bound * (1 - BEYOND_IPOPT),
        }
        noted: dict[int, str] = {}
        _note(noted, optimal, found)
        wrong += _told(noted, scenarios, names, f"Ipopt, K = {devices}")
        counts["asked"] += int(optimal.size)
        counts["reached"] += int(np.sum(bound <= kept.bound * (1 + BEYOND_IPOPT)))
    return dict(counts)


def _chunks(arguments: argparse.Namespace) -> list[tuple[int, int]]:
    """(scenarios, K) of the chunks, the sizes in turn."""
    if arguments.smallest:
        return [(100, 2), (100, 2)]
    count = -(-arguments.scenarios // CHUNK)
    return [(CHUNK, SIZES[i % len(SIZES)]) for i in range(count)]


def _report(
    tally: Counter[str],
    by_variant: dict[str, Counter[str]],
    wrong: list[Wrong],
    against: dict[str, int],
    seconds: float,
) -> None:
    statuses = [str(status) for status in Status]
    print(f"{'variant':<16}" + "".join(f"{status:>12}" for status in statuses))
    for name, count in by_variant.items():
        print(f"{name:<16}" + "".join(f"{count[status]:12d}" for status in statuses))
    if against["asked"]:
        print(f"Ipopt reached the optimum on {against['reached']} of {against['asked']}")
    for item in wrong[:3]:
        print(f"WRONG ({item['where']}, {item['variant']}): {item['problem']}\n{item['scenario']}")
    for problem, count in Counter(item["problem"] for item in wrong).items():
        print(f"{count} answers: {problem}")
    checked = f"{tally['relaxed']} relaxed and {tally['integer']} integer"
    print(f"{len(wrong)} wrong of {checked} answers ({seconds:.0f} s)")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smallest", action="store_true", help="200 relaxed scenarios, K = 2")
    parser.add_argument("--scenarios", type=int, default=100_000)
    records.add_option(parser)
    arguments = parser.parse_args()
    if arguments.smallest:
        compilation_cache.hurry()  # read when JAX compiles first
    arguments.integers = 256
    arguments.ipopt = 8 if arguments.smallest else 400
    return arguments


if __name__ == "__main__":
    main()
