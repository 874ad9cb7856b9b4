"""The questions of a study, in the order of its page."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from jaxedge.study import (
    comparison,
    convergence,
    growth,
    map_figures,
    phase,
    scheme_figures,
    surface,
)
from jaxedge.study.sizes import Size
from jaxedge.study.table import Table
from jaxedge.words.progress import Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """One question: how its data are computed, drawn, and put in a sentence."""

    name: str
    """Of its files."""
    asks: str
    """The question."""
    caption: str
    """What the figure shows."""
    compute: Callable[[Table, Size, Progress], Table]
    """(constants, size, progress) -> data."""
    draw: Callable[[Table], Figure]
    finding: Callable[[Table], str]
    """The answer, with numbers from the data."""


def _comparison(along: comparison.Along) -> Question:
    return Question(
        name=along.name,
        asks=f"What does the {along.words} do to the bound and to the real accuracy?",
        caption=(
            f"Bound (above) and accuracy of real training (below) against the {along.words}: means "
            "over channel draws (geometric ones of the bound), bands are 95 % intervals of the "
            "mean. The broad black line is the joint design."
        ),
        compute=partial(comparison.compute, along),
        draw=partial(scheme_figures.draw_comparison, along=along),
        finding=partial(comparison.finding, along=along),
    )


QUESTIONS: dict[str, Question] = {
    item.name: item
    for item in (
        *(_comparison(along) for along in comparison.ALONG),
        Question(
            name="growth",
            asks="How do rounds, batches, clocks and powers move as the budgets grow?",
            caption=(
                "Joint design: means over channel draws, bands from 5 % to 95 % of the draws. A "
                "stage that gets a single round has no batch, clock or power here."
            ),
            compute=growth.compute,
            draw=map_figures.draw_growth,
            finding=growth.finding,
        ),
        Question(
            name="phase",
            asks="When does pre-training pay?",
            caption=(
                "Which stage the relaxed optimum runs, over discrepancy and delay budget; lines: "
                "the threshold in closed form for three energy budgets; rings: where the optimiser "
                "itself switches, found by bisection."
            ),
            compute=phase.compute,
            draw=map_figures.draw_phase,
            finding=phase.finding,
        ),
        Question(
            name="surface",
            asks="What do accuracy, delay and energy cost in each other?",
            caption=(
                "The Pareto surface: the best accuracy of real training that any scheme's design "
                "reaches within a delay and an energy; lines are its fronts of equal accuracy, "
                "marks the designs on it."
            ),
            compute=surface.compute,
            draw=map_figures.draw_surface,
            finding=surface.finding,
        ),
        Question(
            name="convergence",
            asks="How does real training converge against seconds and joules?",
            caption=(
                "Accuracy of real training by what was spent: means over channel draws and seeds, "
                "bands are 95 % intervals of the mean; a run that has ended keeps its accuracy."
            ),
            compute=convergence.compute,
            draw=scheme_figures.draw_convergence,
            finding=convergence.finding,
        ),
    )
}
"""By name."""
