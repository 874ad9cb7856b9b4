"""The entry points: plan one scenario, or many at once."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxedge.answer import Plan
from jaxedge.answers import Answers
from jaxedge.bounds import bound_named
from jaxedge.chunks import take
from jaxedge.compile_ahead import compile_ahead
from jaxedge.designs import Rows, repeated, two_stage_batch, two_stage_rows
from jaxedge.fine_tuning_designs import fine_tuning_rows
from jaxedge.judging import answers_of, plans_of
from jaxedge.pipeline import Asked, Progress, no_progress
from jaxedge.responses import Prices
from jaxedge.scenario import Scenario
from jaxedge.schemes import JOINT
from jaxedge.solvers import GAPS, SOLVERS
from jaxedge.stacking import named, stack, unstack
from jaxedge.validation import batch_shape, validate, validate_batch

INTEGER_GAP = 1e-3
"""Certified relative gap at which an integer design counts as optimal unless asked otherwise."""
_ONE = np.arange(1)
_NODES_UNASKED, _NODES_ASKED = 300, 20_000
"""Nodes of branch and bound for each scenario by default, and where a gap is asked for."""


def plan(
    scenario: Scenario,
    *,
    bound: str = "two-stage",
    solver: str = SOLVERS[0],
    relaxed: bool = False,
    gap: float | None = None,
    schemes: bool = False,
    progress: Progress | None = None,
) -> Plan:
    """The best design of one scenario, with its certificate.

    Args:
        scenario: as built, loaded or taken from a preset; it is validated here.
        bound: "two-stage" (average over both stages) or "fine-tuning" (needs ``pl_constant``).
        solver: of the relaxation: "dual-decomposition", or for the two-stage bound alone
            "interior-point", "augmented-lagrangian" or "convex-approximation" (a slow baseline).
            Every answer is judged alike.
        relaxed: real rounds and batches instead of whole ones.
        gap: certified relative gap to reach, by branch and bound where needed; by default 1e-3 with
            bounded effort for integer designs, and 1e-6 for relaxed ones (other solvers: `GAPS`).
        schemes: compute the benchmark designs, too.
        progress: called with (text, fraction or None) while it works.

    Returns:
        A plan, also where the scenario is infeasible or the solver failed: look at its status.

    Raises:
        ValueError: if the scenario or an option is not valid.
    """
    asked = _asked(bound, solver, relaxed, gap, progress)
    valid = validate(scenario)
    _check_bound(valid, bound)
    with jax.enable_x64(True):
        rows = _rows(repeated(valid, 1), asked, schemes=schemes)
        plans = dict(zip(rows.names, plans_of(rows, asked), strict=True))
    joint = plans.pop(JOINT)
    return dataclasses.replace(joint, schemes=plans)


def plan_batch(
    scenarios: Sequence[Scenario],
    *,
    bound: str = "two-stage",
    solver: str = SOLVERS[0],
    relaxed: bool = False,
    gap: float | None = None,
    progress: Progress | None = None,
) -> list[Plan]:
    """The best designs of many scenarios, in the same order, vectorised over equal K.

    Args:
        scenarios: any number of scenarios; K may differ between them.
        bound: as in `plan`.
        solver: as in `plan`.
        relaxed: as in `plan`.
        gap: as in `plan`.
        progress: as in `plan`.

    Raises:
        ValueError: if a scenario, named by its position, or an option is not valid.
    """
    asked = _asked(bound, solver, relaxed, gap, progress)
    valid = [named(f"scenario {i}", validate, s) for i, s in enumerate(scenarios)]
    for i, item in enumerate(valid):
        named(f"scenario {i}", lambda s: _check_bound(s, bound), item)
    plans: list[Plan | None] = [None] * len(valid)
    with jax.enable_x64(True):
        for members in _alike(valid):
            rows = _rows(stack([valid[i] for i in members]), asked, schemes=False)
            for i, answer in zip(members, plans_of(rows, asked), strict=True):
                plans[i] = answer
    return [answer for answer in plans if answer is not None]


def answer_batch(
    scenarios: Scenario,
    *,
    bound: str = "two-stage",
    solver: str = SOLVERS[0],
    relaxed: bool = False,
    gap: float | None = None,
    warm_start: Answers | None = None,
    progress: Progress | None = None,
) -> Answers:
    """The best designs of stacked scenarios as arrays: `plan_batch` without a plan for each.

    Args:
        scenarios: with a leading axis (B,) on its fields, as `validate_batch` takes it.
        bound: as in `plan`.
        solver: as in `plan`.
        relaxed: as in `plan`.
        gap: as in `plan`.
        warm_start: answers to B neighbouring scenarios of as many devices, from whose prices the
            dual decomposition begins; they change the time it takes, not what is certified.
        progress: as in `plan`.

    Raises:
        ValueError: if a scenario, named by its position, or an option is not valid.
    """
    asked = _asked(bound, solver, relaxed, gap, progress)
    valid = _stacked(scenarios, bound)
    if warm_start is not None:
        prices = _neighbours(warm_start, asked, batch_shape(valid))
        asked = dataclasses.replace(asked, warm_start=prices)
    with jax.enable_x64(True):
        return answers_of(_rows(valid, asked, schemes=False), asked)


def answer_schemes(
    scenarios: Scenario,
    *,
    bound: str = "two-stage",
    solver: str = SOLVERS[0],
    relaxed: bool = False,
    gap: float | None = None,
    progress: Progress | None = None,
) -> dict[str, Answers]:
    """The joint and all benchmark designs of stacked scenarios by name: `plan` with ``schemes``.

    Under the fine-tuning bound scenarios are searched one by one, and pre-training alone is absent.

    Args:
        scenarios: as in `answer_batch`.
        bound: as in `plan`.
        solver: as in `plan`.
        relaxed: as in `plan`.
        gap: as in `plan`; it is sought for the joint design.
        progress: as in `plan`.

    Raises:
        ValueError: as `answer_batch`.
    """
    asked = _asked(bound, solver, relaxed, gap, progress)
    with jax.enable_x64(True):
        rows = _rows(_stacked(scenarios, bound), asked, schemes=True)
        answers, names = answers_of(rows, asked), np.array(rows.names)
    return {
        name: take(answers, np.flatnonzero(names == name)) for name in dict.fromkeys(rows.names)
    }


def _neighbours(answers: Answers, asked: Asked, shape: tuple[int, ...]) -> Prices:
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
    _asked(bound, solver, relaxed, gap, None)
    _check_bound(scenario, bound)


def _stacked(scenarios: Scenario, bound: str) -> Scenario:
    """Scenarios with one leading axis, valid."""
    valid = _check_bound(validate_batch(scenarios), bound)
    batch_shape(valid)
    return valid


def _rows(scenarios: Scenario, asked: Asked, *, schemes: bool) -> Rows:
    """The designs of valid scenarios (B, ...), in their order for each name."""
    together = asked.bound == "two-stage"
    asked.progress("compiling", None)
    compile_ahead(scenarios if together else take(scenarios, _ONE), asked, schemes=schemes)
    if together:
        return (two_stage_rows if schemes else two_stage_batch)(scenarios, asked)
    parts, each = [], unstack(scenarios)
    for count, scenario in enumerate(each):
        asked.progress("searching pre-training rounds", count / len(each))
        parts.append(fine_tuning_rows(scenario, asked, schemes=schemes))
    return Rows.joined(parts)


def _alike(scenarios: list[Scenario]) -> list[list[int]]:
    """Positions of the scenarios that can be stacked: same K, same optional fields."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, item in enumerate(scenarios):
        key = (len(np.asarray(item.devices.gain)), item.learning.pl_constant is None)
        groups.setdefault(key, []).append(i)
    return list(groups.values())


def _asked(
    bound: str, solver: str, relaxed: bool, gap: float | None, progress: Progress | None
) -> Asked:
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


def _check_bound(scenario: Scenario, bound: str) -> Scenario:
    if bound == "fine-tuning" and scenario.learning.pl_constant is None:
        raise ValueError(
            "learning.pl_constant: missing; the fine-tuning bound needs the Polyak-Lojasiewicz "
            "constant mu, with 0 < mu <= smoothness"
        )
    return scenario
