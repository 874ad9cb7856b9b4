"""What an answer claims, and what is short where there is none."""

from __future__ import annotations

import dataclasses
import enum


class Status(enum.StrEnum):
    """What an answer claims; the sentence of advice is `Status.advice`."""

    OPTIMAL = "optimal"
    FEASIBLE = "feasible"
    INFEASIBLE = "infeasible"
    FAILED = "failed"

    @property
    def advice(self) -> str:
        """One sentence on what the status means and what to do about it."""
        return _ADVICE[self]


_ADVICE = {
    Status.OPTIMAL: "The design is certified to the requested gap.",
    Status.FEASIBLE: "The design keeps every limit, but its certified gap is larger than "
    "requested: ask for branch and bound with a gap, or accept the gap shown.",
    Status.INFEASIBLE: "No design keeps every limit, even with the fewest rounds and the smallest "
    "batches: raise the budget named, or lower the minimum rounds or batches.",
    Status.FAILED: "The numbers defeated the solver and no design is claimed: check the scenario's "
    "scales, and report it if they are sensible.",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shortfall:
    """Why a scenario is infeasible: the short budget and the least budgets that would do."""

    budget: str
    """The budget to raise: "energy_budget", "delay_budget", "either" or "both"."""
    least_energy: float | None
    """J, least energy at the given delay; None when no energy would do."""
    least_delay: float | None
    """s, least delay at the given energy; None when no delay would do."""

    @property
    def message(self) -> str:
        """The shortfall in one sentence."""
        ways = []
        if self.least_energy is not None:
            ways.append(f"an energy_budget of at least {self.least_energy:.6g} J at this delay")
        if self.least_delay is not None:
            ways.append(f"a delay_budget of at least {self.least_delay:.6g} s at this energy")
        needs = " or ".join(ways) if ways else "both budgets to be raised"
        short = {"either": "the budgets together are", "both": "both budgets are"}.get(
            self.budget, f"{self.budget} is"
        )
        return f"{short} too small: the fewest rounds and smallest batches need {needs}"
