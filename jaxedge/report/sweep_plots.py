"""Figures of a sweep, straight from its dataset, for one column of a two-column paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jaxedge.report.figure_style import PathLike, check_figure_path, save, styled
from jaxedge.report.line_plots import draw_lines
from jaxedge.report.map_plots import draw_heatmap, draw_phases
from jaxedge.report.pareto_plots import draw_pareto
from jaxedge.report.sweep_views import BANDS, axes_of, axis_of, fixed, is_random, spread_of
from jaxedge.words.choices import choice

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xarray import Dataset

KINDS = ("lines", "heatmap", "phase", "pareto")
_OWN = ("device", "scheme", "quantile")
"""Dimensions that are no axes of the sweep."""


def plot_sweep(
    dataset: Dataset,
    path: PathLike | None = None,
    *,
    kind: str | None = None,
    x: str | None = None,
    y: str | None = None,
    value: str | None = None,
    at: Mapping[str, Any] | None = None,
    band: str = BANDS[0],
) -> Figure:
    """Draw a sweep.

    Args:
        dataset: as a sweep gives it: axes as dimensions, units in the attributes.
        path: a file to write too, PNG, PDF or SVG by its suffix; None only returns the figure.
        kind: "lines" (bands over random axes, a line per scheme or per value of a second axis),
            "heatmap", "phase" (which stage gets more rounds than it must), or "pareto" (designs
            that none beats in all of x, y and value); by default lines for one axis and a heat map
            for two.
        x: axis across; of "pareto" a quantity.
        y: axis upwards, or of the lines' second axis; of "pareto" a quantity.
        value: what is shown, "bound" by default; of "pareto" the colour.
        at: axis -> value at which the figure cuts; the nearest there is.
        band: over random axes "quantile" (5 % to 95 %) or "confidence" (of the mean, 95 %).

    Raises:
        ValueError: if something named is not there, the kind needs other axes, or the file cannot
            be written as asked.
    """
    if path is not None:
        check_figure_path(path)
    choice("band", band, BANDS)
    cut = fixed(dataset, at or {})
    if kind is not None:
        choice("kind", kind, KINDS)
    with styled():
        if kind == "pareto":
            figure = draw_pareto(cut, x or "energy", y or "bound", value or "delay")
        else:
            figure = _over_axes(cut, kind, x, y, value or "bound", band)
        if path is not None:
            save(figure, path)
    return figure


def _over_axes(
    dataset: Dataset, kind: str | None, x: str | None, y: str | None, value: str, band: str
) -> Figure:
    if kind == "phase":
        across, up = _two(dataset, kind, [str(d) for d in dataset.dims if d not in _OWN], x, y)
        return draw_phases(dataset, across, up)
    free = [str(name) for name in spread_of(dataset, value, band).centre.dims]
    kind = kind or ("lines" if sum(name not in _OWN for name in free) < 2 else "heatmap")
    if kind == "heatmap":
        across, up = _two(dataset, kind, free, x, y)
        return draw_heatmap(dataset, across, up, value, band)
    across, series = _one(dataset, free, x, y)
    return draw_lines(dataset, across, series, value, band)


def _two(
    dataset: Dataset, kind: str, free: list[str], x: str | None, y: str | None
) -> tuple[str, str]:
    """The axes across and upwards, all others being fixed or random."""
    across, up = _named(dataset, free, x, y)
    if across is None or up is None:
        listed = ", ".join(free) or "none"
        raise ValueError(f"kind {kind!r} needs two axes, and the sweep has: {listed}")
    _check_none_left(dataset, free, across, up)
    return across, up


def _one(dataset: Dataset, free: list[str], x: str | None, y: str | None) -> tuple[str, str | None]:
    across, series = _named(dataset, free, x, y)
    if across is None:
        raise ValueError("kind 'lines' needs an axis, and there is none left")
    _check_none_left(dataset, free, across, series)
    return across, series


def _named(
    dataset: Dataset, free: list[str], x: str | None, y: str | None
) -> tuple[str | None, str | None]:
    """What is asked for, completed with the axes that are free."""
    taken = {axis_of(dataset, name)[0] for name in (x, y) if name is not None}
    if x is not None and y is not None and len(taken) < 2:
        raise ValueError(f"x and y are one axis, {x!r} and {y!r}: choose two of {axes_of(dataset)}")
    # Draws come last: they are no axis to look along.
    left = iter(
        name for name in sorted(free, key=lambda one: is_random(dataset, one)) if name not in taken
    )
    return x or next(left, None), y or next(left, None)


def _check_none_left(dataset: Dataset, free: list[str], *used: str | None) -> None:
    taken = {axis_of(dataset, name)[0] for name in used if name is not None}
    left = [name for name in free if name not in taken]
    if left:
        drawn = [name for name in left if is_random(dataset, name)]
        named = f"random axis {drawn[0]!r}" if drawn else f"axis {left[0]!r}"
        raise ValueError(f"the {named} is left over: fix it with --at {left[0]}=VALUE")
