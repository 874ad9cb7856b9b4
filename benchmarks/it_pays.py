"""Does the joint design pay in training, and do the bounds rank designs as training does?

Digits are turned by several angles. For each the constants are calibrated, and the joint design of
either bound and all benchmark schemes are planned at several budgets, equal for all, and trained
from several seeds. For the ranking, random designs that spend the middle budget (any split of the
budgets between the stages, any batches) are trained, too; Spearman's correlation between what a
bound promises and what training gives has a bootstrap interval of 95 % over the designs. It is told
for all random designs, for the half that the bound prefers, and for the two-stage bound with what
its proof leaves out: a step of pre-training lowers F by (eta0/2) (1 - L eta0) |grad F0|^2 more, and
one of fine-tuning by (eta/2) (1 - L eta) |grad F|^2. Kept, they make

    [2 Delta + M (eta0 d' + L eta0^2 s0/b0) + N L eta^2 sum w_k^2 s_k/b_k]
        / [M eta0 + N eta (2 - L eta)]

a bound on the average with the weights of its denominator, where d' is the mean over pre-training
of |grad F - grad F0|^2 - (1 - L eta0) |grad F0|^2, measured along the calibration's trial run.

Usage: python benchmarks/it_pays.py [--smallest] [--model logistic] [--rate 0.05] [--seeds 10]
       [--designs 64] [--figures FOLDER] [--record]
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import records
from scipy import stats

import jaxedge
from jaxedge.bounds.registry import BOUNDS
from jaxedge.bounds.two_stage import two_stage_bound
from jaxedge.machine import compilation_cache
from jaxedge.planning.schemes import JOINT
from jaxedge.report.figure_style import BLUE, GREY, VERMILION, new_figure, save, styled
from jaxedge.scenario.scenario import Scenario
from jaxedge.system.allocation import Allocation
from jaxedge.training.calibration.constants import Calibration, calibrate
from jaxedge.training.calibration.path import Trial, path
from jaxedge.training.models.tasks import Task, TaskSpec, load_task
from jaxedge.training.rounds.measuring import squared_norm, task_gradient
from jaxedge.training.runs.ledgers import ledger
from jaxedge.training.runs.many import Runs, train_many

SHARES = (0.005, 0.02, 0.08)
"""Of the default preset's budgets, 1000 J and 300 s."""
STRENGTHS = (0.0, 0.2, 0.6)
OUTCOMES = ("two_stage_average", "finetuning_average", "gradient_norm_squared", "loss", "accuracy")
BOOTSTRAPS = 2000


AVERAGES = ("two-stage", "fine-tuning")
"""The bounds that are compared with what training gives."""


def tasks_of(strengths: tuple[float, ...], model: str, devices: int) -> dict[float, Task]:
    """One model and one cut of the data; the shift alone differs, so programs are shared."""
    found = {s: load_task(TaskSpec(model=model, strength=s), devices) for s in strengths}
    first = next(iter(found.values()))
    return {
        s: dataclasses.replace(first, devices=task.devices, test=task.test)
        for s, task in found.items()
    }


def base(share: float, rate: float) -> Scenario:
    preset = jaxedge.presets.get("default")
    learning = dataclasses.replace(
        preset.learning, server_learning_rate=rate, device_learning_rate=rate
    )
    return dataclasses.replace(
        preset,
        learning=learning,
        energy_budget=share * float(preset.energy_budget),
        delay_budget=share * float(preset.delay_budget),
    )


def with_budgets(scenario: Scenario, share: float) -> Scenario:
    preset = jaxedge.presets.get("default")
    return dataclasses.replace(
        scenario,
        energy_budget=share * float(preset.energy_budget),
        delay_budget=share * float(preset.delay_budget),
    )


def planned(scenario: Scenario, net: float) -> dict[str, Allocation]:
    """The joint designs of both bounds and the benchmark schemes of the two-stage bound.

    Both joint designs are planned with d' for the discrepancy, too, as far as it is not negative.
    """
    learning = dataclasses.replace(scenario.learning, discrepancy=max(net, 1e-9))
    less = dataclasses.replace(scenario, learning=learning)
    answer = jaxedge.plan(scenario, schemes=True)
    plans = {
        JOINT: answer,
        "joint, net discrepancy": jaxedge.plan(less),
        "fine-tuning bound": jaxedge.plan(scenario, bound="fine-tuning"),
        "same, net discrepancy": jaxedge.plan(less, bound="fine-tuning"),
        **answer.schemes,
    }
    return {name: plan.allocation for name, plan in plans.items() if plan.allocation is not None}


