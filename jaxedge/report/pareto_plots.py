"""Pareto fronts of a sweep: what one quantity costs in two others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jaxedge.report.axes_style import across, legend_above, log_ticks, needs_log, upwards
from jaxedge.report.figure_style import BLACK, GREY, new_figure
from jaxedge.report.pareto import non_dominated, staircase
from jaxedge.report.sweep_views import Scale, scale_of, spread_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from xarray import Dataset

_LEVELS = (0.25, 1.0)
"""Quantiles of the third quantity below which fronts of the other two are drawn."""


def draw_pareto(dataset: Dataset, x: str, y: str, value: str) -> Figure:
    """Draw all designs of a sweep, those that none beats in x, y and value in colours.

    All three are costs. Lines are the fronts of x and y among designs whose value is at most what
    stands beside them.

    Raises:
        ValueError: if a quantity is not there, or no design has all three.
    """
    points, scales = _points(dataset, (x, y, value))
    best = points[non_dominated(points)]
    figure = new_figure(2.7)
    axes = figure.subplots()
    across(axes, points[:, 0] / scales[0].factor, scales[0])
    upwards(axes, points[:, 1] / scales[1].factor, scales[1])
    axes.scatter(
        points[:, 0], points[:, 1], s=3, color=GREY, linewidth=0, rasterized=len(points) > 5000
    )
    log = scales[2].log
    image = axes.scatter(
        best[:, 0],
        best[:, 1],
        s=11,
        c=best[:, 2],
        cmap="viridis_r",
        norm="log" if log else "linear",
        linewidth=0,
        zorder=1.5,
    )
    bar = figure.colorbar(image, ax=axes, pad=0.02, aspect=18)
    bar.set_label(scales[2].label)
    bar.outline.set_visible(False)
    if log:
        log_ticks(bar.ax.yaxis, best[:, 2])
    _fronts(axes, best, scales[2])
    return figure


def _points(dataset: Dataset, names: tuple[str, ...]) -> tuple[np.ndarray, list[Scale]]:
    """Designs (n, 3) in the units shown, and the scales of the three quantities."""
    import xarray

    arrays = [spread_of(dataset, name).centre.rename(name) for name in names]
    columns = [np.asarray(one.values).ravel() for one in xarray.broadcast(*arrays)]
    points = np.column_stack(columns).astype(np.float64)
    points = points[np.all(np.isfinite(points), axis=1)]
    if not len(points):
        raise ValueError(f"there is nothing to draw: no design has all of {', '.join(names)}")
    scales = [
        scale_of(array, column, log=needs_log(column))
        for array, column in zip(arrays, points.T, strict=True)
    ]
    return points * [scale.factor for scale in scales], scales


def _fronts(axes: Axes, best: np.ndarray, scale: Scale) -> None:
    label, _, unit = scale.label.removesuffix(")").partition(" (")
    for share, dashes in zip(_LEVELS, ("--", "-"), strict=True):
        level = float(np.quantile(best[:, 2], share))
        front = staircase(best[best[:, 2] <= level, :2])
        name = f"any {label}" if share == 1.0 else f"{label} ≤ {level:.3g} {unit}".strip()
        axes.plot(front[:, 0], front[:, 1], dashes, color=BLACK, linewidth=0.7, label=name)
    legend_above(axes)
