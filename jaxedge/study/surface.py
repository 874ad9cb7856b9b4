"""The three-way trade-off of accuracy, delay and energy as a Pareto surface."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxedge.report.pareto import non_dominated
from jaxedge.study import setting
from jaxedge.study.phase import stacked
from jaxedge.study.plans import planned_at
from jaxedge.study.sizes import Size
from jaxedge.study.table import Table
from jaxedge.study.trained import trained
from jaxedge.words.progress import Progress

ENERGY, DELAY = (8.0, 250.0), (8.0, 125.0)
"""Ends of the axes in J and s."""
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
"""Accuracies whose fronts are drawn."""


def compute(constants: Table, size: Size, progress: Progress) -> Table:
    """A row for each pair of budgets, scheme and seed: what a design spends and what it reaches.

    The channel is the preset's: one device on each of ten rings.
    """
    base = setting.scenario(constants)
    energy, delay = (np.geomspace(*ends, size.surface) for ends in (ENERGY, DELAY))
    across, up = (x.ravel() for x in np.meshgrid(delay, energy))
    d2 = np.full_like(across, base.learning.discrepancy)
    plans = planned_at(stacked(base, d2, across, up), progress=progress)
    designs = {
        (scheme, i): plans.design(scheme, i, 0)
        for scheme in plans.answers
        for i in range(len(across))
    }
    rows = []
    for seed in range(-(-size.trained // 4)):
        runs = trained(setting.task(), base, designs, seed=seed, progress=progress)
        rows += [
            {
                "energy_budget_J": up[i],
                "delay_budget_s": across[i],
                "scheme": scheme,
                "seed": seed,
                "energy_J": plans.answers[scheme].energy[i],
                "delay_s": plans.answers[scheme].delay[i],
                "accuracy": runs[scheme, i].last("accuracy") if (scheme, i) in runs else np.nan,
            }
            for scheme, i in designs
        ]
    return Table.of(rows)


@dataclasses.dataclass(frozen=True)
class Points:
    """Designs of all schemes: joules, seconds and mean accuracy (n,), and which none beats."""

    scheme: np.ndarray
    energy: np.ndarray
    delay: np.ndarray
    accuracy: np.ndarray
    best: np.ndarray
    """No other is at least as good in all three and better in one."""


def points(table: Table) -> Points:
    """All designs that were trained, as spent and reached."""
    keys = "scheme", "energy_budget_J", "delay_budget_s"
    energy, delay, accuracy = (
        table.grouped(name, *keys).mean(axis=-1) for name in ("energy_J", "delay_s", "accuracy")
    )
    schemes = np.array(table.values("scheme"))
    scheme = np.broadcast_to(schemes[:, None, None], energy.shape)
    held = np.isfinite(accuracy) & np.isfinite(energy)
    scheme, energy, delay, accuracy = (x[held] for x in (scheme, energy, delay, accuracy))
    best = np.zeros(len(energy), bool)
    best[non_dominated(np.column_stack([energy, delay, -accuracy]))] = True
    return Points(scheme, energy, delay, accuracy, best)


def surface(table: Table) -> np.ndarray:
    """(energy, delay) the best accuracy of any design that spends no more than both budgets."""
    found = points(table)
    slack = 1 + 1e-9
    energy, delay = axes(table)
    fits = (found.energy <= slack * energy[:, None, None]) & (
        found.delay <= slack * delay[None, :, None]
    )
    return np.asarray(np.max(np.where(fits, found.accuracy, 0.0), axis=-1))


def axes(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """Budgets in J and in s."""
    energy, delay = (table.values(name) for name in ("energy_budget_J", "delay_budget_s"))
    return np.array(energy), np.array(delay)


def finding(table: Table) -> str:
    """Who is on the surface, and how much energy a shorter deadline costs at equal accuracy."""
    found, top = points(table), surface(table)
    energy, delay = axes(table)
    names, counts = np.unique(found.scheme[found.best], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    shares = ", ".join(f"{counts[i]} of {names[i]}" for i in order)
    text = (
        f"The best accuracy within both budgets rises from {100 * top[0, 0]:.0f} % at "
        f"{energy[0]:.0f} J and {delay[0]:.0f} s to {100 * top[-1, -1]:.0f} % at "
        f"{energy[-1]:.0f} J and {delay[-1]:.0f} s. Of {len(found.best)} designs "
        f"{found.best.sum()} are on the surface, where none beats them in accuracy, delay and "
        f"energy: {shares}. "
    )
    level = _traded(top)
    if level is None:
        return text + "No accuracy that is drawn costs another energy at another delay."
    reached = top >= level
    need = [energy[np.argmax(column)] if column.any() else np.inf for column in reached.T]
    first, last = int(np.argmax(np.isfinite(need))), len(delay) - 1
    return text + (
        f"For {100 * level:.0f} % the least energy budget on the grid is {need[first]:.0f} J at "
        f"{delay[first]:.0f} s and {need[last]:.0f} J at {delay[last]:.0f} s."
    )


def _traded(top: np.ndarray) -> float | None:
    """The level whose front has the most delays at which the energy differs."""
    best, most = None, 1
    for level in LEVELS:
        columns = (top >= level).T
        need = {int(np.argmax(column)) for column in columns if column.any()}
        if len(need) > most:
            best, most = level, len(need)
    return best