def rounded(design: Allocation, first: int, second: int) -> Allocation:
    return dataclasses.replace(design, pretraining_rounds=first, finetuning_rounds=second)


def random_designs(
    scenario: Scenario, like: Allocation, count: int, rng: np.random.Generator
) -> list[Allocation]:
    """Any split of the budgets and any batches at the joint design's clocks and powers."""
    budgets = np.array([scenario.energy_budget, scenario.delay_budget])
    kept: list[Allocation] = []
    while len(kept) < count:
        server = int(np.exp(rng.uniform(0, np.log(128))))
        mean = np.exp(rng.uniform(0, np.log(16)))
        devices = np.clip(mean * np.exp(0.3 * rng.normal(size=np.size(like.devices.batch))), 1, 48)
        design = dataclasses.replace(
            like,
            server=dataclasses.replace(like.server, batch=server),
            devices=dataclasses.replace(like.devices, batch=devices.astype(int)),
        )
        one = np.array([ledger(scenario, rounded(design, *n)).spent for n in ((1, 0), (0, 1))])
        share = np.array([[s := rng.choice([0.0, rng.random(), 1.0], p=[0.1, 0.8, 0.1])], [1 - s]])
        first, second = np.floor((share * budgets / one).min(axis=1)).astype(int).tolist()
        if first + second >= 1:
            kept.append(rounded(design, first, second))
    return kept


def interval(values: np.ndarray) -> list[float]:
    """Mean of seeds and the half width of its interval of 95 % by Student's t."""
    error = values.std(ddof=1) / np.sqrt(len(values))
    return [float(values.mean()), float(stats.t.ppf(0.975, len(values) - 1) * error)]


def bounds_of(scenario: Scenario, designs: list[Allocation]) -> dict[str, np.ndarray]:
    with jax.enable_x64(True):
        return {
            name: np.array([float(BOUNDS[name].value(scenario, design)) for design in designs])
            for name in AVERAGES
        }


def compared(names: list[str], runs: Runs, bounds: dict[str, np.ndarray], rows: slice) -> Any:
    """What each scheme has come to, and its difference to the joint design seed by seed."""
    told = {}
    for place, name in enumerate(names):
        found = {key: getattr(runs, key)[rows][place] for key in OUTCOMES}
        joint = {key: getattr(runs, key)[rows][0] for key in OUTCOMES}
        told[name] = {
            "bounds": {key: value[rows][place] for key, value in bounds.items()},
            **{key: interval(value) for key, value in found.items()},
            "joint_minus_this": {key: interval(joint[key] - found[key]) for key in OUTCOMES},
        }
    return told


