"""A planning question: what was asked, with every option checked and defaults filled in."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from jaxedge.answers.batch import Answers
from jaxedge.bounds.base import Bound
from jaxedge.bounds.registry import BOUNDS, DEFAULT, bound_named
from jaxedge.planning.schemes import JOINT, schemes_of
from jaxedge.program.responses import Prices
from jaxedge.relaxation.solvers import DUAL_DECOMPOSITION, SOLVERS, Solver, solver_named
from jaxedge.scenario.scenario import Scenario
from jaxedge.words.choices import choice
from jaxedge.words.progress import Progress, no_progress


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """What the user asked for, with defaults filled in."""

    bound: Bound
    solver: Solver
    """Of the relaxation; integer designs are searched by the dual decomposition from there."""
    relaxed: bool
    gap: float
    max_nodes: int
    """Nodes that branch and bound may visit."""
    progress: Progress
    designs: tuple[str, ...] = (JOINT,)
    """Names of what is planned for each scenario, the joint design and benchmarks."""
    warm_start: Prices | None = None
    """Where the relaxation begins, a row for each program."""


INTEGER_GAP = 1e-3
"""Certified relative gap at which an integer design counts as optimal unless asked otherwise."""


_NODES_UNASKED, _NODES_ASKED = 300, 20_000
"""Nodes of branch and bound for each scenario by default, and where a gap is asked for."""


def check_options(
    scenario: Scenario,
    *,
    bound: str = DEFAULT,
    solver: str = DUAL_DECOMPOSITION.name,
    relaxed: bool = False,
    gap: float | None = None,
) -> None:
    """Check the options of `plan_batch` for scenarios like a valid one, without planning.

    Raises:
        ValueError: if an option is not valid.
    """
    question(bound, solver, relaxed, gap).bound.check(scenario)


def question(
    bound: str,
    solver: str,
    relaxed: bool,
    gap: float | None,
    schemes: bool | Sequence[str] = False,
    progress: Progress | None = None,
) -> Asked:
    """The options as given, checked and completed.

    Raises:
        ValueError: if an option is not valid.
    """
    objective, chosen = bound_named(bound), solver_named(solver)
    if objective.outer and not chosen.searches:
        able = " and ".join(name for name, item in BOUNDS.items() if not item.outer)
        raise ValueError(f"solver: {solver!r} plans the {able} bound only, not {bound!r}")
    real = checked_flag("relaxed", relaxed)
    default = max(chosen.gap, objective.relaxed_gap) if real else INTEGER_GAP
    nodes = _NODES_ASKED if gap is not None else _NODES_UNASKED
    return Asked(
        bound=objective,
        solver=chosen,
        relaxed=real,
        gap=default if gap is None else checked_gap(gap),
        max_nodes=0 if real else nodes,
        progress=checked_progress(progress),
        designs=(JOINT, *checked_schemes(objective, schemes)),
    )


def neighbours(answers: Answers, asked: Asked, shape: tuple[int, ...]) -> Prices:
    """The prices to begin from, once they fit the question."""
    if not isinstance(answers, Answers):
        raise ValueError(f"warm_start: {type(answers).__name__} must be earlier Answers")
    if not asked.solver.begins_from_prices or asked.bound.outer:
        able = " or ".join(repr(item.name) for item in SOLVERS.values() if item.begins_from_prices)
        raise ValueError(
            f"warm_start: only {able} for the two-stage bound begins from prices, not "
            f"{asked.solver.name!r} for the {asked.bound.name} bound"
        )
    if asked.designs != (JOINT,):
        raise ValueError("warm_start: prices are those of joint designs; leave the schemes out")
    if answers.prices is None or np.shape(answers.prices.device_time) != shape:
        found = None if answers.prices is None else np.shape(answers.prices.device_time)
        raise ValueError(
            f"warm_start: its prices have shape {found}, but must have (B, K) = {shape}"
        )
    return answers.prices


def checked_schemes(bound: Bound, schemes: object) -> tuple[str, ...]:
    """The names of the benchmarks asked for, in their order.

    Raises:
        ValueError: unless it is True, False, or names of benchmarks that the bound has.
    """
    known = schemes_of(bound)
    if isinstance(schemes, bool | np.bool_):
        return known if schemes else ()
    if isinstance(schemes, str) or not isinstance(schemes, Iterable):
        raise ValueError(f"schemes: {schemes!r:.60} must be True, False, or a list of names")
    wanted = {choice("scheme", str(name), known) for name in schemes}
    return tuple(name for name in known if name in wanted)


def checked_flag(name: str, value: object) -> bool:
    """True or False, as Python or NumPy has them.

    Raises:
        ValueError: for anything else, which would count as one of them by accident.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name}: {value!r:.60} must be True or False")
    return bool(value)


def checked_gap(gap: object) -> float:
    """The gap asked for, as a float.

    Raises:
        ValueError: unless it is a number between 0 and 1.
    """
    if not (isinstance(gap, float | np.floating) and 0 < gap < 1):
        raise ValueError(f"gap: {gap!r:.60} must be a number between 0 and 1, such as 1e-4")
    return float(gap)


def checked_progress(progress: Progress | None) -> Progress:
    """What is told how far the work is; nothing is told where it is None.

    Raises:
        ValueError: if it cannot be called.
    """
    if progress is not None and not callable(progress):
        raise ValueError(f"progress: {progress!r:.60} must be a function of (text, fraction)")
    return no_progress if progress is None else progress
