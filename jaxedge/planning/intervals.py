"""How a design changes within intervals of the bound's constants."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from jaxedge.answers.batch import STATUSES, Answers
from jaxedge.answers.status import Status
from jaxedge.bounds.registry import DEFAULT, bound_named
from jaxedge.planning.entry import plan_batch
from jaxedge.scenario.scenario import Learning, Scenario
from jaxedge.scenario.stacking import stack
from jaxedge.words.progress import Progress

DRAWS = 16
"""Scenarios drawn within the intervals."""
ENDS = ("optimistic", "central", "pessimistic")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlansWithin:
    """Plans at the ends, in the middle, and at draws between the ends."""

    answers: Answers
    """(3 + draws,) in the order of `ENDS`, then the draws."""
    kept: np.ndarray
    """(3 + draws,) the bound that the central design reaches under the constants of each; nan
    where there is no central design."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: a plan's numbers at each end, and from least to most of the draws."""
        told = [self._one(index) for index in range(len(self.kept))]
        drawn = told[len(ENDS) :]
        plans: dict[str, Any] = dict(zip(ENDS, told, strict=False))
        plans["draws"] = {
            name: _ends([one[name] for one in drawn])
            for name in (drawn[0] if drawn else ())
            if name != "status"
        }
        return plans

    def _one(self, index: int) -> dict[str, Any]:
        answers = self.answers
        design = answers.allocation
        numbers = {
            "bound": answers.bound,
            "lower_bound": answers.lower_bound,
            "bound_of_central_design": self.kept,
            "pretraining_rounds": design.pretraining_rounds,
            "finetuning_rounds": design.finetuning_rounds,
            "server_batch": design.server.batch,
            "mean_device_batch": np.asarray(design.devices.batch).mean(axis=-1),
        }
        status = STATUSES[int(answers.status[index])]
        plain = {name: float(np.asarray(x)[index]) for name, x in numbers.items()}
        return {
            "status": str(status),
            **{name: value if np.isfinite(value) else None for name, value in plain.items()},
        }


def _ends(values: list[float | None]) -> list[float] | None:
    some = [value for value in values if value is not None]
    return [min(some), max(some)] if some else None


def plan_within(
    optimistic: Scenario,
    central: Scenario,
    pessimistic: Scenario,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    bound: str = DEFAULT,
    progress: Progress | None = None,
) -> PlansWithin:
    """Plan at both ends of intervals of the learning constants, at their centre, and in between.

    Every design's bound grows with the gap, smoothness, discrepancy and variances, and falls with
    the PL constant, so the optimal bounds at the ends enclose those of all constants within. Rounds
    and batches need not change in one direction: draws show how they do.

    Args:
        optimistic: with every constant at the end where bounds are least.
        central: differs in ``learning`` alone.
        pessimistic: with every constant at the other end.
        draws: of scenarios whose constants, each by itself, are uniform between the ends.
        seed: of the draws.
        bound: "two-stage" or "fine-tuning".
        progress: called with (text, fraction or None).

    Raises:
        ValueError: if a scenario or an option is not valid, or draws < 0.
    """
    if draws < 0:
        raise ValueError(f"draws = {draws!r}: must be a whole number >= 0")
    rng = np.random.default_rng(seed)
    between = [_drawn(optimistic, pessimistic, rng) for _ in range(draws)]
    scenarios = stack([optimistic, central, pessimistic, *between])
    answers = plan_batch(scenarios, bound=bound, progress=progress)
    return PlansWithin(answers=answers, kept=_kept(scenarios, answers, bound))


def _drawn(low: Scenario, high: Scenario, rng: np.random.Generator) -> Scenario:
    def between(a: Any, b: Any) -> Any:
        return a + rng.random(np.shape(a)) * (np.asarray(b) - a)

    learning: Learning = jax.tree.map(between, low.learning, high.learning)
    return dataclasses.replace(low, learning=learning)


def _kept(scenarios: Scenario, answers: Answers, bound: str) -> np.ndarray:
    at = ENDS.index("central")
    if STATUSES[int(answers.status[at])] in (Status.INFEASIBLE, Status.FAILED):
        return np.full(len(answers.status), np.nan)
    design = jax.tree.map(lambda x: np.asarray(x)[at], answers.allocation)
    with jax.enable_x64(True):
        return np.asarray(jax.vmap(lambda s: bound_named(bound).value(s, design))(scenarios))
