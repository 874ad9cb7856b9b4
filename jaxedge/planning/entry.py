"""The entry points: plan one scenario, or many at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxedge.answers.batch import Answers
from jaxedge.answers.plan import Plan
from jaxedge.machine.trees import take
from jaxedge.planning.compile_ahead import compile_ahead
from jaxedge.planning.fine_tuning_rows import fine_tuning_rows
from jaxedge.planning.judging import answers_of, plans_of
from jaxedge.planning.question import Asked, check_bound, neighbours, question
from jaxedge.planning.rows import Rows, repeated
from jaxedge.planning.schemes import JOINT
from jaxedge.planning.two_stage_rows import two_stage_batch, two_stage_rows
from jaxedge.relaxation.solvers import DUAL_DECOMPOSITION
from jaxedge.scenario.scenario import Scenario
from jaxedge.scenario.stacking import modes_of, named, stack, unstack
from jaxedge.scenario.validation import batch_shape, validate, validate_batch
from jaxedge.words.progress import Progress

_ONE = np.arange(1)


def plan(
    scenario: Scenario,
    *,
    bound: str = "two-stage",
    solver: str = DUAL_DECOMPOSITION.name,
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
            bounded effort for integer designs, and the solver's own for relaxed ones.
        schemes: compute the benchmark designs, too.
        progress: called with (text, fraction or None) while it works.

    Returns:
        A plan, also where the scenario is infeasible or the solver failed: look at its status.

    Raises:
        ValueError: if the scenario or an option is not valid.
    """
    asked = question(bound, solver, relaxed, gap, progress)
    valid = validate(scenario)
    check_bound(valid, bound)
    with jax.enable_x64(True):
        rows = _rows(repeated(valid, 1), asked, schemes=schemes)
        plans = dict(zip(rows.names, plans_of(rows, asked), strict=True))
    joint = plans.pop(JOINT)
    return dataclasses.replace(joint, schemes=plans)


def plan_batch(
    scenarios: Sequence[Scenario],
    *,
    bound: str = "two-stage",
    solver: str = DUAL_DECOMPOSITION.name,
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
    asked = question(bound, solver, relaxed, gap, progress)
    valid = [named(f"scenario {i}", validate, s) for i, s in enumerate(scenarios)]
    for i, item in enumerate(valid):
        named(f"scenario {i}", lambda s: check_bound(s, bound), item)
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
    solver: str = DUAL_DECOMPOSITION.name,
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
    asked = question(bound, solver, relaxed, gap, progress)
    valid = _stacked(scenarios, bound)
    if warm_start is not None:
        prices = neighbours(warm_start, asked, batch_shape(valid))
        asked = dataclasses.replace(asked, warm_start=prices)
    with jax.enable_x64(True):
        return answers_of(_rows(valid, asked, schemes=False), asked)


def answer_schemes(
    scenarios: Scenario,
    *,
    bound: str = "two-stage",
    solver: str = DUAL_DECOMPOSITION.name,
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
    asked = question(bound, solver, relaxed, gap, progress)
    with jax.enable_x64(True):
        rows = _rows(_stacked(scenarios, bound), asked, schemes=True)
        answers, names = answers_of(rows, asked), np.array(rows.names)
    return {
        name: take(answers, np.flatnonzero(names == name)) for name in dict.fromkeys(rows.names)
    }


def _stacked(scenarios: Scenario, bound: str) -> Scenario:
    """Scenarios with one leading axis, valid."""
    valid = check_bound(validate_batch(scenarios), bound)
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
        optional = item.learning.pl_constant is None, modes_of(item)
        key = (len(np.asarray(item.devices.gain)), *optional)
        groups.setdefault(key, []).append(i)
    return list(groups.values())
