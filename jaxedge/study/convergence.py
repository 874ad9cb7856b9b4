"""Convergence over real training, against seconds and joules, of every scheme."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxedge.planning.schemes import JOINT
from jaxedge.scenario.scenario import Scenario
from jaxedge.scenario.stacking import unstack
from jaxedge.study import setting
from jaxedge.study.plans import planned, under_channels
from jaxedge.study.sizes import Size
from jaxedge.study.table import Table
from jaxedge.study.trained import trained
from jaxedge.system.allocation import Allocation
from jaxedge.words.progress import Progress

ENERGY, DELAY = 2 * setting.ENERGY, 2 * setting.DELAY
"""J and s: twice the budgets of the other questions, so that curves have room to bend."""
STEPS = 61
"""Moments at which curves are kept, from nothing to the whole budget."""
_BUDGETS = {"delay_s": DELAY, "energy_J": ENERGY}


def compute(constants: Table, size: Size, progress: Progress) -> Table:
    """A row for each budget, moment, scheme and draw: accuracy and loss by what was spent.

    A run that has ended keeps its last numbers.
    """
    from jaxedge.training.runs.ledgers import ledger

    base = dataclasses.replace(
        setting.scenario(constants), energy_budget=ENERGY, delay_budget=DELAY
    )
    plans = planned([base], size.trained, progress=progress)
    channels = unstack(under_channels(base, size.trained))
    rows = []
    for draw, scenario in enumerate(channels):
        designs = {scheme: plans.design(scheme, 0, draw) for scheme in plans.answers}
        runs = trained(
            setting.task(), base, designs, seed=draw, every=size.every, progress=progress
        )
        for scheme, run in runs.items():
            curve = run.curve
            design = designs[scheme]
            assert design is not None
            spent = _spent(scenario, design, ledger)
            for budget, most in _BUDGETS.items():
                at = spent[budget][curve["round"]]
                for moment in np.linspace(0.0, most, STEPS):
                    rows.append(
                        {
                            "budget": budget,
                            "spent": moment,
                            "scheme": scheme,
                            "draw": draw,
                            "accuracy": np.interp(moment, at, curve["accuracy"]),
                            "loss": np.interp(moment, at, curve["loss"]),
                        }
                    )
    return Table.of(rows)


def _spent(scenario: Scenario, design: Allocation, ledger: object) -> dict[str, np.ndarray]:
    """Joules and seconds after each round, from the start."""
    book = ledger(scenario, design)  # type: ignore[operator]
    return {
        "energy_J": np.concatenate([[0.0], np.cumsum(book.energy)]),
        "delay_s": np.concatenate([[0.0], np.cumsum(book.time)]),
    }


def finding(table: Table) -> str:
    """What is reached in half of the time and at the end, by whom."""
    seconds = table.where(budget="delay_s")
    moments = np.array(seconds.values("spent"))
    curves = {
        scheme: seconds.where(scheme=scheme).grouped("accuracy", "spent").mean(axis=-1)
        for scheme in seconds.values("scheme")
    }
    ends = {scheme: float(curve[-1]) for scheme, curve in curves.items()}
    half = {scheme: float(curve[len(moments) // 2]) for scheme, curve in curves.items()}
    ranked = sorted(ends, key=lambda scheme: -ends[scheme])
    early = max(half, key=lambda scheme: half[scheme])
    place = ranked.index(JOINT) + 1
    return (
        f"After {moments[-1]:.0f} s the joint design is at {100 * ends[JOINT]:.1f} %, number "
        f"{place} of {len(ranked)} schemes; the best, {ranked[0]}, is at "
        f"{100 * ends[ranked[0]]:.1f} %, the worst, {ranked[-1]}, at "
        f"{100 * ends[ranked[-1]]:.1f} %. After half of the time {early} leads with "
        f"{100 * half[early]:.1f} %, the joint design being at {100 * half[JOINT]:.1f} %."
    )
