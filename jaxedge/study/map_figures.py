"""Figures of the growing budgets, of the phases and of the three-way trade-off."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jaxedge.report.axes_style import edges, legend_above, log_ticks
from jaxedge.report.figure_style import BLACK, BLUE, COLUMN, VERMILION, new_figure
from jaxedge.study import growth, phase, surface
from jaxedge.study.scheme_figures import STYLES
from jaxedge.study.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STAGES = dict(zip(growth.STAGES, (BLUE, VERMILION), strict=True))
_SHOWN = {
    "rounds": ("rounds", 1.0),
    "batch": ("batch (samples)", 1.0),
    "clock_Hz": ("clock (GHz)", 1e-9),
    "power_W": ("power (W)", 1.0),
}
_ROOM = 1.1
"""Factor by which axes reach beyond the budgets, so that no mark is cut."""
_REGIONS = ("#A6CEE8", "#BFE3D3", "#F7D9A8")
"""Light blue, green and orange, on which black text is read."""


def draw_growth(table: Table) -> Figure:
    """Means over channels with bands from 5 % to 95 %, a row for each kind of decision."""
    figure = new_figure(5.4, 2 * COLUMN)
    budgets = table.values("budget")
    grid = figure.subplots(len(_SHOWN), len(budgets), sharex="col", sharey="row")
    for column, budget in enumerate(budgets):
        part = table.where(budget=budget)
        for row, (name, (words, factor)) in enumerate(_SHOWN.items()):
            axes = grid[row, column]
            for stage, colour in _STAGES.items():
                _banded(axes, part.where(stage=stage), name, factor, colour)
            axes.set_xscale("log")
            axes.set_yscale("log")
            if name == "rounds":  # none at all is below the axis
                axes.set_ylim(bottom=1.0)
            axes.tick_params(length=2.5)
            if column == 0:
                axes.set_ylabel(words)
        unit = {"energy": "J", "delay": "s"}[budget]
        grid[-1, column].set_xlabel(f"{budget} budget ({unit})")
        log_ticks(grid[-1, column].xaxis, part["value"])
    for row in range(len(_SHOWN)):
        log_ticks(grid[row, 0].yaxis, np.array(grid[row, 0].get_ylim()))
    for stage, colour, who in zip(
        growth.STAGES, _STAGES.values(), ("server", "devices"), strict=True
    ):
        for row, text in ((0, stage), (1, who)):
            _name_line(grid[row, -1], table, stage, list(_SHOWN)[row], text, colour)
    figure.align_ylabels(list(grid[:, 0]))
    return figure


def _banded(axes: Axes, table: Table, name: str, factor: float, colour: str) -> None:
    x, rows = np.array(table.values("value")), factor * table.grouped(name, "value")
    held = np.isfinite(rows).any(axis=1)
    if not held.any():
        return
    x, rows = x[held], rows[held]
    low, high = np.nanquantile(rows, [0.05, 0.95], axis=1)
    axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(x, np.nanmean(rows, axis=1), color=colour, linewidth=1.3, marker="o", markersize=2.5)


def _name_line(axes: Axes, table: Table, stage: str, name: str, text: str, colour: str) -> None:
    """Write a name beside the last point of a line."""
    own = table.where(budget=table.values("budget")[-1], stage=stage)
    rows = own.grouped(name, "value")
    held = np.flatnonzero(np.isfinite(rows).any(axis=1))
    if not held.size:
        return
    x, y = own.values("value")[held[-1]], float(np.nanmean(rows[held[-1]]))
    axes.annotate(
        text,
        (x, y),
        xytext=(5, 0),
        textcoords="offset points",
        color=colour,
        va="center",
        annotation_clip=False,
    )


def draw_phase(table: Table) -> Figure:
    """Regions of the relaxed optimum, the closed form as lines, the optimiser's switch as rings."""
    figure = new_figure(3.1)
    axes = figure.subplots()
    designs = table.where(kind="design")
    d2, delay = (np.array(designs.values(name)) for name in ("discrepancy", "delay_s"))
    colours = np.array([tuple(bytes.fromhex(one[1:])) for one in _REGIONS]) / 255
    codes = phase.regions(table)
    axes.pcolormesh(edges(d2, log=True), edges(delay, log=True), colours[codes], rasterized=True)
    axes.set(xscale="log", yscale="log", xlabel="data discrepancy $d^2$", ylabel="delay budget (s)")
    axes.set_xlim(d2[0], d2[-1])
    axes.set_ylim(delay[0], delay[-1])
    for energy, dashes in zip(phase.ENERGIES, ("--", "-", ":"), strict=True):
        line = table.where(kind="threshold", energy_J=energy)
        held = line["discrepancy"] > 0
        axes.plot(
            line["discrepancy"][held],
            line["delay_s"][held],
            dashes,
            color=BLACK,
            linewidth=1.2,
            label=f"{energy:.0f} J",
        )
    switch = table.where(kind="switch")
    axes.plot(
        switch["discrepancy"],
        switch["delay_s"],
        "o",
        color=BLACK,
        markerfacecolor="white",
        markersize=4,
        markeredgewidth=0.9,
        label="optimiser",
    )
    for code, name in enumerate(phase.REGIONS):
        if np.any(codes == code):
            row, column = _inside(codes == code)
            axes.text(
                d2[column],
                delay[row],
                name.replace(" ", "\n"),
                ha="center",
                va="center",
                linespacing=1.0,
                fontsize=7,
                bbox={"facecolor": _REGIONS[code], "edgecolor": "none", "pad": 0.2},
            )
    legend_above(
        axes,
        title=f"threshold in closed form, and by the optimiser at {phase.ENERGIES[1]:.0f} J",
        title_fontsize=7.5,
        alignment="left",
        ncols=4,
        handlelength=2.2,
        columnspacing=1.2,
    )
    log_ticks(axes.xaxis, d2)
    log_ticks(axes.yaxis, delay)
    return figure


