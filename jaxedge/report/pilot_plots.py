"""The figure of a pilot: what its legs measured, the fit, and what is predicted of a design."""

from __future__ import annotations

from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from jaxedge.system.allocation import Allocation
    from jaxedge.training.calibration.prediction import Forecast
    from jaxedge.training.calibration.spectrum import SpectrumCalibration


def plot_pilot(
    found: SpectrumCalibration, path: PathLike | None = None, *, design: Allocation | None = None
) -> Figure:
    """Draw the pilot's losses with their fit and, of a design, the predicted loss.

    Args:
        found: a calibrated spectrum.
        path: a file to write too, PNG, PDF or SVG by its suffix.
        design: rounds and batches; its loss along the rounds is drawn with its interval of 95 %,
            dashed where it is extrapolated.

    Raises:
        ValueError: if the file cannot be written.
    """
    if path is not None:
        check_figure_path(path)
    with styled():
        count = 1 if design is None else 2
        figure = new_figure(2.0, count * COLUMN)
        panels = figure.subplots(1, count, squeeze=False)[0]
        _draw_legs(panels[0], found)
        if design is not None:
            _draw_design(panels[1], found.forecast, design)
        panels[0].set_ylabel("devices' training loss $F$")
        if path is not None:
            save(figure, path)
    return figure


def _draw_legs(axes: Axes, found: SpectrumCalibration) -> None:
    """Dots as measured, lines as fitted; later legs lie behind the rounds before their branch."""
    ends = np.cumsum([0, *(len(leg.loss) for leg in found.pilot.legs)])
    for leg, first, last in zip(found.pilot.legs, ends[:-1], ends[1:], strict=True):
        rounds = leg.pretraining_rounds + leg.finetuning_rounds
        colour = VERMILION if leg.fine else BLUE
        fit = leg.loss * (1 - found.fit.residuals[first:last])
        axes.plot(rounds, leg.loss, ".", color=colour, markersize=2.2, alpha=0.6)
        axes.plot(rounds, fit, color=colour, linewidth=0.9)
    axes.plot([], [], color=BLUE, label="pre-training")
    axes.plot([], [], color=VERMILION, label="fine-tuning")
    axes.plot([], [], ".", color=GREY, markersize=3, label="measured; lines: fit")
    axes.set(xlabel="rounds of the pilot", ylim=(0, None))
    axes.legend(loc="lower left")


def _draw_design(axes: Axes, forecast: Forecast, design: Allocation) -> None:
    along, told = forecast.curve(design)
    rounds = along.pretraining_rounds + along.finetuning_rounds
    for fine, colour in ((False, BLUE), (True, VERMILION)):
        # The second stage begins where the first has ended.
        after = along.finetuning_rounds > 0
        some = ~after if not fine else after | np.append(after[1:], False)
        axes.fill_between(rounds[some], told.low[some], told.high[some], color=colour, alpha=0.2)
        for beyond, line in ((False, "-"), (True, "--")):
            shown = np.where(told.extrapolated == beyond, told.loss, np.nan)
            axes.plot(rounds[some], shown[some], line, color=colour, linewidth=1.1)
    if told.extrapolated.any():
        start = rounds[int(np.argmax(told.extrapolated))]
        axes.axvline(start, color=GREY, linewidth=0.8, zorder=0)
        place = axes.get_xaxis_transform()
        axes.text(start, 0.97, "extrapolated ", fontsize=6.5, transform=place, ha="right", va="top")
    axes.set(xlabel="rounds of the design", ylim=(0, None))
    axes.set_title("predicted, with its interval of 95 %", fontsize=7)
