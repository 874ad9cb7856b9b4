"""A planning question: what was asked, with every option checked and defaults filled in."""

from __future__ import annotations

import dataclasses
import difflib
import math

import numpy as np

from jaxedge.answers.batch import Answers
from jaxedge.bounds.registry import bound_named
from jaxedge.program.responses import Prices
from jaxedge.relaxation.solvers import GAPS, SOLVERS
from jaxedge.scenario.scenario import Scenario
from jaxedge.words.callbacks import Progress, no_progress


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """What the user asked for, with defaults filled in."""

    bound: str
    solver: str
    """Of the relaxation; integer designs are searched by the dual decomposition from there."""
    relaxed: bool
    gap: float
    max_nodes: int
    """Nodes that branch and bound may visit."""
    progress: Progress
    warm_start: Prices | None = None
    """Where the relaxation begins, a row for each program."""


INTEGER_GAP = 1e-3
"""Certified relative gap at which an integer design counts as optimal unless asked otherwise."""


_NODES_UNASKED, _NODES_ASKED = 300, 20_000
"""Nodes of branch and bound for each scenario by default, and where a gap is asked for."""


def neighbours(answers: Answers, asked: Asked, shape: tuple[int, ...]) -> Prices:
    """The prices to begin from, once they fit the question."""
    if asked.solver != SOLVERS[0] or asked.bound != "two-stage":
        raise ValueError(
            f"warm_start: only {SOLVERS[0]!r} for the two-stage bound begins from prices, not "
            f"{asked.solver!r} for the {asked.bound} bound"
        )
    if answers.prices is None or np.shape(answers.prices.device_time) != shape:
        found = None if answers.prices is None else np.shape(answers.prices.device_time)
        raise ValueError(
            f"warm_start: its prices have shape {found}, but must have (B, K) = {shape}"
        )
    return answers.prices


def check_options(
    scenario: Scenario,
    *,
    bound: str = "two-stage",
    solver: str = SOLVERS[0],
    relaxed: bool = False,
    gap: float | None = None,
) -> None:
    """Check the options of `answer_batch` for scenarios like a valid one, without planning.

    Raises:
        ValueError: if an option is not valid.
    """
    asked_of(bound, solver, relaxed, gap, None)
    check_bound(scenario, bound)


def asked_of(
    bound: str, solver: str, relaxed: bool, gap: float | None, progress: Progress | None
) -> Asked:
    """The options as given, checked and completed.

    Raises:
        ValueError: if an option is not valid.
    """
    bound_named(bound)
    if solver not in SOLVERS:
        near = difflib.get_close_matches(str(solver), SOLVERS, n=1, cutoff=0.0)[0]
        raise ValueError(f"solver: {solver!r} is not known; did you mean {near!r}?")
    if bound != "two-stage" and solver != SOLVERS[0]:
        raise ValueError(f"solver: {solver!r} plans the two-stage bound only, not {bound!r}")
    default = GAPS[solver] if relaxed else INTEGER_GAP
    nodes = _NODES_ASKED if gap is not None else _NODES_UNASKED
    return Asked(
        bound=bound,
        solver=solver,
        relaxed=bool(relaxed),
        gap=default if gap is None else checked_gap(gap),
        max_nodes=0 if relaxed else nodes,
        progress=no_progress if progress is None else progress,
    )


def checked_gap(gap: float) -> float:
    """The gap asked for, as a float.

    Raises:
        ValueError: unless it is a number between 0 and 1.
    """
    if not (isinstance(gap, int | float) and math.isfinite(gap) and 0 < gap < 1):
        raise ValueError(f"gap: {gap!r} must be a number between 0 and 1, such as 1e-4")
    return float(gap)


def check_bound(scenario: Scenario, bound: str) -> Scenario:
    """The scenario, once it has the constants of the bound."""
    if bound == "fine-tuning" and scenario.learning.pl_constant is None:
        raise ValueError(
            "learning.pl_constant: missing; the fine-tuning bound needs the Polyak-Lojasiewicz "
            "constant mu, with 0 < mu <= smoothness"
        )
    return scenario
