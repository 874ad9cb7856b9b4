"""Figures of a plan."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from jaxedge.answers.plan import Plan
from jaxedge.report.figure_style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    SKY,
    VERMILION,
    PathLike,
    check_figure_path,
    new_figure,
    save,
    spread,
    styled,
)
from jaxedge.scenario.scenario import Scenario
from jaxedge.system.accounts import Breakdown, breakdown
from jaxedge.words.quantities import number, percent, prefixed, quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {
    "pre-training computing": BLUE,
    "broadcasts": SKY,
    "device computing": ORANGE,
    "uploads": VERMILION,
}
_JOINT, _SCHEME, _LINE = GREEN, GREY, BLACK

_CUT = 4.0
"""Bars of schemes more than so many times above the joint design are cut, or they hide the rest."""


def plot_plan(plan: Plan, scenario: Scenario, path: PathLike | None = None) -> Figure:
    """Draw where the joules and seconds of a plan go, and the schemes beside it if it has them.

    Args:
        plan: an answer with a design.
        scenario: what it answers.
        path: a file to write too, PNG, PDF or SVG by its suffix; None only returns the figure.

    Raises:
        ValueError: if the plan holds no design, or the file cannot be written as asked.
    """
    if path is not None:
        check_figure_path(path)
    if plan.allocation is None or plan.bound is None:
        raise ValueError(f"there is no design to draw: the plan is {plan.status}")
    with styled():
        figure = _figure(plan, breakdown(scenario, plan.allocation), scenario)
        if path is not None:
            save(figure, path)
    return figure


def _figure(plan: Plan, spent: Breakdown, scenario: Scenario) -> Figure:
    rows = len(plan.schemes) + 1 if plan.schemes else 0
    lower = 0.55 + 0.19 * rows if rows else 0.0
    figure = new_figure(2.5 + lower)
    ratios = [2.5, lower] if rows else [1.0]
    parts = figure.subfigures(len(ratios), 1, height_ratios=ratios, squeeze=False)[:, 0]
    left, right = parts[0].subplots(1, 2)
    budgets = (float(np.asarray(scenario.energy_budget)), float(np.asarray(scenario.delay_budget)))
    _stack(left, spent.energy, budgets[0], "energy", "J")
    _stack(right, spent.delay, budgets[1], "delay", "s")
    if rows:
        _compare(parts[1].subplots(), plan)
    return figure


def _stack(axes: Axes, amounts: dict[str, float], budget: float, what: str, unit: str) -> None:
    """One stacked bar with its labels at its right, and the budget as a line across it."""
    amounts = {name: amount for name, amount in amounts.items() if amount > 0}
    scale, symbol = prefixed(budget, unit)
    total, base = sum(amounts.values()), 0.0
    top = max(budget, total) * scale
    centres = []
    for name, amount in amounts.items():
        height = amount * scale
        axes.bar(0, height, 0.5, base, color=_COLOURS[name], edgecolor="white", linewidth=0.5)
        centres.append(base + height / 2)
        base += height
    axes.plot([-0.3, 0.3], [budget * scale] * 2, color=_LINE, linestyle="--", linewidth=1)
    axes.set(xlim=(-0.3, 1.9), ylim=(0, 1.1 * top), xticks=[], ylabel=f"{what} ({symbol})")
    axes.spines["bottom"].set_visible(False)
    axes.text(-0.25, 1.02 * top, f"budget {quantity(budget, unit)}", va="bottom")
    # Up to three lines of text each, a fifth of the height, so that none overlaps another.
    places = spread(centres, 0.19 * top, 0.09 * top, 0.9 * top)
    for (name, amount), centre, place in zip(amounts.items(), centres, places, strict=True):
        spent = f"{quantity(amount, unit, 3)}, {percent(amount / total, 2)}"
        text = "\n".join([*name.split(" "), spent])
        _label(axes, text, centre, place, _COLOURS[name])


def _label(axes: Axes, text: str, centre: float, place: float, colour: str) -> None:
    axes.plot([0.27, 0.42, 0.5], [centre, place, place], color=colour, linewidth=0.8)
    axes.text(0.54, place, text, va="center", linespacing=1.0)


def _compare(axes: Axes, plan: Plan) -> None:
    """Bars of each scheme's bound relative to the joint design, with the lower bound as a line."""
    joint = plan.bound or math.nan
    names = ["joint design", *plan.schemes]
    ratios = [1.0, *(_ratio(scheme, joint) for scheme in plan.schemes.values())]
    longest = min(max(ratio for ratio in ratios if ratio is not None), _CUT)
    for row, ratio in enumerate(ratios):
        length = min(ratio or 0.0, longest)
        axes.barh(row, length, 0.7, color=_SCHEME if row else _JOINT)
        if ratio is not None and ratio > length:
            axes.text(0.93 * length, row, "//", color="white", va="center", weight="bold")
        behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # over the dashed line
        axes.text(
            length + 0.02 * longest,
            row,
            _mark(plan, row, ratio),
            va="center",
            bbox=behind,
            zorder=3,
        )
    if plan.lower_bound is not None:
        least = plan.lower_bound / joint
        axes.axvline(least, color=_LINE, linestyle="--", linewidth=1)
        axes.text(least, -0.65, "lower bound", ha="center", va="bottom")
    axes.set_yticks(range(len(names)), names)
    axes.set(
        xlim=(0, 1.3 * longest),
        ylim=(len(names) - 0.5, -0.6),
        xlabel="bound relative to joint design",
    )
    axes.tick_params(axis="y", length=0)


def _ratio(scheme: Plan, joint: float) -> float | None:
    return None if scheme.bound is None or scheme.allocation is None else scheme.bound / joint


def _mark(plan: Plan, row: int, ratio: float | None) -> str:
    if row == 0:
        return number(plan.bound, 4)
    if ratio is None:
        return str(list(plan.schemes.values())[row - 1].status)
    return f"{'-' if ratio < 1 else '+'}{percent(abs(ratio - 1), 2)}"
