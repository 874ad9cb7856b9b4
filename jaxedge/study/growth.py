"""How rounds, batches, clocks and powers of the joint design move as the budgets grow."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from jaxedge.machine.trees import concatenate
from jaxedge.planning.entry import plan_batch
from jaxedge.study import setting
from jaxedge.study.plans import under_channels
from jaxedge.study.sizes import Size
from jaxedge.study.table import Table
from jaxedge.words.progress import Progress

BUDGETS = {
    "energy": ("energy_budget", np.geomspace(10.0, 1000.0, 13)),
    "delay": ("delay_budget", np.geomspace(10.0, 300.0, 13)),
}
"""Budget that grows, the other staying as in the setting -> its field and values."""
ROWS = ("rounds", "batch", "clock_Hz", "power_W")
STAGES = ("pre-training", "fine-tuning")


def compute(constants: Table, size: Size, progress: Progress) -> Table:
    """A row for each budget, value, draw and stage: its rounds, and its owner's resources.

    What belongs to a stage of a single round is nan; both transmit in fine-tuning alone. The
    devices' numbers are means over them.
    """
    base = setting.scenario(constants)
    rows = []
    for budget, (field, every) in BUDGETS.items():
        values = every[:: 1 if size.points > 3 else 4]
        points = [dataclasses.replace(base, **{field: value}) for value in values]
        stacked = concatenate([under_channels(point, size.draws) for point in points])
        answers = plan_batch(stacked, progress=progress)
        allocation: Any = answers.allocation
        parts = allocation.server, allocation.devices
        counts = allocation.pretraining_rounds, allocation.finetuning_rounds
        for i in range(len(answers.status)):
            sends = 1.0 if counts[1][i] > 1 else np.nan
            for stage, part, rounds in zip(STAGES, parts, counts, strict=True):
                runs = 1.0 if rounds[i] > 1 else np.nan
                rows.append(
                    {
                        "budget": budget,
                        "value": values[i // size.draws],
                        "draw": i % size.draws,
                        "stage": stage,
                        "rounds": rounds[i],
                        "batch": runs * np.mean(part.batch[i]),
                        "clock_Hz": runs * np.mean(part.clock[i]),
                        "power_W": sends * np.mean(part.power[i]),
                    }
                )
    return Table.of(rows)


def finding(table: Table) -> str:
    """By what factors they move from the smallest to the largest budget."""
    sentences = []
    for budget in table.values("budget"):
        part = table.where(budget=budget)
        rounds = {stage: _ends(part.where(stage=stage), "rounds") for stage in STAGES}
        moved = ", ".join(
            f"{stage} rounds from {a:,.0f} to {b:,.0f}" for stage, (a, b) in rounds.items()
        )
        batch = _ends(part.where(stage="fine-tuning"), "batch")
        clock = _ends(part.where(stage="fine-tuning"), "clock_Hz")
        power = _ends(part.where(stage="fine-tuning"), "power_W")
        sentences.append(
            f"As the {budget} budget grows {_ratio(part):.0f}-fold, {moved} (means over channels); "
            f"while fine-tuning runs, the mean device batch goes from {batch[0]:.1f} to "
            f"{batch[1]:.1f}, the clock from {clock[0] / 1e9:.2f} to {clock[1] / 1e9:.2f} GHz, the "
            f"power from {1e3 * power[0]:.0f} to {1e3 * power[1]:.0f} mW."
        )
    return " ".join(sentences)


def _ratio(table: Table) -> float:
    values = table["value"]
    return float(values.max() / values.min())


def _ends(table: Table, name: str) -> tuple[float, float]:
    """Means at the smallest and the largest budget at which there is any number."""
    rows = table.grouped(name, "value")
    held = rows[np.isfinite(rows).any(axis=1)]
    if not len(held):
        return np.nan, np.nan
    return float(np.nanmean(held[0])), float(np.nanmean(held[-1]))
