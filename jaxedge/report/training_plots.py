"""Figures of a run: what was learned over rounds, joules and seconds, and who has which data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxedge.report.figure_style import (
    BLUE,
    COLUMN,
    GREY,
    VERMILION,
    PathLike,
    check_figure_path,
    new_figure,
    save,
    styled,
)
from jaxedge.words.quantities import prefixed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
"""A measurement of a run, as a line of its metrics.jsonl."""

_COLOURS = {"pre-training": BLUE, "fine-tuning": VERMILION}
_ALONG = {"round": ("rounds", ""), "energy": ("energy", "J"), "delay": ("time", "s")}
_MEASURES = {
    "accuracy": "task accuracy (%)",
    "loss": "task loss",
    "gradient_norm_squared": "$|\\nabla F|^2$",
}
_MOST_DEVICES = 40
"""Beyond so many, devices are not named one by one."""


def plot_training(
    rows: Sequence[Row],
    path: PathLike | None = None,
    *,
    budgets: tuple[float, float] | None = None,
) -> Figure:
    """Draw accuracy and loss over rounds, joules and seconds, with the change of stages marked.

    Args:
        rows: measurements of a run, as in its metrics.jsonl.
        path: a file to write too, PNG, PDF or SVG by its suffix.
        budgets: J and s, drawn as the ends of their axes.

    Raises:
        ValueError: if there are fewer than two measurements, or the file cannot be written.
    """
    if path is not None:
        check_figure_path(path)
    if len(rows) < 2:
        raise ValueError("there is nothing to draw: a run needs at least two measurements")
    names = [name for name in _MEASURES if name in rows[0]]
    with styled():
        figure = new_figure(0.5 + 1.25 * len(names), 2 * COLUMN)
        grid = figure.subplots(len(names), 3, sharex="col", sharey="row", squeeze=False)
        for column, along in enumerate(_ALONG):
            for row, name in enumerate(names):
                _draw(grid[row, column], rows, along, name)
            limit = {"energy": 0, "delay": 1}.get(along)
            budget = None if budgets is None or limit is None else budgets[limit]
            _finish(grid[:, column], rows, along, budget)
        for row, name in enumerate(names):
            grid[row, 0].set_ylabel(_MEASURES[name])
        figure.align_ylabels(list(grid[:, 0]))
        if path is not None:
            save(figure, path)
    return figure


def _factor(rows: Sequence[Row], along: str) -> tuple[float, str]:
    unit = _ALONG[along][1]
    return prefixed(rows[-1][along], unit) if unit == "J" else (1.0, unit)


def _draw(axes: Axes, rows: Sequence[Row], along: str, name: str) -> None:
    """A line for each stage; the second begins where the first has ended."""
    scale = 100.0 if name == "accuracy" else 1.0
    factor, _ = _factor(rows, along)
    for stage, colour in _COLOURS.items():
        index = [i for i, row in enumerate(rows) if row["stage"] == stage]
        if index:
            drawn = rows[max(index[0] - 1, 0) : index[-1] + 1]
            x = [row[along] * factor for row in drawn]
            axes.plot(x, [row[name] * scale for row in drawn], color=colour, linewidth=1.1)
    if name == "accuracy":
        axes.set_ylim(0, 100)
    elif name == "loss":
        axes.set_ylim(bottom=0)
    else:
        axes.set_yscale("log")


def _finish(column: Any, rows: Sequence[Row], along: str, budget: float | None) -> None:
    """Ends, change of stages and label of an axis that a column of axes shares."""
    factor, symbol = _factor(rows, along)
    words = _ALONG[along][0]
    column[-1].set_xlabel(f"{words} ({symbol})" if symbol else words)
    end = max(rows[-1][along], budget or 0.0) * factor
    column[-1].set_xlim(0, 1.02 * end)
    before = [row for row in rows if row["stage"] != "fine-tuning"]
    change = before[-1][along] * factor
    both = 0 < len(before) < len(rows) and len(before) > 1
    for axes in column:
        if both:
            axes.axvline(change, color=GREY, linewidth=0.8, zorder=0)
        if budget is not None:
            axes.axvline(budget * factor, color="black", linestyle=":", linewidth=0.9, zorder=0)
    top = column[0]
    if budget is not None:
        top.text(
            budget * factor - 0.015 * end,
            0.04,
            "budget",
            transform=top.get_xaxis_transform(),
            rotation=90,
            ha="right",
            va="bottom",
            fontsize=6.5,
        )
    if both:
        for stage, middle in (("pre-training", change / 2), ("fine-tuning", (change + end) / 2)):
            share = (change if stage == "pre-training" else end - change) / end
            words = stage if share > 0.35 else stage.replace("-", "-\n")
            top.text(
                middle,
                1.03,
                words,
                color=_COLOURS[stage],
                transform=top.get_xaxis_transform(),
                ha="center",
                va="bottom",
                linespacing=0.9,
            )


def plot_partition(counts: np.ndarray, path: PathLike | None = None) -> Figure:
    """Draw how many samples of each class each device has.

    Args:
        counts: (K, classes), as `Task.class_counts`.
        path: a file to write too, PNG, PDF or SVG by its suffix.

    Raises:
        ValueError: if the file cannot be written.
    """
    if path is not None:
        check_figure_path(path)
    devices, classes = counts.shape
    with styled():
        figure = new_figure(min(0.75 + 0.17 * classes, 4.0))
        axes, side = figure.subplots(1, 2, width_ratios=[1, 0.035])
        picture = axes.imshow(
            counts.T, cmap="Blues", aspect="auto", vmin=0, interpolation="nearest"
        )
        axes.set(xlabel="device", ylabel="class")
        for spine in ("top", "right"):
            axes.spines[spine].set_visible(True)
        if devices <= _MOST_DEVICES:
            axes.set_xticks(range(0, devices, 1 if devices <= 20 else 5))
        if classes <= 20:
            axes.set_yticks(range(classes))
        axes.tick_params(length=0)
        if devices <= 15 and classes <= 20:
            middle = counts.max() / 2
            for (k, c), value in np.ndenumerate(counts):
                colour = "white" if value > middle else "black"
                axes.text(k, c, f"{value}", ha="center", va="center", color=colour, fontsize=5.5)
        figure.colorbar(picture, cax=side, label="samples")
        if path is not None:
            save(figure, path)
    return figure