def _inside(region: np.ndarray) -> tuple[int, int]:
    """Row and column of the cell in the middle of the largest square of the region."""
    padded = np.pad(region, 1, constant_values=False)
    best, at = -1, (0, 0)
    for i, j in np.argwhere(region):
        reach = 0
        while np.all(padded[max(i - reach, 0) : i + reach + 3, max(j - reach, 0) : j + reach + 3]):
            reach += 1
        if reach > best:
            best, at = reach, (int(i), int(j))
    return at


def draw_surface(table: Table) -> Figure:
    """The best accuracy within a delay and an energy, fronts of equal accuracy, designs on it."""
    figure = new_figure(3.4)
    axes = figure.subplots()
    energy, delay = surface.axes(table)
    top = 100 * surface.surface(table)
    low = 5 * np.floor(top.min() / 5)
    high = max(5 * np.ceil(top.max() / 5), low + 5)
    levels = np.arange(low, high + 1, 2.5)
    # The darker half of the colours would hide lines and marks.
    filled = axes.contourf(
        delay, energy, top, levels=levels, cmap="Blues", vmin=low, vmax=2 * high - low
    )
    lines = axes.contour(
        delay, energy, top, levels=[100 * x for x in surface.LEVELS], colors=BLACK, linewidths=0.8
    )
    found = surface.points(table)
    for scheme, (colour, marker) in STYLES.items():
        on = found.best & (found.scheme == scheme)
        if on.any():
            axes.plot(
                found.delay[on],
                found.energy[on],
                marker,
                color=colour,
                markersize=4,
                markeredgecolor="white",
                markeredgewidth=0.4,
                label=scheme,
            )
    axes.set(xscale="log", yscale="log", xlabel="delay (s)", ylabel="energy (J)")
    axes.set_xlim(delay[0] / _ROOM, delay[-1] * _ROOM)
    axes.set_ylim(energy[0] / _ROOM, energy[-1] * _ROOM)
    axes.clabel(lines, fmt="%g %%", fontsize=7)
    legend_above(axes, left=-0.1, handletextpad=0.2)
    log_ticks(axes.xaxis, delay)
    log_ticks(axes.yaxis, energy)
    bar = figure.colorbar(filled, ax=axes, pad=0.02, aspect=18)
    bar.set_label("task accuracy (%)")
    bar.outline.set_visible(False)
    return figure
