"""The phase diagram of when pre-training pays, and the closed-form threshold over it."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxedge.planning.entry import plan_batch
from jaxedge.planning.schemes import FINETUNING_ONLY
from jaxedge.scenario.scenario import Scenario
from jaxedge.scenario.validation import validate_batch
from jaxedge.study import setting
from jaxedge.study.sizes import Size
from jaxedge.study.table import Table
from jaxedge.study.threshold import discrepancy_threshold
from jaxedge.words.progress import Progress

DISCREPANCY, DELAY = (0.02, 2.0), (8.0, 125.0)
"""Ends of the axes, the latter in s."""
ENERGIES = (setting.ENERGY / 4, setting.ENERGY, 4 * setting.ENERGY)
"""J, for each of which the threshold is drawn; the diagram is that of the middle one."""
REGIONS = ("pre-training only", "both stages", "fine-tuning only")
_SHARE = 1e-3
"""Of all rounds, that a stage of a relaxed design must have beyond its least to count as run."""


def compute(constants: Table, size: Size, progress: Progress) -> Table:
    """Regions of the relaxed optimum over discrepancy and delay, and thresholds along the delay.

    Returns:
        Rows of three kinds. "design": optimal rounds at a discrepancy, delay and energy;
        "threshold": the closed form at a delay and energy; "switch": the discrepancy up to which
        the optimiser itself runs pre-training there, by bisection.
    """
    base = dataclasses.replace(
        setting.scenario(constants), min_pretraining_rounds=0, min_finetuning_rounds=1
    )
    d2 = np.geomspace(*DISCREPANCY, size.grid)
    delay = np.geomspace(*DELAY, size.grid)
    progress("drawing phases", None)
    across, up = (x.ravel() for x in np.meshgrid(d2, delay))
    rounds = _rounds(stacked(base, across, up, np.full_like(across, ENERGIES[1])))
    rows = [
        _row("design", across[i], up[i], ENERGIES[1], *(each[i] for each in rounds))
        for i in range(len(across))
    ]
    for energy in ENERGIES:
        at = stacked(base, np.full_like(delay, 1.0), delay, np.full_like(delay, energy))
        found = thresholds(at)
        rows += [_row("threshold", found[i], delay[i], energy) for i in range(len(delay))]
    few = delay[:: max(size.grid // 6, 1)]
    found = switches(base, few, ENERGIES[1])
    rows += [_row("switch", found[i], few[i], ENERGIES[1]) for i in range(len(few))]
    return Table.of(rows)


def _row(kind: str, d2: float, delay: float, energy: float, *rounds: float) -> dict[str, object]:
    m, n = rounds or (np.nan, np.nan)
    return {
        "kind": kind,
        "discrepancy": d2,
        "delay_s": delay,
        "energy_J": energy,
        "pretraining_rounds": m,
        "finetuning_rounds": n,
    }


def stacked(base: Scenario, d2: np.ndarray, delay: np.ndarray, energy: np.ndarray) -> Scenario:
    """The scenario at many discrepancies and budgets."""
    return validate_batch(
        dataclasses.replace(
            base,
            learning=dataclasses.replace(base.learning, discrepancy=d2),
            delay_budget=delay,
            energy_budget=energy,
        )
    )


def thresholds(scenarios: Scenario) -> np.ndarray:
    """The closed form at stacked scenarios, whose own discrepancy does not matter."""
    answers = plan_batch(scenarios, relaxed=True, schemes=[FINETUNING_ONLY])[FINETUNING_ONLY]
    return discrepancy_threshold(scenarios, answers)


def switches(base: Scenario, delay: np.ndarray, energy: float, steps: int = 20) -> np.ndarray:
    """The largest discrepancy at which the optimiser runs pre-training, by bisection (n,)."""
    low, high = (np.full(len(delay), np.log(end)) for end in (1e-4, 1e2))
    for _ in range(steps):
        middle = (low + high) / 2
        at = stacked(base, np.exp(middle), delay, np.full_like(delay, energy))
        runs = _codes(*_rounds(at)) < REGIONS.index("fine-tuning only")
        low, high = np.where(runs, middle, low), np.where(runs, high, middle)
    return np.asarray(np.exp(low))


def _rounds(scenarios: Scenario) -> tuple[np.ndarray, np.ndarray]:
    """M and N of the relaxed optimum."""
    found = plan_batch(scenarios, relaxed=True).allocation
    return np.asarray(found.pretraining_rounds), np.asarray(found.finetuning_rounds)


def regions(table: Table) -> np.ndarray:
    """Positions in `REGIONS` of the designs, (delay, discrepancy)."""
    designs = table.where(kind="design")
    m, n = (
        designs.grouped(name, "delay_s", "discrepancy")[..., 0]
        for name in ("pretraining_rounds", "finetuning_rounds")
    )
    return _codes(m, n)


def _codes(m: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Positions in `REGIONS`; the least rounds are 0 and 1."""
    enough = _SHARE * (m + n)
    return np.where(n - 1 <= enough, 0, np.where(m <= enough, 2, 1))


def finding(table: Table) -> str:
    """Where pre-training pays, and how well the closed form says so."""
    codes = regions(table)
    middle = table.where(kind="threshold", energy_J=ENERGIES[1])
    d2, delay = middle["discrepancy"], middle["delay_s"]
    switch = table.where(kind="switch")
    closed = d2[np.searchsorted(delay, switch["delay_s"])]
    off = float(np.max(np.abs(switch["discrepancy"] / closed - 1)))
    lower, upper = (table.where(kind="threshold", energy_J=e)["discrepancy"] for e in ENERGIES[::2])
    return (
        f"At {ENERGIES[1]:.0f} J pre-training pays up to a discrepancy of {d2[0]:.2g} where the "
        f"delay budget is {delay[0]:.0f} s, and up to {d2[-1]:.2g} where it is {delay[-1]:.0f} s. "
        f"The threshold in closed form agrees with the discrepancy at which the optimiser itself "
        f"switches to within {100 * off:.2g} %. Both stages together are optimal in "
        f"{100 * np.mean(codes == 1):.0f} % of the map, one alone in the rest. From "
        f"{ENERGIES[0]:.0f} J to {ENERGIES[2]:.0f} J the threshold moves by factors of "
        f"{np.min(upper / lower):.2f} to {np.max(upper / lower):.2f}."
    )