def spearman(promised: np.ndarray, given: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    """Rank correlation over designs with a bootstrap interval of 95 %."""
    some = np.isfinite(promised) & np.isfinite(given)
    x, y = promised[some], given[some]
    draws = rng.integers(len(x), size=(BOOTSTRAPS, len(x)))
    found = [stats.spearmanr(x[d], y[d]).statistic for d in draws]
    low, high = np.nanquantile(found, [0.025, 0.975])
    value = stats.spearmanr(x, y).statistic
    return {"designs": len(x), "value": value, "low": low, "high": high}


def net_discrepancy(task: Task, scenario: Scenario, trial: Trial) -> float:
    """The mean over points of pre-training of |grad F - grad F0|^2 - (1 - L eta0) |grad F0|^2."""
    learning = scenario.learning
    share = jnp.asarray(learning.device_weight, jnp.float32)
    found = []
    for point in itertools.islice(path(task, scenario, trial), trial.intervals + 1):
        own = task_gradient(task.loss, point.weights, task.device_samples, share)
        general = task_gradient(task.loss, point.weights, task.server_samples, jnp.ones(1))
        apart = jax.tree.map(jnp.subtract, own, general)
        kept = 1 - float(learning.smoothness * learning.server_learning_rate)
        found.append(float(squared_norm(apart)) - kept * float(squared_norm(general)))
    return float(np.mean(found))


def with_kept_terms(scenario: Scenario, designs: list[Allocation], net: float) -> np.ndarray:
    """The two-stage bound with what its proof leaves out."""
    learning = dataclasses.replace(scenario.learning, discrepancy=net)
    step = float(learning.smoothness * learning.device_learning_rate)
    found = []
    for design in designs:
        plain = two_stage_bound(dataclasses.replace(scenario, learning=learning), design)
        rates = np.array([learning.server_learning_rate, learning.device_learning_rate], float)
        first, second = rates * [design.pretraining_rounds, design.finetuning_rounds]
        found.append(float(plain) * (first + second) / (first + (2 - step) * second))
    return np.array(found)


def ranked(
    calibration: Calibration, designs: list[Allocation], runs: Runs, net: float
) -> dict[str, Any]:
    """Of both bounds at the central constants, and at both ends of their intervals."""
    rng = np.random.default_rng(0)
    given = {
        outcome: getattr(runs, outcome).mean(axis=1) * (-1 if outcome == "accuracy" else 1)
        for outcome in OUTCOMES
    }

    def against(promised: np.ndarray, some: np.ndarray | slice = slice(None)) -> dict[str, Any]:
        return {name: spearman(promised[some], x[some], rng) for name, x in given.items()}

    ends = {
        "central": calibration.scenario,
        "optimistic": calibration.optimistic,
        "pessimistic": calibration.pessimistic,
    }
    told: dict[str, Any] = {end: {} for end in (*ends, "better half", "kept terms")}
    for end, scenario in ends.items():
        for bound, promised in bounds_of(scenario, designs).items():
            told[end][bound] = against(promised)
            if end == "central":
                half = np.flatnonzero(promised <= np.median(promised))
                told["better half"][bound] = against(promised, half)
    promised = with_kept_terms(calibration.scenario, designs, net)
    half = np.flatnonzero(promised <= np.median(promised))
    told["kept terms"] = {"two-stage": against(promised), "better half": against(promised, half)}
    return told


def at_strength(task: Task, given: Any, shares: tuple[float, ...], seeds: int) -> dict[str, Any]:
    trial = Trial() if not given.smallest else Trial(pretraining_rounds=40, finetuning_rounds=40)
    calibration = calibrate(task, base(1.0, given.rate), trial)
    scenario = calibration.scenario
    net = net_discrepancy(task, scenario, trial)
    plans = {share: planned(with_budgets(scenario, share), net) for share in shares}
    designs = [design for plan in plans.values() for design in plan.values()]
    middle = shares[len(shares) // 2]
    others = random_designs(
        with_budgets(scenario, middle),
        plans[middle][JOINT],
        given.designs,
        np.random.default_rng(1),
    )
    runs = train_many(task, scenario, [*designs, *others], range(seeds), every=given.every)
    bounds = bounds_of(scenario, [*designs, *others])
    told: dict[str, Any] = {"constants": calibration.to_dict()["constants"], "budgets": {}}
    first = 0
    for share, plan in plans.items():
        rows = slice(first, first + len(plan))
        told["budgets"][str(share)] = compared(list(plan), runs, bounds, rows)
        for name, design in plan.items():
            told["budgets"][str(share)][name]["rounds"] = [
                int(design.pretraining_rounds),
                int(design.finetuning_rounds),
            ]
        first += len(plan)
    drawn = dataclasses.replace(
        runs, **{key: getattr(runs, key)[first:] for key in OUTCOMES}, curves=[]
    )
    told["net_discrepancy"] = net
    told["ranking"] = ranked(calibration, others, drawn, net)
    told["random_designs"] = {
        "rounds": [[d.pretraining_rounds, d.finetuning_rounds] for d in others],
        "server_batch": [d.server.batch for d in others],
        "mean_device_batch": [float(np.mean(d.devices.batch)) for d in others],
        "bounds": {name: value[first:] for name, value in bounds.items()},
        **{key: getattr(drawn, key).mean(axis=1) for key in OUTCOMES},
    }
    return told


def show(strength: float, told: dict[str, Any]) -> None:
    for share, plans in told["budgets"].items():
        print(f"\nstrength {strength}, {float(share):.0%} of 1000 J and 300 s")
        print(
            "  design                          M       N   bound  average  loss           accuracy"
        )
        for name, found in plans.items():
            (loss, dl), (right, dr) = found["loss"], found["accuracy"]
            first, second = found["rounds"]
            print(
                f"  {name:25} {first:7,} {second:7,} {found['bounds']['two-stage']:7.4f} "
                f"{found['two_stage_average'][0]:7.4f}  {loss:.3f} +- {dl:.3f} "
                f" {right:.1%} +- {dr:.1%}"
            )
    for end, bounds in told["ranking"].items():
        for bound, outcomes in bounds.items():
            cells = "  ".join(
                f"{name} {c['value']:.2f} ({c['low']:.2f}, {c['high']:.2f})"
                for name, c in outcomes.items()
            )
            print(f"  ranking, {end:11} {bound:11}: {cells}", flush=True)


def page_tables(results: dict[str, Any]) -> list[str]:
    """The rows of the tables of docs/it_pays.md."""
    rows = []
    for strength, told in results.items():
        for share, plans in told["budgets"].items():
            for name, found in plans.items():
                (loss, dl), (right, dr) = found["loss"], found["accuracy"]
                first, second = found["rounds"]
                rows.append(
                    f"| {strength} | {1000 * float(share):g} J | {name} | {first:,}, {second:,} "
                    f"| {found['bounds']['two-stage']:.3f} | {found['two_stage_average'][0]:.3f} "
                    f"| {loss:.3f} ± {dl:.3f} | {100 * right:.1f} ± {100 * dr:.1f} |"
                )
    shown = {
        "two-stage": ("central", "two-stage", "two_stage_average"),
        "two-stage, better half": ("better half", "two-stage", "two_stage_average"),
        "two-stage, kept terms": ("kept terms", "two-stage", "two_stage_average"),
        "fine-tuning": ("central", "fine-tuning", "finetuning_average"),
        "fine-tuning, better half": ("better half", "fine-tuning", "finetuning_average"),
    }
    for strength, told in results.items():
        for label, (end, bound, own) in shown.items():
            found = told["ranking"][end][bound]
            cells = [found[outcome] for outcome in (own, "loss", "accuracy")]
            text = " | ".join(f"{c['value']:.2f} ({c['low']:.2f}, {c['high']:.2f})" for c in cells)
            rows.append(f"| {strength} | {label} | {text} |")
    return rows


def draw(results: dict[str, Any], folder: str) -> None:
    """Promised against measured of the random designs, and what each scheme loses."""
    with styled():
        figure = new_figure(3.6, 7.0)
        rows = figure.subplots(2, len(results), squeeze=False, sharex="col")
        for (above, below), (strength, told) in zip(rows.T, results.items(), strict=True):
            drawn = told["random_designs"]
            for bound, outcome, colour in (
                ("two-stage", "two_stage_average", BLUE),
                ("fine-tuning", "finetuning_average", VERMILION),
            ):
                promised = drawn["bounds"][bound]
                above.loglog(promised, drawn[outcome], ".", color=colour, ms=3, label=bound)
                below.semilogx(promised, drawn["loss"], ".", color=colour, ms=3)
            above.axline((1, 1), (2, 2), color=GREY, lw=0.8)
            above.set_title(f"shift of strength {strength}")
            below.set_xlabel("bound")
        rows[0, 0].set_ylabel("measured average of $\\|\\nabla F\\|^2$")
        rows[1, 0].set_ylabel("final test loss")
        rows[0, 0].legend(frameon=False)
        save(figure, f"{folder}/it_pays_ranking.png")
        figure = new_figure(3.0, 7.0)
        axes = figure.subplots(1, len(results), squeeze=False, sharey=True)[0]
        for axis, (strength, told) in zip(axes, results.items(), strict=True):
            share = list(told["budgets"])[len(told["budgets"]) // 2]
            plans = told["budgets"][share]
            for place, found in enumerate(plans.values()):
                mean, half = (100 * x for x in found["accuracy"])
                colour = BLUE if place < 4 else GREY
                axis.errorbar(mean, place, xerr=half, fmt="o", color=colour, ms=3, capsize=2)
            axis.set_yticks(range(len(plans)), list(plans))
            axis.set_title(f"shift of strength {strength}")
            axis.set_xlabel("test accuracy (%)")
        axes[0].invert_yaxis()
        save(figure, f"{folder}/it_pays_accuracy.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smallest", action="store_true", help="one shift, one budget, 2 seeds")
    parser.add_argument("--model", default="logistic")
    parser.add_argument("--rate", type=float, default=0.05, help="learning rate of both stages")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--designs", type=int, default=64, help="random ones for the ranking")
    parser.add_argument("--every", type=int, default=20, help="rounds between two measurements")
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES, help="of the budgets")
    parser.add_argument("--figures", metavar="FOLDER", help="draw there")
    records.add_option(parser)
    given = parser.parse_args()
    compilation_cache.enable()
    strengths, shares, seeds = STRENGTHS, tuple(given.shares), given.seeds
    if given.smallest:
        strengths, shares, seeds, given.designs = STRENGTHS[1:2], (0.005,), 2, 8
    results = {}
    for strength, task in tasks_of(strengths, given.model, 10).items():
        began = time.perf_counter()
        results[str(strength)] = told = at_strength(task, given, shares, seeds)
        show(strength, told)
        print(f"{time.perf_counter() - began:.0f} s", flush=True)
    if given.figures:
        draw(results, given.figures)
    if given.record:
        results = {"seeds": seeds, "model": given.model, "rate": given.rate, "strengths": results}
        name = "it_pays" if given.model == "logistic" else f"it_pays_{given.model}"
        print(f"recorded in {records.write(name, results)}")


if __name__ == "__main__":
    main()
