"""What an answer claims, and what is short where there is none."""

from __future__ import annotations

import dataclasses
import enum


class Status(enum.StrEnum):
    """What an answer claims; what that means for one kind of answer is `Status.advice`."""

    OPTIMAL = "optimal"
    FEASIBLE = "feasible"
    INFEASIBLE = "infeasible"
    FAILED = "failed"

    def advice(self, *, relaxed: bool, certified: bool = True, own: bool = False) -> str:
        """One sentence on what the status means and what to do about it.

        Args:
            relaxed: of an answer in real rounds and batches.
            certified: whether there is a lower bound.
            own: of a problem of the user's own.
        """
        if self is Status.OPTIMAL:
            return "The design is certified to the requested gap."
        if self is Status.FEASIBLE:
            return f"The design keeps every limit, but {_gap_advice(relaxed, certified, own)}."
        if self is Status.INFEASIBLE:
            return f"No design keeps every limit{_OWN_LIMITS if own else _LEAST_DESIGN}."
        return f"No design is claimed: {_OWN_FAILURE if own else _FAILURE}."


def _gap_advice(relaxed: bool, certified: bool, own: bool) -> str:
    if own and not certified:
        return "its gap is not certified, as convexity is not stated"
    if not certified:
        return "nothing certifies how near it is to the best of its kind"
    if relaxed:
        return (
            "its certified gap is larger than requested: accept the gap shown, or take another "
            "solver where the bound has one"
        )
    return (
        "its certified gap is larger than requested: ask for branch and bound with a gap, or "
        "accept the gap shown"
    )


_LEAST_DESIGN = (
    ", even with the fewest rounds and the smallest batches: raise the budget named, or lower the "
    "minimum rounds or batches"
)
_OWN_LIMITS = ", as multipliers prove: loosen a limit of your own or a budget"
_FAILURE = (
    "the numbers defeated the solver; check the scenario's scales, and report it if they are "
    "sensible and the solver is the default"
)
_OWN_FAILURE = (
    "none that keeps every limit was found, which does not prove that there is none; check the "
    "limits' scales, or loosen them"
)


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
