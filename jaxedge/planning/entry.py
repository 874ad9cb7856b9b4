"""The entry points: plan one scenario, or many at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, TypedDict, Unpack, overload

import jax
import numpy as np

from jaxedge.answers.batch import Answers
from jaxedge.answers.plan import Plan
from jaxedge.bounds.modal import Modal
from jaxedge.bounds.registry import DEFAULT
from jaxedge.machine.trees import take
from jaxedge.planning.compile_ahead import compile_ahead
from jaxedge.planning.judging import answers_of, plans_of
from jaxedge.planning.plane_rows import plane_rows
from jaxedge.planning.program_rows import program_rows
from jaxedge.planning.question import Asked, neighbours, question
from jaxedge.planning.rows import Rows, repeat
from jaxedge.planning.searched_rows import searched_rows
from jaxedge.relaxation.solvers import DUAL_DECOMPOSITION
from jaxedge.scenario.scenario import Scenario
from jaxedge.scenario.stacking import named, stack, unstack
from jaxedge.scenario.validation import batch_shape, validate, validate_batch
from jaxedge.words.progress import Progress

_ONE = np.arange(1)


def plan(
    scenario: Scenario,
    *,
    bound: str = DEFAULT,
    solver: str = DUAL_DECOMPOSITION.name,
    relaxed: bool = False,
    gap: float | None = None,
    schemes: bool | Sequence[str] = False,
    progress: Progress | None = None,
) -> Plan:
    """The best design of one scenario, with its certificate.

    Args:
        scenario: as built, loaded or taken from a preset; it is validated here.
        bound: a name in `bounds.BOUNDS`: "two-stage" (average over both stages), "fine-tuning"
            (needs ``pl_constant``), ...
        solver: of the relaxation, a name in `relaxation.SOLVERS`: "dual-decomposition", or for
            bounds without an outer search "interior-point", "augmented-lagrangian" or
            "convex-approximation" (a slow baseline). Every answer is judged alike.
        relaxed: real rounds and batches instead of whole ones.
        gap: certified relative gap to reach, by branch and bound where needed; by default 1e-3 with
            bounded effort for integer designs, and the solver's own for relaxed ones.
        schemes: compute the benchmark designs, too: all, or those named.
        progress: called with (text, fraction or None) while it works.

    Returns:
        A plan, also where the scenario is infeasible or the solver failed: look at its status.

    Raises:
        ValueError: if the scenario or an option is not valid.
    """
    return plan_one(scenario, question(bound, solver, relaxed, gap, schemes, progress))


def plan_one(scenario: Scenario, asked: Asked) -> Plan:
    """The first design that is asked for, with the others as its schemes."""
    if not isinstance(scenario, Scenario):
        raise ValueError(f"scenario: {type(scenario).__name__} must be a Scenario")
    valid = validate(scenario)
    asked.bound.check(valid)
    return _plans(repeat(valid, 1), asked)[0]


class Options(TypedDict, total=False):
    """What may be asked of many scenarios beside their schemes."""

    bound: str
    solver: str
    relaxed: bool
    gap: float | None
    warm_start: Answers | None
    progress: Progress | None


@overload
def plan_batch(  # noqa: D418
    scenarios: Sequence[Scenario],
    *,
    schemes: bool | Sequence[str] = False,
    **options: Unpack[Options],
) -> list[Plan]:
    """A list is answered by a list."""


@overload
def plan_batch(  # noqa: D418
    scenarios: Scenario, *, schemes: Literal[False] = False, **options: Unpack[Options]
) -> Answers:
    """Stacked scenarios are answered by arrays."""


@overload
def plan_batch(  # noqa: D418
    scenarios: Scenario, *, schemes: Literal[True] | Sequence[str], **options: Unpack[Options]
) -> dict[str, Answers]:
    """Designs of several kinds are answered by arrays by name."""


def plan_batch(
    scenarios: Sequence[Scenario] | Scenario,
    *,
    bound: str = DEFAULT,
    solver: str = DUAL_DECOMPOSITION.name,
    relaxed: bool = False,
    gap: float | None = None,
    schemes: bool | Sequence[str] = False,
    warm_start: Answers | None = None,
    progress: Progress | None = None,
) -> list[Plan] | Answers | dict[str, Answers]:
    """The best designs of many scenarios, in the same order, vectorised over equal K.

    Args:
        scenarios: any number of scenarios, K of each its own; or B of them stacked into one with a
            leading axis (B,) on its fields, as `validate_batch` takes it.
        bound: as in `plan`.
        solver: as in `plan`.
        relaxed: as in `plan`.
        gap: as in `plan`; it is sought for the joint design.
        schemes: as in `plan`.
        warm_start: for stacked scenarios without schemes, answers to B neighbours of as many
            devices, from whose prices the dual decomposition begins; they change the time it
            takes, not what is certified.
        progress: as in `plan`.

    Returns:
        A plan for each of a list. For stacked scenarios `Answers`, arrays with the axis (B,); with
        ``schemes`` such answers by name, "joint design" first.

    Raises:
        ValueError: if a scenario, named by its position, or an option is not valid.
    """
    asked = question(bound, solver, relaxed, gap, schemes, progress)
    if not isinstance(scenarios, Scenario):
        if warm_start is not None:
            raise ValueError("warm_start: is for stacked scenarios; leave it out for a list")
        return _plans_of_list(scenarios, asked)
    valid = validate_batch(scenarios)
    shape = batch_shape(valid)
    asked.bound.check(valid)
    if warm_start is not None:
        prices = neighbours(warm_start, asked, shape)
        asked = dataclasses.replace(asked, warm_start=prices)
    with jax.enable_x64(True):
        rows = _rows(valid, asked)
        answers = answers_of(rows, asked)
    if isinstance(schemes, bool | np.bool_) and not schemes:
        return answers
    names = np.array(rows.names)
    return {name: take(answers, np.flatnonzero(names == name)) for name in asked.designs}


def _plans_of_list(scenarios: object, asked: Asked) -> list[Plan]:
    if not isinstance(scenarios, Sequence) or isinstance(scenarios, str):
        raise ValueError(
            f"scenarios: {type(scenarios).__name__} must be a list of Scenario, or one Scenario "
            "with a leading axis"
        )

    def checked(scenario: Scenario) -> Scenario:
        if not isinstance(scenario, Scenario):
            raise ValueError(f"{type(scenario).__name__} must be a Scenario")
        valid = validate(scenario)
        asked.bound.check(valid)
        return valid

    valid = [named(f"scenario {i}", checked, item) for i, item in enumerate(scenarios)]
    plans: dict[int, Plan] = {}
    for members in _alike(valid):
        found = _plans(stack([valid[i] for i in members]), asked)
        plans |= dict(zip(members, found, strict=True))
    return [plans[i] for i in range(len(valid))]


def _plans(scenarios: Scenario, asked: Asked) -> list[Plan]:
    """One plan for each of valid stacked scenarios, with its schemes."""
    with jax.enable_x64(True):
        rows = _rows(scenarios, asked)
        plans = plans_of(rows, asked)
    by_name: dict[str, list[Plan]] = {name: [] for name in asked.designs}
    for name, one in zip(rows.names, plans, strict=True):
        by_name[name].append(one)
    first = by_name.pop(asked.designs[0])
    return [
        dataclasses.replace(one, schemes={name: each[i] for name, each in by_name.items()})
        for i, one in enumerate(first)
    ]


def _rows(scenarios: Scenario, asked: Asked) -> Rows:
    """The designs of valid scenarios (B, ...), in their order for each name."""
    if isinstance(asked.bound, Modal):
        return plane_rows(scenarios, asked.bound, asked)
    together = not asked.bound.outer
    asked.progress("compiling", None)
    compile_ahead(scenarios if together else take(scenarios, _ONE), asked)
    if together:
        return program_rows(scenarios, asked)
    parts, each = [], unstack(scenarios)
    for count, scenario in enumerate(each):
        asked.progress("searching rounds", count / len(each))
        parts.append(searched_rows(scenario, asked))
    return Rows.concatenate(parts)


def _alike(scenarios: list[Scenario]) -> list[list[int]]:
    """Positions of the scenarios that can be stacked: same K, same optional fields."""
    groups: dict[Any, list[int]] = {}
    for i, item in enumerate(scenarios):
        leaves, tree = jax.tree.flatten(item)
        groups.setdefault((tree, *map(np.shape, leaves)), []).append(i)
    return list(groups.values())
