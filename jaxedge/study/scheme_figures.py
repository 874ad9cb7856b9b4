"""Figures with a line for every scheme: comparisons along a parameter, and convergence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jaxedge.planning.schemes import (
    EQUAL_ROUNDS,
    FINETUNING_ONLY,
    JOINT,
    PRETRAINING_ONLY,
    SEPARATE,
)
from jaxedge.report.axes_style import label_ends, log_ticks, plain_ticks
from jaxedge.report.figure_style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    new_figure,
)
from jaxedge.study.comparison import Along
from jaxedge.study.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DARK = "#777777"
STYLES = {
    JOINT: (BLACK, "o"),
    PRETRAINING_ONLY: (BLUE, "s"),
    FINETUNING_ONLY: (VERMILION, "^"),
    "fixed batches": (GREEN, "D"),
    "maximum clocks": (ORANGE, "v"),
    "maximum power": (PURPLE, "P"),
    EQUAL_ROUNDS: (SKY, "X"),
    SEPARATE: (_DARK, "<"),
}
"""Scheme -> colour and marker."""
_SURE = 1.96
"""Standard errors to either side of a mean, for 95 %."""


def draw_comparison(table: Table, along: Along) -> Figure:
    """Bound above, real accuracy below, a line for each scheme; bands are 95 % intervals.

    Means are over channel draws, geometric ones of the bound, whose axis is logarithmic: few bad
    channels would rule the others. The joint design is the broad line beneath: where another lies
    on it, both are seen.
    """
    figure = new_figure(4.3)
    upper, lower = figure.subplots(2, 1, sharex=True)
    x = np.array(table.values(along.name))
    for axes, value, factor in ((upper, "bound", 1.0), (lower, "accuracy", 100.0)):
        ends = []
        for scheme in table.values("scheme"):
            rows = factor * table.where(scheme=scheme).grouped(value, along.name)
            ends.append(_line(axes, x, rows, scheme, geometric=value == "bound"))
        axes.set_xscale("log")
        axes.margins(x=0.03)
        axes.tick_params(length=2.5)
        if value == "bound":
            axes.set_yscale("log")
            log_ticks(axes.yaxis, np.array([np.array(axes.get_ylim())]).ravel())
        _named(figure, axes, ends)
    upper.set_ylabel("bound on $|\\nabla F|^2$")
    lower.set_ylabel("task accuracy (%)")
    lower.set_xlabel(along.label)
    plain_ticks(lower.xaxis, x)
    figure.align_ylabels([upper, lower])
    return figure


def draw_convergence(table: Table) -> Figure:
    """Mean accuracy over seconds above and over joules below, with bands of 95 % intervals."""
    figure = new_figure(4.3)
    parts = figure.subplots(2, 1)
    for axes, budget, words in zip(
        parts, ("delay_s", "energy_J"), ("time spent (s)", "energy spent (J)"), strict=True
    ):
        own = table.where(budget=budget)
        x, ends = np.array(own.values("spent")), []
        for scheme in own.values("scheme"):
            rows = 100 * own.where(scheme=scheme).grouped("accuracy", "spent")
            ends.append(_line(axes, x, rows, scheme, every=10))
        axes.set(xlabel=words, ylabel="task accuracy (%)")
        axes.set_xlim(0, x[-1])
        axes.tick_params(length=2.5)
        _named(figure, axes, ends)
    return figure


def _line(
    axes: Axes,
    x: np.ndarray,
    rows: np.ndarray,
    scheme: str,
    *,
    every: int = 1,
    geometric: bool = False,
) -> tuple[str, float, float, str]:
    """The mean over draws (points, draws) with its 95 % interval; what names it."""
    colour, marker = STYLES[scheme]
    order = np.argsort(x)
    x, rows = x[order], rows[order]
    held = np.isfinite(rows).any(axis=1)
    x, rows = x[held], rows[held]
    seen = np.log(rows) if geometric else rows
    count = np.isfinite(seen).sum(axis=1)
    mean = np.nanmean(seen, axis=1)
    margin = _SURE * np.nanstd(seen, axis=1) / np.sqrt(np.maximum(count - 1, 1))
    low, mean, high = (
        np.exp(one) if geometric else one for one in (mean - margin, mean, mean + margin)
    )
    joint = scheme == JOINT
    layer = 2.0 if joint else 2.1
    axes.fill_between(x, low, high, color=colour, alpha=0.1, linewidth=0, zorder=1)
    axes.plot(
        x,
        mean,
        "-",
        color=colour,
        linewidth=2.6 if joint else 0.9,
        marker=marker,
        markersize=4.6 if joint else 3.2,
        markeredgewidth=0,
        markevery=every,
        zorder=layer,
    )
    return scheme, float(x[-1]), float(mean[-1]), colour


def _named(figure: Figure, axes: Axes, ends: list[tuple[str, float, float, str]]) -> None:
    figure.draw_without_rendering()  # the layout, on which the labels' places depend
    label_ends(axes, ends)
