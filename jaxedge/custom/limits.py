"""Users' own limits and bounds as JAX functions of a design's totals, solved and judged.

Where the user states that the functions are convex in the totals, the answer is certified by
convexity and duality; otherwise it says that its gap is not (`docs/own_limits.md`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

from jaxedge.answers.batch import Answers
from jaxedge.answers.plan import OWN, Plan
from jaxedge.custom.answers import own_answers
from jaxedge.custom.checks import checked_functions, own_numbers
from jaxedge.custom.judging import OwnOptima, prove_infeasible, solve_in_chunks
from jaxedge.custom.relaxation import DeviceFunction, Functions, PlanFunction
from jaxedge.custom.totals import Case
from jaxedge.machine.trees import take
from jaxedge.relaxation.judge import RELAXED_GAP
from jaxedge.scenario.scenario import Scenario
from jaxedge.scenario.stacking import stack
from jaxedge.scenario.validation import batch_shape, validate, validate_batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limit:
    """A residual that must be at most 0: of the whole plan, or of every device.

    Give ``plan``, or ``plan`` and ``summed`` (the limit is their sum), or ``each``.
    """

    name: str
    """What its multiplier is called."""
    plan: PlanFunction | None = None
    """(case, plan totals) -> ()."""
    summed: DeviceFunction | None = None
    """(case, device totals) -> (), added over the devices."""
    each: DeviceFunction | None = None
    """(case, device totals) -> (), a limit of its own for every device."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnBound:
    """A bound of one's own: numerator/(M a + N b) with (a, b) the stages' learning rates."""

    plan: PlanFunction
    """(case, plan totals) -> (), the numerator's part of the whole plan."""
    summed: DeviceFunction | None = None
    """(case, device totals) -> (), the numerator's part of one device."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnProblem:
    """The two-stage problem with limits, or a bound, of one's own.

    The built-in limits stay. Functions see totals (`jaxedge.custom.totals`) and must be pure.
    """

    limits: tuple[Limit, ...] = ()
    bound: OwnBound | None = None
    """None for the two-stage bound."""
    convex: bool = False
    """The user's word that every function given is convex in the totals."""

    def solve(
        self,
        scenario: Scenario,
        own: Mapping[str, ArrayLike] | None = None,
        *,
        gap: float = RELAXED_GAP,
    ) -> Plan:
        """Solve the relaxation for one scenario.

        Args:
            scenario: any valid one.
            own: the user's numbers by name, () or (K,), float64; functions see ``case.own``.
            gap: certified relative gap at which the answer is called optimal.

        Raises:
            ValueError: for a scenario, a number or a function that does not fit, naming it.
        """
        scenarios: Scenario = jax.tree.map(lambda x: np.asarray(x)[None], validate(scenario))
        lifted = {name: np.asarray(value)[None] for name, value in (own or {}).items()}
        return self.on(scenarios, lifted).plans(gap)[0]

    def solve_batch(
        self,
        scenarios: Sequence[Scenario] | Scenario,
        own: Mapping[str, ArrayLike] | None = None,
        *,
        gap: float = RELAXED_GAP,
    ) -> list[Plan]:
        """Solve B scenarios of equal K in one vectorised call; ``own`` has a leading axis (B, ...).

        Raises:
            ValueError: as `solve`.
        """
        return self.on(scenarios, own).plans(gap)

    def on(
        self,
        scenarios: Sequence[Scenario] | Scenario,
        own: Mapping[str, ArrayLike] | None = None,
    ) -> OwnCases:
        """This problem for B scenarios of equal K, as `jaxedge.solve` takes it.

        Args:
            scenarios: B scenarios, or stacked with a leading axis (B,).
            own: the user's numbers by name with a leading axis (B, ...), float64.

        Raises:
            ValueError: as `solve`.
        """
        if not isinstance(scenarios, Scenario):
            scenarios = stack(scenarios)
        valid = validate_batch(scenarios)
        with jax.enable_x64(True):
            size, devices = batch_shape(valid)
            case = Case(scenario=valid, own=own_numbers(dict(own or {}), size, devices))
            functions = self._functions()
            checked_functions(self._named_functions(), take(case, np.array(0)))
        return OwnCases(problem=self, functions=functions, case=case, size=size)

    def _functions(self) -> Functions:
        sums, each = [], []
        for limit in self.limits:
            parts = limit.plan is not None, limit.summed is not None, limit.each is not None
            if parts not in ((True, False, False), (True, True, False), (False, False, True)):
                raise ValueError(
                    f"limit {limit.name!r} must have plan, or plan and summed, or each alone"
                )
            if limit.each is not None:
                each.append(limit.each)
            elif limit.plan is not None:
                sums.append((limit.plan, limit.summed))
        self._check_names()
        bound = None if self.bound is None else (self.bound.plan, self.bound.summed)
        return Functions(sums=tuple(sums), each=tuple(each), bound=bound)

    def _check_names(self) -> None:
        names = ["energy_budget", "delay_budget", *(limit.name for limit in self.limits)]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"limit name {name!r} stands more than once: names must differ")

    def _named_functions(self) -> list[tuple[str, Any, bool]]:
        """(name, function, whether it is a device's) of every function."""
        owners: list[tuple[str, Any]] = [(f"limit {x.name!r}", x) for x in self.limits]
        if self.bound is not None:
            owners.append(("bound", self.bound))
        return [
            (f"{title}, {part}", getattr(owner, part), part != "plan")
            for title, owner in owners
            for part in ("plan", "summed", "each")
            if getattr(owner, part, None) is not None
        ]

    def multipliers_of(self, found: OwnOptima) -> dict[str, np.ndarray]:
        """By limit, (B,) or (B, K): how much the optimal bound falls for a unit of the residual."""
        of_sums, of_each = (
            iter(np.moveaxis(np.asarray(part), axis, 0))
            for part, axis in ((found.sums, 1), (found.each, -1))
        )
        own = {
            limit.name: next(of_sums if limit.each is None else of_each) for limit in self.limits
        }
        return {"energy_budget": found.energy_price, "delay_budget": found.delay_price} | own


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnCases:
    """A problem of one's own for B scenarios, checked; made by `OwnProblem.on`."""

    problem: OwnProblem
    functions: Functions
    case: Case
    size: int
    """B."""

    def answers(self, gap: float = RELAXED_GAP) -> Answers:
        """Solve the relaxations; nan stands for the lower bound where convexity is not stated."""
        convex = self.problem.convex
        with jax.enable_x64(True):
            found = solve_in_chunks(self.functions, self.case, self.size)
            doubtful = np.isnan(found.design.legal_bound) & convex
            impossible = prove_infeasible(self.functions, self.case, doubtful)
        multipliers = self.problem.multipliers_of(found)
        return own_answers(found, impossible, multipliers, convex=convex, gap=gap)

    def plans(self, gap: float = RELAXED_GAP) -> list[Plan]:
        """The same, one plan for each scenario."""
        answers = self.answers(gap)
        return [
            answers.plan(i, bound_name=OWN, relaxed=True, requested_gap=gap)
            for i in range(self.size)
        ]
