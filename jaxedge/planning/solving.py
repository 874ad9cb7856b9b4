"""One call for every problem and solver: relaxed optima of a batch, each with its certificate."""

from __future__ import annotations

from jaxedge.answers.batch import Answers
from jaxedge.custom.limits import OwnCases
from jaxedge.planning.entry import plan_batch
from jaxedge.planning.question import checked_gap
from jaxedge.relaxation.solvers import DUAL_DECOMPOSITION, SOLVERS, solver_named
from jaxedge.scenario.scenario import Scenario
from jaxedge.words.progress import Progress

_OF_OWN = SOLVERS["interior-point"]
"""What solves users' own problems: it asks for their functions and nothing else."""


def solve(
    problem: Scenario | OwnCases,
    solver: str | None = None,
    *,
    gap: float | None = None,
    warm_start: Answers | None = None,
    progress: Progress | None = None,
) -> Answers:
    """The relaxed optima (real rounds and batches) of B problems, judged alike in float64.

    One element that is infeasible, hopeless or not a number changes nothing for the others: each
    has its own status, certificate and multipliers.

    Args:
        problem: scenarios stacked along a leading axis (B,), for the two-stage problem; or
            ``OwnProblem(...).on(scenarios, own)`` for a problem of one's own. Integers and float32
            are promoted to float64.
        solver: a name in `jaxedge.relaxation.solvers.SOLVERS`, by default
            "dual-decomposition"; own problems are solved by the default "interior-point" alone.
        gap: certified relative gap at which an answer is called optimal; by default the solver's.
        warm_start: answers to B neighbouring scenarios, from which the dual decomposition begins
            (`Answers.take` repeats one for many); it changes the time, not what is certified.
        progress: called with (text, fraction or None) while it works.

    Returns:
        Arrays with a leading axis (B,); ``status`` holds positions in
        `jaxedge.answers.batch.STATUSES`.

    Raises:
        ValueError: for scenarios or an option that does not fit, naming it.
    """
    if isinstance(problem, Scenario):
        name = DUAL_DECOMPOSITION.name if solver is None else solver
        return plan_batch(
            problem, solver=name, relaxed=True, gap=gap, warm_start=warm_start, progress=progress
        )
    if not isinstance(problem, OwnCases):
        raise ValueError(
            f"problem: {type(problem).__name__} must be a Scenario with a leading axis, or what "
            "OwnProblem.on gives"
        )
    if solver is not None and solver_named(solver) is not _OF_OWN:
        raise ValueError(f"solver: own problems are solved by {_OF_OWN.name!r}, not by {solver!r}")
    if warm_start is not None:
        raise ValueError("warm_start: own problems do not begin from prices: leave it out")
    return problem.answers(_OF_OWN.gap if gap is None else checked_gap(gap))
