"""Answers to users' own problems."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jaxedge.answers.assessment import TOLERANCE
from jaxedge.answers.batch import Answers, status_codes
from jaxedge.answers.status import Status
from jaxedge.custom.judging import OwnOptima
from jaxedge.machine.trees import select
from jaxedge.relaxation.judge import relative_gap


def own_answers(
    found: OwnOptima,
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
    design, lower = found.design, np.asarray(found.lower_bound)
    bound, known = design.legal_bound, np.isfinite(lower) & convex
    # A lower bound above the bound: the functions are not convex as stated.
    stands = ~(np.isnan(bound) | impossible | (known & (lower > bound * (1 + TOLERANCE))))
    optimal = known & (relative_gap(bound, lower) <= gap)
    nothing = np.full(len(bound), np.nan)
    return Answers(
        status=status_codes(
            (impossible, Status.INFEASIBLE), (~stands, Status.FAILED), (optimal, Status.OPTIMAL)
        ),
        bound=select(stands, bound, np.nan),
        lower_bound=select(stands & known, np.minimum(lower, bound), np.nan),
        allocation=select(stands, design.allocation, np.nan),
        energy=select(stands, np.asarray(design.energy), np.nan),
        delay=select(stands, np.asarray(design.delay), np.nan),
        shadow_prices={
            name: select(stands, -np.asarray(x), np.nan) for name, x in multipliers.items()
        },
        naive_rounding=nothing,
        least_energy=nothing,
        least_delay=nothing,
    )
