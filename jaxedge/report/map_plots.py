"""Maps over two axes of a sweep: heat maps, and which stage gets more rounds than it must."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jaxedge.report.axes_style import (
    across,
    edges,
    legend_above,
    log_ticks,
    needs_log,
    shown,
    upwards,
)
from jaxedge.report.figure_style import BLUE, GREEN, GREY, ORANGE, PURPLE, new_figure
from jaxedge.report.sweep_views import (
    STAGES,
    axis_of,
    is_infeasible,
    is_random,
    scale_of,
    spread_of,
    winners,
)
from jaxedge.words.quantities import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from xarray import DataArray, Dataset

_STAGE_COLOURS = (BLUE, GREEN, ORANGE, PURPLE)
_ON_STAGES = ("white", "white", "black", "black")
"""Colours of text on them."""
_LETTER, _LINES = 0.024, 0.12
"""Shares of the axes that a letter is wide and two lines are high."""
_RASTER = 20_000
"""More cells than this are pixels in the file."""


def draw_heatmap(dataset: Dataset, x: str, y: str, value: str, band: str) -> Figure:
    """Draw a value in colours; where there is no design the map is hatched.

    Raises:
        ValueError: if there is no value to draw.
    """
    from matplotlib.colors import LogNorm, Normalize

    spread = spread_of(dataset, value, band)
    numbers = _grid(dataset, spread.centre, x, y)
    if not np.any(np.isfinite(numbers)):
        raise ValueError(f"there is nothing to draw: {value!r} has no value in this sweep")
    log = needs_log(numbers)
    scale = scale_of(spread.centre.rename(value), numbers, log=log)
    figure, axes = _map(dataset, x, y)
    image = _cells(axes, dataset, x, y, numbers * scale.factor, "cividis")
    image.set_norm(LogNorm() if log else Normalize())
    bar = figure.colorbar(image, ax=axes, pad=0.02, aspect=18)
    label = scale.label
    if spread.outage > 0:
        label = f"{label}, up to {percent(spread.outage, 2)} outage"
    bar.set_label(label)
    bar.outline.set_visible(False)
    if log:
        log_ticks(bar.ax.yaxis, numbers * scale.factor)
    if np.any(~np.isfinite(numbers)):
        _legend(axes, [_patch(_reason(dataset, numbers, x, y), None)])
    return figure


def draw_phases(dataset: Dataset, x: str, y: str) -> Figure:
    """Draw which stage gets more rounds than it must; what is infeasible is hatched.

    Raises:
        ValueError: if an axis of draws is not fixed.
    """
    from matplotlib.colors import BoundaryNorm, ListedColormap

    codes = winners(dataset)
    for name in codes.dims:
        if is_random(dataset, str(name)):
            raise ValueError(
                f"kind 'phase' draws one design: fix the axis {name} with --at {name}=N"
            )
    grid = _grid(dataset, codes, x, y)
    figure, axes = _map(dataset, x, y)
    image = _cells(axes, dataset, x, y, grid, ListedColormap(_STAGE_COLOURS))
    image.set_norm(BoundaryNorm(np.arange(-0.5, len(STAGES)), len(STAGES)))
    listed = []
    for code, name in enumerate(STAGES):
        if np.any(grid == code) and not _name_region(axes, dataset, x, y, grid == code, code):
            listed.append(_patch(name, _STAGE_COLOURS[code]))
    if np.any(np.isnan(grid)):
        listed.append(_patch(_reason(dataset, grid, x, y), None))
    if listed:
        _legend(axes, listed)
    return figure


def _map(dataset: Dataset, x: str, y: str) -> tuple[Figure, Axes]:
    figure = new_figure(2.6)
    axes = figure.subplots()
    for place, name in ((across, x), (upwards, y)):
        _, positions, scale = axis_of(dataset, name)
        place(axes, positions, scale)
    # Behind the cells: it shows where there are none.
    axes.patch.set(facecolor="white", edgecolor=GREY, hatch="/////", linewidth=0)
    axes.tick_params(length=2.5)
    return figure, axes


def _grid(dataset: Dataset, array: DataArray, x: str, y: str) -> np.ndarray:
    """Numbers (len(y), len(x))."""
    dims = [axis_of(dataset, name)[0] for name in (y, x)]
    return np.asarray(array.transpose(*dims).values, dtype=np.float64)


def _borders(dataset: Dataset, name: str) -> np.ndarray:
    _, positions, scale = axis_of(dataset, name)
    return edges(shown(positions, scale), log=scale.log)


def _cells(
    axes: Axes, dataset: Dataset, x: str, y: str, numbers: np.ndarray, colours: str | Colormap
) -> QuadMesh:
    return axes.pcolormesh(
        _borders(dataset, x),
        _borders(dataset, y),
        np.ma.masked_invalid(numbers),
        cmap=colours,
        rasterized=numbers.size > _RASTER,
        edgecolors="face",
        linewidth=0.1,
    )


def _reason(dataset: Dataset, numbers: np.ndarray, x: str, y: str) -> str:
    """What is said of the cells without a number."""
    flags = is_infeasible(dataset)
    if flags is None or any(is_random(dataset, str(name)) for name in flags.dims):
        return "no design"
    infeasible = _grid(dataset, flags, x, y) > 0
    return "infeasible" if np.all(infeasible[np.isnan(numbers)]) else "infeasible or failed"


def _patch(name: str, colour: str | None) -> Patch:
    from matplotlib.patches import Patch

    if colour is None:
        return Patch(facecolor="white", edgecolor=GREY, hatch="/////", linewidth=0, label=name)
    return Patch(facecolor=colour, label=name)


def _legend(axes: Axes, patches: list[Patch]) -> None:
    legend_above(axes, handles=patches, borderpad=0.2, handlelength=1.4, columnspacing=1.2)


def _name_region(
    axes: Axes, dataset: Dataset, x: str, y: str, inside: np.ndarray, code: int
) -> bool:
    """Write a region's name where it is widest; False where it does not fit."""
    row, column, side = _widest(inside)
    name = STAGES[code]
    longest = max(len(part) for part in name.split())
    if side / inside.shape[1] < _LETTER * longest or side / inside.shape[0] < _LINES:
        return False
    borders = [_borders(dataset, x), _borders(dataset, y)]
    logs = [axis_of(dataset, one)[2].log for one in (x, y)]
    across_at, up_at = (_middle(*one) for one in zip(borders, (column, row), logs, strict=True))
    text = name.replace(" ", "\n")
    axes.text(across_at, up_at, text, ha="center", va="center", color=_ON_STAGES[code])
    return True


def _widest(inside: np.ndarray) -> tuple[float, float, int]:
    """Row and column of the middle of the largest square inside, in cells, and its side."""
    side = np.zeros((inside.shape[0] + 1, inside.shape[1] + 1), dtype=int)
    for i, j in np.argwhere(inside):
        side[i + 1, j + 1] = 1 + min(side[i, j], side[i, j + 1], side[i + 1, j])
    width = int(side.max())
    i, j = np.argwhere(side == width)[0]
    return float(i) - width / 2, float(j) - width / 2, width


def _middle(borders: np.ndarray, at: float, log: bool) -> float:
    """The position ``at`` cells from the first border."""
    steps = np.arange(len(borders))
    if log:
        return float(np.exp(np.interp(at, steps, np.log(borders))))
    return float(np.interp(at, steps, borders))
