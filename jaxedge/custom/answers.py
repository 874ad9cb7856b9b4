"""Answers to users' own problems: as arrays, and one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxedge.answers.batch import STATUSES, Answers, coded, kept
from jaxedge.answers.status import Status
from jaxedge.custom.judging import TOLERANCE, Found
from jaxedge.machine.trees import take
from jaxedge.system.allocation import Allocation


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


def own_answers(
    found: Found,
    impossible: np.ndarray,
    multipliers: Mapping[str, np.ndarray],
    *,
    convex: bool,
    gap: float,
) -> Answers:
    """Judged answers to B problems of one's own.

    Args:
        found: designs and what is known of them.
        impossible: (B,) proven infeasible.
        multipliers: by limit, (B,) or (B, K).
        convex: whether the user states that all is convex; else nothing is certified.
        gap: certified relative gap at which an answer is called optimal.
    """
    bound, lower = np.asarray(found.bound), np.asarray(found.lower_bound)
    known = np.isfinite(lower) & convex
    legal = (np.asarray(found.violation) <= TOLERANCE) & np.isfinite(bound) & ~impossible
    with np.errstate(invalid="ignore", over="ignore"):
        # A lower bound above the bound: the functions are not convex as stated.
        stands = legal & ~(known & (lower > bound * (1 + TOLERANCE)))
        optimal = known & (lower > 0) & (bound <= lower * (1 + gap))
    nothing = np.full(len(bound), np.nan)
    return Answers(
        status=coded(
            (impossible, Status.INFEASIBLE), (~stands, Status.FAILED), (optimal, Status.OPTIMAL)
        ),
        bound=kept(bound, stands),
        lower_bound=kept(np.minimum(lower, bound), stands & known),
        allocation=kept(found.allocation, stands),
        energy=kept(np.asarray(found.energy), stands),
        delay=kept(np.asarray(found.delay), stands),
        shadow_prices={name: kept(-np.asarray(x), stands) for name, x in multipliers.items()},
        naive_rounding=nothing,
        least_energy=nothing,
        least_delay=nothing,
    )


def told(answers: Answers) -> list[OwnAnswer]:
    """One answer for each element."""
    return [_one(answers, i) for i in range(len(answers.status))]


def _one(answers: Answers, index: int) -> OwnAnswer:
    status = STATUSES[int(answers.status[index])]
    if status in (Status.INFEASIBLE, Status.FAILED):
        return OwnAnswer(status=status)
    lower = float(answers.lower_bound[index])
    multipliers = {name: -price[index] for name, price in answers.shadow_prices.items()}
    return OwnAnswer(
        status=status,
        bound=float(answers.bound[index]),
        lower_bound=None if np.isnan(lower) else lower,
        allocation=take(answers.allocation, np.array(index)),
        energy=float(answers.energy[index]),
        delay=float(answers.delay[index]),
        multipliers={k: float(x) if np.ndim(x) == 0 else x for k, x in multipliers.items()},
    )
