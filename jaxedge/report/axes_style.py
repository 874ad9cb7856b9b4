"""Axes of sweeps' figures: labels, logarithmic ticks, edges of cells, labels beside lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxedge.report.figure_style import spread
from jaxedge.report.sweep_views import Scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

_LINE_HEIGHT = 0.125
"""Inches between lines of text."""
_WIDE = 10.0
"""Above this ratio of greatest to least value an axis of values is logarithmic."""
_APART = 1.3
"""Ratio of neighbours on a logarithmic axis from which their numbers do not touch."""
_SUBS = (
    (3.0, (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)),
    (10.0, (1.0, 2.0, 3.0, 5.0)),
    (100.0, (1.0, 2.0, 5.0)),
    (float("inf"), (1.0,)),
)
"""Ratio of greatest to least value -> ticks of a logarithmic axis in each decade."""


def shown(values: np.ndarray, scale: Scale) -> np.ndarray:
    """Values as the axis shows them."""
    return values if scale.ticks is not None else values * scale.factor


def needs_log(values: np.ndarray) -> bool:
    """Whether values span so much that a linear axis would hide the small ones."""
    finite = values[np.isfinite(values)]
    return bool(finite.size and finite.min() > 0 and finite.max() > _WIDE * finite.min())


def across(axes: Axes, values: np.ndarray, scale: Scale) -> None:
    """Label and ticks of the horizontal axis, whose limits are set."""
    axes.set_xlabel(scale.label)
    if scale.log:
        axes.set_xscale("log")
    _ticks(axes.xaxis, values, scale)


def upwards(axes: Axes, values: np.ndarray, scale: Scale) -> None:
    """Label and ticks of the vertical axis, whose limits are set."""
    axes.set_ylabel(scale.label)
    if scale.log:
        axes.set_yscale("log")
    _ticks(axes.yaxis, values, scale)


def _ticks(axis: Axis, values: np.ndarray, scale: Scale) -> None:
    from matplotlib.ticker import MaxNLocator

    if scale.ticks is not None:
        axis.set_ticks(list(values), labels=list(scale.ticks))
    elif scale.log:
        log_ticks(axis, shown(values, scale))
    else:
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))


def log_ticks(axis: Axis, values: np.ndarray) -> None:
    """Ticks of a logarithmic axis: powers of ten over many decades, more of them over few."""
    from matplotlib.ticker import FuncFormatter, LogFormatterSciNotation, LogLocator, NullFormatter

    finite = values[np.isfinite(values) & (values > 0)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (1.0, 10.0)
    subs = next(subs for ratio, subs in _SUBS if high <= ratio * low)
    axis.set_major_locator(LogLocator(subs=subs, numticks=8))
    plain = low >= 1e-3 and high < 1e5
    words = FuncFormatter(lambda x, _: f"{x:g}") if plain else LogFormatterSciNotation()
    axis.set_major_formatter(words)
    axis.set_minor_formatter(NullFormatter())


def plain_ticks(axis: Axis, values: np.ndarray) -> None:
    """Ticks at the values themselves, in plain numbers, where they are far enough apart."""
    from matplotlib.ticker import NullFormatter, NullLocator

    values = np.sort(values)
    if len(values) > 1 and np.min(values[1:] / values[:-1]) < _APART:
        log_ticks(axis, values)
        return
    axis.set_ticks(list(values), labels=[f"{value:.3g}" for value in values])
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def edges(values: np.ndarray, *, log: bool) -> np.ndarray:
    """Borders (n + 1,) of cells around ascending or descending positions (n,)."""
    middle = np.log(values) if log else np.asarray(values, dtype=np.float64)
    if len(middle) == 1:
        found = np.array([middle[0] - 0.5, middle[0] + 0.5])
    else:
        inner = (middle[1:] + middle[:-1]) / 2
        found = np.concatenate([[2 * middle[0] - inner[0]], inner, [2 * middle[-1] - inner[-1]]])
    return np.exp(found) if log else found


def legend_above(axes: Axes, *, left: float = 0.0, ncols: int = 2, **options: Any) -> None:
    """Put the legend above the axes, from ``left`` in shares of their width."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(left, 1.0),
        ncols=ncols,
        frameon=False,
        borderaxespad=0.2,
        **options,
    )


def label_ends(
    axes: Axes, ends: list[tuple[str, float, float, str]], title: str | None = None
) -> None:
    """Name lines at the right of the axes, whose limits are set, with a leader from each end.

    Args:
        axes: where the lines are.
        ends: name, last position (x, y) in data units, colour.
        title: written above the names.
    """
    to_share = axes.transData + axes.transAxes.inverted()
    placed = sorted(
        ((*to_share.transform((x, y)), name, colour) for name, x, y, colour in ends),
        key=lambda item: item[1],
    )
    height = axes.get_window_extent().height / axes.figure.dpi
    apart = _LINE_HEIGHT / max(height, 1e-6)
    places = spread([item[1] for item in placed], apart, 0.0, max(1.0, apart * (len(placed) - 1)))
    for (x, y, name, colour), place in zip(placed, places, strict=True):
        axes.plot(
            [x, max(x, 1.0), 1.05],
            [y, y, place],
            transform=axes.transAxes,
            color=colour,
            linewidth=0.6,
            clip_on=False,
        )
        axes.text(1.07, place, name, transform=axes.transAxes, va="center")
    if title is not None:
        place = places[-1] + apart
        axes.text(1.07, place, title, transform=axes.transAxes, va="center", style="italic")
