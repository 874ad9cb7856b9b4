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

from jaxedge.allocation import Allocation
from jaxedge.answer import Status
from jaxedge.chunks import take
from jaxedge.own_checks import checked_functions, own_numbers
from jaxedge.own_judging import TOLERANCE, Found, prove_infeasible, solve_in_chunks
from jaxedge.own_relaxation import DeviceFunction, Functions, PlanFunction
from jaxedge.own_totals import Case
from jaxedge.scenario import Scenario
from jaxedge.solve import RELAXED_GAP
from jaxedge.stacking import stack
from jaxedge.validation import validate, validate_batch


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
class OwnAnswer:
    """The answer for one scenario; None stands where there is nothing to say."""

    status: Status
    bound: float | None = None
    """What the design reaches."""
    lower_bound: float | None = None
    """No design is below it; None where convexity is not stated."""
    allocation: Allocation | None = None
    """Real rounds and batches, in original units."""
    energy: float | None = None
    """J spent, by the built-in model."""
    delay: float | None = None
    """s spent, by the built-in model."""
    multipliers: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """By limit: how much the optimal bound falls if the residual may be one unit larger; (K,) for
    limits on every device."""

    @property
    def gap(self) -> float | None:
        """(bound - lower_bound)/lower_bound, certified; None where nothing is."""
        if self.bound is None or self.lower_bound is None or self.lower_bound <= 0:
            return None
        return max(self.bound - self.lower_bound, 0.0) / self.lower_bound

    @property
    def message(self) -> str:
        """What the status claims and on what ground."""
        if self.allocation is None or self.lower_bound is not None:
            return self.status.advice
        return "The design keeps every limit; its gap is not certified, as convexity is not stated."


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnProblem:
    """The two-stage problem with limits, or a bound, of one's own.

    The built-in limits stay. Functions see totals (`jaxedge.own_totals`) and must be pure.
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
    ) -> OwnAnswer:
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
        return self._solve(scenarios, lifted, gap)[0]

    def solve_batch(
        self,
        scenarios: Sequence[Scenario] | Scenario,
        own: Mapping[str, ArrayLike] | None = None,
        *,
        gap: float = RELAXED_GAP,
    ) -> list[OwnAnswer]:
        """Solve B scenarios of equal K in one vectorised call; ``own`` has a leading axis (B, ...).

        Raises:
            ValueError: as `solve`.
        """
        if not isinstance(scenarios, Scenario):
            scenarios = stack(scenarios)
        return self._solve(validate_batch(scenarios), dict(own or {}), gap)

    def _solve(self, scenarios: Scenario, own: Mapping[str, Any], gap: float) -> list[OwnAnswer]:
        size, devices = np.shape(scenarios.devices.gain)
        with jax.enable_x64(True):
            case = Case(scenario=scenarios, own=own_numbers(own, size, devices))
            functions = self._functions()
            checked_functions(self._named_functions(), take(case, np.array(0)))
            found = solve_in_chunks(functions, case, size)
            doubtful = ~(np.asarray(found.violation) <= TOLERANCE) & self.convex
            impossible = prove_infeasible(functions, case, doubtful)
        return [
            OwnAnswer(status=Status.INFEASIBLE)
            if impossible[i]
            else self._answer(take(found, np.array(i)), gap)
            for i in range(size)
        ]

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

    def _answer(self, found: Found, gap: float) -> OwnAnswer:
        bound, lower = float(found.bound), float(found.lower_bound)
        known = self.convex and np.isfinite(lower)
        legal = found.violation <= TOLERANCE and np.isfinite(bound)
        # A lower bound above the bound: the functions are not convex as stated.
        if not legal or (known and lower > bound * (1 + TOLERANCE)):
            return OwnAnswer(status=Status.FAILED)
        answer = OwnAnswer(
            status=Status.FEASIBLE,
            bound=bound,
            lower_bound=min(lower, bound) if known else None,
            allocation=found.allocation,
            energy=float(found.energy),
            delay=float(found.delay),
            multipliers=self._multipliers(found),
        )
        optimal = answer.gap is not None and answer.gap <= gap
        return dataclasses.replace(answer, status=Status.OPTIMAL) if optimal else answer

    def _multipliers(self, found: Found) -> dict[str, Any]:
        of_sums, of_each = iter(found.sums), iter(np.asarray(found.each).T)
        named = {
            limit.name: next(of_each) if limit.each is not None else float(next(of_sums))
            for limit in self.limits
        }
        return {
            "energy_budget": float(found.energy_price),
            "delay_budget": float(found.delay_price),
            **named,
        }
