"""Lines over one axis of a sweep, with bands over random axes and a name beside each line."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxedge.report.axes_style import across, label_ends, needs_log, shown, upwards
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
from jaxedge.report.sweep_views import Scale, axis_of, scale_of, spread_of, words
from jaxedge.words.quantities import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from xarray import Dataset

JOINT = "joint design"
_COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK)
_DASHES = ("-", "--", "-.", ":")
_THIN, _STEP = 1.2, 1.3
"""Points: width of a line, and how much broader one is on which another lies."""
_SAME = 0.01
"""Share of the values' span within which lines lie on each other."""
_MOST = 12
"""Lines in one figure."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Line:
    name: str
    values: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None


def draw_lines(dataset: Dataset, x: str, series: str | None, value: str, band: str) -> Figure:
    """Draw a value over an axis: one line, one per value of ``series``, or one per scheme.

    Raises:
        ValueError: if there are too many lines, or no value to draw.
    """
    lines, outage = _lines(dataset, x, series, value, band)
    every = np.concatenate([_all(line) for line in lines])
    if not np.any(np.isfinite(every)):
        raise ValueError(f"there is nothing to draw: {value!r} has no value in this sweep")
    array = spread_of(dataset, value, band).centre.rename(value)
    scale = scale_of(array, every, log=needs_log(every))
    figure = new_figure(2.3)
    axes = figure.subplots()
    _, positions, along = axis_of(dataset, x)
    across(axes, positions, along)
    places = shown(positions, along)
    ends = [
        _draw(axes, places, line, scale, style, width)
        for line, style, width in zip(lines, _styles(), _widths(lines), strict=False)
    ]
    axes.margins(x=0.02)
    if any(line.low is not None for line in lines):
        scale = dataclasses.replace(scale, label=f"mean {scale.label}")
        _tell_draws(axes, band, outage)
    upwards(axes, every, scale)
    if len(ends) > 1:
        figure.draw_without_rendering()  # the layout, on which the labels' places depend
        title = None if series is None else axis_of(dataset, series)[2].label.partition(" (")[0]
        label_ends(axes, [end for end in ends if end is not None], title)
    return figure


def _tell_draws(axes: Axes, band: str, outage: float) -> None:
    """Say above the axes what the band is, and how many draws it leaves out."""
    text = "band: 5 % to 95 % of draws" if band == "quantile" else "band: 95 % interval of the mean"
    if outage > 0:
        text += f"; up to {percent(outage, 2)} without a design"
    axes.set_title(text, loc="left", fontsize=7)


def _styles() -> list[tuple[str, str]]:
    count = len(_COLOURS)
    return [(_COLOURS[i % count], _DASHES[i // count + i % 2 * 2]) for i in range(_MOST)]


def _widths(lines: list[_Line]) -> list[float]:
    """Points: a line on which later ones lie somewhere is broader than each of them."""
    every = np.concatenate([line.values for line in lines])
    apart = _SAME * np.ptp(every[np.isfinite(every)])
    widths: list[float] = []
    for line in reversed(lines):
        on_it = [
            width
            for width, later in zip(widths, reversed(lines), strict=False)
            if np.sum(np.abs(later.values - line.values) <= apart) > 1
        ]
        widths.append(max(on_it, default=_THIN - _STEP) + _STEP)
    return widths[::-1]


def _all(line: _Line) -> np.ndarray:
    parts = [part for part in (line.values, line.low, line.high) if part is not None]
    return np.concatenate(parts)


def _lines(
    dataset: Dataset, x: str, series: str | None, value: str, band: str
) -> tuple[list[_Line], float]:
    """The lines, and the largest share of draws without a design."""
    dimension = axis_of(dataset, x)[0]
    if series is not None:
        return _along(dataset, dimension, series, value, band)
    spread = spread_of(dataset, value, band)
    lines = [_line(spread, words(value), {}, dimension)]
    held = [name for name in ("scheme_bound", "scheme_bound_mean") if name in dataset]
    if value != "bound" or not held:
        return lines, spread.outage
    schemes = spread_of(dataset, "scheme_bound", band)
    lines[0] = dataclasses.replace(lines[0], name=JOINT)
    names = [str(name) for name in dataset.coords["scheme"].values]
    lines += [_line(schemes, n, {"scheme": i}, dimension) for i, n in enumerate(names)]
    return [line for line in lines if np.any(np.isfinite(line.values))], spread.outage


def _along(
    dataset: Dataset, dimension: str, series: str, value: str, band: str
) -> tuple[list[_Line], float]:
    second, positions, scale = axis_of(dataset, series)
    if len(positions) > _MOST:
        raise ValueError(
            f"{series!r} has {len(positions)} values, and lines show at most {_MOST}: "
            "take kind 'heatmap', or fix it with --at"
        )
    spread = spread_of(dataset, value, band)
    names = _names(scale, positions)
    lines = [_line(spread, name, {second: i}, dimension) for i, name in enumerate(names)]
    return lines, spread.outage


def _names(scale: Scale, positions: np.ndarray) -> list[str]:
    """Values of the second axis with their unit: "300 s"."""
    if scale.ticks is not None:
        return list(scale.ticks)
    unit = scale.label.removesuffix(")").partition(" (")[2]
    return [f"{number * scale.factor:.4g} {unit}".strip() for number in positions]


def _line(spread: Any, name: str, at: dict[str, int], dimension: str) -> _Line:
    def part(array: Any) -> np.ndarray | None:
        if array is None:
            return None
        return np.asarray(array.isel(at).transpose(dimension).values, dtype=np.float64)

    centre = part(spread.centre)
    assert centre is not None
    return _Line(name=name, values=centre, low=part(spread.low), high=part(spread.high))


def _draw(
    axes: Axes,
    places: np.ndarray,
    line: _Line,
    scale: Scale,
    style: tuple[str, str],
    width: float,
) -> tuple[str, float, float, str] | None:
    """Draw one line and its band; its name and end for a label."""
    colour, dashes = style
    values = line.values * scale.factor
    if line.low is not None and line.high is not None:
        low, high = line.low * scale.factor, line.high * scale.factor
        axes.fill_between(places, low, high, color=colour, alpha=0.2, linewidth=0)
    few = len(places) <= 12
    axes.plot(
        places,
        values,
        dashes,
        color=colour,
        linewidth=width,
        marker="o" if few else "",
        markersize=1.3 + width,
    )
    held = np.flatnonzero(np.isfinite(values))
    if not held.size:
        return None
    return line.name, float(places[held[-1]]), float(values[held[-1]]), colour
