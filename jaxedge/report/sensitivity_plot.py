"""The tornado plot: what 1 % more or less of each parameter does to the bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxedge.report.figure_style import (
    BLACK,
    BLUE,
    ORANGE,
    PathLike,
    check_figure_path,
    new_figure,
    save,
    styled,
)
from jaxedge.sensitivity.analysis import Parameter, Sensitivity
from jaxedge.words.quantities import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 16
"""Parameters drawn, the largest elasticities."""


def plot_sensitivity(sensitivity: Sensitivity, path: PathLike | None = None) -> Figure:
    """Draw the largest elasticities as a tornado, kinks with both sides.

    Args:
        sensitivity: an analysis with parameters.
        path: a file to write too, PNG, PDF or SVG by its suffix; None only returns the figure.

    Raises:
        ValueError: if there is nothing to draw, or the file cannot be written as asked.
    """
    if path is not None:
        check_figure_path(path)
    some = [p for p in sensitivity.parameters if p.elasticity != 0 or p.sides.kink][:MOST]
    if not some:
        raise ValueError(f"there are no sensitivities to draw: status {sensitivity.status}")
    with styled():
        figure = new_figure(0.95 + 0.19 * len(some))
        _tornado(figure.subplots(), some)
        if path is not None:
            save(figure, path)
    return figure


def _tornado(axes: Axes, some: list[Parameter]) -> None:
    longest = 0.0
    for row, parameter in enumerate(some):
        sides = parameter.sides
        # 1 % less and more of the parameter; at a kink each side has its own slope.
        below, above = (sides.below, sides.above) if sides.kink else (sides.elasticity,) * 2
        less, more = (-below if below == below else 0.0), (above if above == above else 0.0)
        axes.barh(row, less, 0.7, color=ORANGE, label="1 % less" if row == 0 else None)
        axes.barh(row, more, 0.7, color=BLUE, label="1 % more" if row == 0 else None)
        longest = max(longest, abs(less), abs(more))
        mark = "kink" if sides.kink else number(sides.elasticity, 3)
        axes.text(max(less, more, 0.0), row, f" {mark}", va="center", fontsize=6.5)
    axes.axvline(0, color=BLACK, linewidth=0.8)
    axes.set_yticks(range(len(some)), [parameter.field.path for parameter in some])
    axes.tick_params(axis="y", length=0)
    axes.set(
        xlim=(-1.1 * longest, 1.4 * longest),
        ylim=(len(some) - 0.4, -0.6),
        xlabel="change of the optimal bound (%)",
    )
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
