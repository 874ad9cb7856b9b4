"""Answers to many scenarios as arrays: what sweeps, statistics and programs compute with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import numpy as np

from jaxedge.answers.plan import Plan
from jaxedge.answers.status import Shortfall, Status
from jaxedge.machine.trees import take
from jaxedge.program.responses import Prices
from jaxedge.relaxation.judge import relative_gap
from jaxedge.system.allocation import Allocation, StageAllocation

STATUSES = tuple(Status)
"""The statuses in the order of their codes."""
_SHORT = {
    (True, True): "either",
    (True, False): "energy_budget",
    (False, True): "delay_budget",
    (False, False): "both",
}
"""Whether more energy, more delay would do -> the budget to raise."""

_Tree = TypeVar("_Tree")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Answers:
    """B answers with a leading axis; nan stands where there is nothing to say."""

    status: np.ndarray
    """(B,) int8, positions in `STATUSES`."""
    bound: np.ndarray
    """(B,) the convergence bound that the design reaches."""
    lower_bound: np.ndarray
    """(B,) no design of this kind can be below it."""
    allocation: Allocation
    """Arrays in original units: rounds (B,), server (B,), devices (B, K)."""
    energy: np.ndarray
    """(B,) J spent."""
    delay: np.ndarray
    """(B,) s spent."""
    shadow_prices: Mapping[str, np.ndarray]
    """(B,) derivatives of the relaxed optimal bound to the budgets, 1/J and 1/s; of own limits,
    (B,) or (B, K), derivatives to what their residuals may be."""
    naive_rounding: np.ndarray
    """(B,) bound of the relaxed optimum rounded naively, nan where that breaks a limit."""
    least_energy: np.ndarray
    """(B,) J that would do at the given delay, of infeasible elements; inf where none would."""
    least_delay: np.ndarray
    """(B,) s that would do at the given energy, of infeasible elements; inf where none would."""
    prices: Prices | None = None
    """Scaled multipliers of the relaxed optimum, which neighbours' solves may begin from."""

    @property
    def gap(self) -> np.ndarray:
        """(B,) (bound - lower_bound)/lower_bound, certified."""
        unknown = np.isnan(self.bound) | np.isnan(self.lower_bound)
        return np.where(unknown, np.nan, relative_gap(self.bound, self.lower_bound))

    def take(self, index: np.ndarray) -> Answers:
        """The answers at these positions, which may repeat: neighbours to begin from, say."""
        return take(self, index)

    def is_(self, status: Status) -> np.ndarray:
        """(B,) bool: which elements have this status."""
        return np.asarray(self.status == STATUSES.index(status))

    def plan(self, index: int, *, bound_name: str, relaxed: bool, requested_gap: float) -> Plan:
        """One element as a `Plan`, with None for nan and whole numbers where designs are whole."""
        status = STATUSES[int(self.status[index])]
        told: dict[str, Any] = {}
        least = float(self.least_energy[index]), float(self.least_delay[index])
        if status is Status.INFEASIBLE:
            told["infeasible_because"] = None if np.isnan(least).all() else _shortfall(*least)
        elif status is not Status.FAILED:
            told["allocation"] = _plain(self.allocation, index, whole=not relaxed)
        return Plan(
            status=status,
            bound_name=bound_name,
            relaxed=relaxed,
            requested_gap=requested_gap,
            bound=_number(self.bound[index]),
            lower_bound=_number(self.lower_bound[index]),
            energy=_number(self.energy[index]),
            delay=_number(self.delay[index]),
            shadow_prices={name: _number(x[index]) for name, x in self.shadow_prices.items()},
            naive_rounding=_number(self.naive_rounding[index]),
            **told,
        )


def status_codes(*claims: tuple[np.ndarray, Status]) -> np.ndarray:
    """(B,) int8: the code of the first claim that holds (B,), or that of a feasible design."""
    codes = [STATUSES.index(status) for _, status in claims]
    rest = STATUSES.index(Status.FEASIBLE)
    return np.select([holds for holds, _ in claims], codes, rest).astype(np.int8)


def _number(value: Any) -> Any:
    """A Python number, None for nan; arrays (K,) as they are."""
    if np.ndim(value):
        return value
    return None if np.isnan(value) else float(value)


def _plain(allocation: Allocation, index: int, *, whole: bool) -> Allocation:
    """One allocation in Python numbers and NumPy arrays, counts as integers where whole."""
    counts = {"pretraining_rounds", "finetuning_rounds", "batch"}

    def plain(value: Any, name: str) -> Any:
        number = np.asarray(value)[index]
        if whole and name in counts:
            number = np.rint(number).astype(np.int64)
        return number.item() if number.ndim == 0 else number

    def stage(part: StageAllocation) -> StageAllocation:
        fields = {f.name: plain(getattr(part, f.name), f.name) for f in dataclasses.fields(part)}
        return StageAllocation(**fields)

    return Allocation(
        pretraining_rounds=plain(allocation.pretraining_rounds, "pretraining_rounds"),
        finetuning_rounds=plain(allocation.finetuning_rounds, "finetuning_rounds"),
        server=stage(allocation.server),
        devices=stage(allocation.devices),
    )


def _shortfall(least_energy: float, least_delay: float) -> Shortfall:
    by_energy, by_delay = bool(np.isfinite(least_energy)), bool(np.isfinite(least_delay))
    return Shortfall(
        budget=_SHORT[by_energy, by_delay],
        least_energy=least_energy if by_energy else None,
        least_delay=least_delay if by_delay else None,
    )
