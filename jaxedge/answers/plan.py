"""The answer to a planning question: a design, its certificate, or what it would take instead."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxedge.answers.status import Shortfall, Status
from jaxedge.relaxation.judge import relative_gap
from jaxedge.system.allocation import Allocation, StageAllocation

OWN = "own"
"""What stands for the name of a bound in answers to problems of the user's own."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """One answered planning question; None stands where there is nothing to say."""

    status: Status
    bound_name: str
    """Of a bound, or `OWN` for a problem of the user's own."""
    relaxed: bool
    """True where rounds and batches are real numbers."""
    requested_gap: float
    bound: float | None = None
    """The convergence bound that the design reaches."""
    unit: str = "mean squared gradient norm"
    """Of the bound, in words."""
    lower_bound: float | None = None
    """No design of this kind can be below it."""
    allocation: Allocation | None = None
    """NumPy numbers and arrays in original units."""
    energy: float | None = None
    """J spent."""
    delay: float | None = None
    """s spent."""
    shadow_prices: Mapping[str, Any] = dataclasses.field(
        default_factory=lambda: {"energy_budget": None, "delay_budget": None}
    )
    """Derivatives of the (relaxed) optimal bound: 1/J and 1/s; to what the residuals of own limits
    may be, () or (K,)."""
    infeasible_because: Shortfall | None = None
    naive_rounding: float | None = None
    """Bound of the relaxed optimum rounded naively; None where that is infeasible."""
    schemes: Mapping[str, Plan] = dataclasses.field(default_factory=dict)
    """The benchmark designs by name, where asked for."""

    @property
    def gap(self) -> float | None:
        """(bound - lower_bound)/lower_bound, certified."""
        if self.bound is None or self.lower_bound is None:
            return None
        return float(relative_gap(np.float64(self.bound), np.float64(self.lower_bound)))

    @property
    def message(self) -> str:
        """The status in words, with the reason where there is one."""
        reason = self.infeasible_because
        advice = self.status.advice(
            relaxed=self.relaxed,
            certified=self.lower_bound is not None,
            own=self.bound_name == OWN,
        )
        return advice if reason is None else f"{reason.message}. {advice}"

    def to_dict(self) -> dict[str, Any]:
        """The answer as plain JSON types, with null for everything that is not finite."""
        shortfall = self.infeasible_because
        answer: dict[str, Any] = {
            "status": str(self.status),
            "bound": self.bound,
            "lower_bound": self.lower_bound,
            "gap": self.gap,
            "allocation": None if self.allocation is None else _allocation(self.allocation),
            "energy": self.energy,
            "delay": self.delay,
            "shadow_prices": dict(self.shadow_prices),
            "infeasible_because": None if shortfall is None else dataclasses.asdict(shortfall),
            "objective": self.bound_name,
            "bound_name": self.bound_name,
            "relaxed": self.relaxed,
            "requested_gap": self.requested_gap,
            "naive_rounding": self.naive_rounding,
            "message": self.message,
        }
        if self.schemes:
            answer["schemes"] = {name: plan.to_dict() for name, plan in self.schemes.items()}
        clean: dict[str, Any] = _json_safe(answer)
        return clean

    def __str__(self) -> str:
        """The readable table that ``jaxedge plan`` prints."""
        from jaxedge.answers.table import plan_table

        return plan_table(self)


def _allocation(allocation: Allocation) -> dict[str, Any]:
    def stage(part: StageAllocation) -> dict[str, Any]:
        return {"batch": part.batch, "clock": part.clock, "power": part.power}

    return {
        "pretraining_rounds": allocation.pretraining_rounds,
        "finetuning_rounds": allocation.finetuning_rounds,
        "server": stage(allocation.server),
        "devices": stage(allocation.devices),
    }


def _json_safe(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _json_safe(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _json_safe(value.tolist())
    if isinstance(value, list | tuple):
        return [_json_safe(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
