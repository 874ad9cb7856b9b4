"""The course of a run: which rounds will run under which design, and what each is charged.

Charges never depend on the weights, so the course is known before training begins: the guard stops
it before the round that would overdraw a budget, and where the channel departs from the plan what
is left can be planned again. A controller sees past rounds only, and so does the re-planning here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jax.typing import ArrayLike

from jaxedge.answers.files import check_runnable, design_of, design_tree
from jaxedge.bounds.base import Effort
from jaxedge.bounds.two_stage import two_stage_bound, two_stage_fraction
from jaxedge.scenario.scenario import Scenario
from jaxedge.system.allocation import Allocation
from jaxedge.training.runs.ledgers import Ledger, ledger

Replan = Callable[[Scenario], Allocation | None]
"""What is left of a scenario once pre-training is over -> a design of fine-tuning alone, or None
where there is none."""

REPLAN_EVERY = 100
"""Rounds between two looks at the ledger."""
_TOLERANCE = 0.01
"""Departure from what was expected, as a share of what is left of a budget, that is let pass."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leg:
    """Rounds of one stage, one after the other, under one design."""

    fine_tuning: bool
    start: int
    """Number of the first round within its stage."""
    rounds: int
    design: Allocation
    """Its batches, clocks and powers; how many rounds it wants does not matter here."""

    @property
    def alone(self) -> Allocation:
        """The design with the leg's rounds and no others."""
        fine = self.rounds if self.fine_tuning else 0
        return dataclasses.replace(
            self.design, pretraining_rounds=self.rounds - fine, finetuning_rounds=fine
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Course:
    """All rounds of a run, in the order in which they run."""

    legs: tuple[Leg, ...]
    ledger: Ledger
    """Of the rounds of the legs."""
    planned: tuple[float, float]
    """J and s of the whole design under the planned channel."""
    wanted: tuple[int, int]
    """M and N of the design."""
    short_of: str | None = None
    """"energy" or "delay" where the guard stops the course before the end of its design."""

    @property
    def rounds(self) -> tuple[int, int]:
        """Pre-training and fine-tuning rounds that run."""
        fine = sum(leg.rounds for leg in self.legs if leg.fine_tuning)
        return len(self.ledger) - fine, fine


def course(
    scenario: Scenario,
    design: Allocation,
    *,
    channel: str = "planned",
    seed: int = 0,
    replan: Replan | None = None,
    replan_every: int = REPLAN_EVERY,
) -> Course:
    """The rounds that the budgets pay for.

    Args:
        scenario: one valid scenario.
        design: whole rounds and batches within the scenario's limits.
        channel: one of `ledger.CHANNELS`.
        seed: of the fading.
        replan: plans the fine-tuning rounds anew from what is left, where a budget's use departs by
            more than 1 % of what is left of it; by default the design is kept to the end.
        replan_every: fine-tuning rounds between two looks.

    Raises:
        ValueError: if the design cannot be run as it stands, or an option is not known.
    """
    check_runnable(design, scenario)
    planned = ledger(scenario, design).spent
    wanted = _count(design.pretraining_rounds), _count(design.finetuning_rounds)
    first = Leg(fine_tuning=False, start=0, rounds=wanted[0], design=design)
    second = Leg(fine_tuning=True, start=0, rounds=wanted[1], design=design)
    legs: tuple[Leg, ...] = (first, second)
    if replan is not None:
        legs = _replanned(scenario, first, second, channel, seed, replan, replan_every)
    return _paid(scenario, legs, channel, seed, planned, wanted)


def _charged(scenario: Scenario, legs: tuple[Leg, ...], channel: str, seed: int) -> Ledger:
    parts, before = [], 0
    for leg in legs:
        parts.append(ledger(scenario, leg.alone, channel=channel, seed=seed, start=before))
        before += leg.rounds
    return Ledger.joined(parts)


def _paid(
    scenario: Scenario,
    legs: tuple[Leg, ...],
    channel: str,
    seed: int,
    planned: tuple[float, float],
    wanted: tuple[int, int],
) -> Course:
    """The legs as far as both budgets pay for them."""
    book = _charged(scenario, legs, channel, seed)
    energy_budget, delay_budget = _budgets(scenario)
    paid = book.affordable(energy_budget, delay_budget)
    short = None
    if paid < len(book):
        energy, _ = book.first(paid + 1).spent
        short = "energy" if energy > energy_budget * (1 + 1e-9) else "delay"
    kept, left = [], paid
    for leg in legs:
        kept.append(dataclasses.replace(leg, rounds=min(leg.rounds, left)))
        left -= kept[-1].rounds
    return Course(
        legs=tuple(leg for leg in kept if leg.rounds),
        ledger=book.first(paid),
        planned=planned,
        wanted=wanted,
        short_of=short,
    )


def _count(rounds: ArrayLike) -> int:
    return int(np.asarray(rounds))


def _budgets(scenario: Scenario) -> tuple[float, float]:
    return float(np.asarray(scenario.energy_budget)), float(np.asarray(scenario.delay_budget))


def _replanned(
    scenario: Scenario,
    first: Leg,
    fine: Leg,
    channel: str,
    seed: int,
    replan: Replan,
    every: int,
) -> tuple[Leg, ...]:
    """The design's pre-training, then fine-tuning planned anew where the ledger departs."""
    promised = float(two_stage_bound(scenario, _whole(first, fine)))
    done, design, left = [first], fine.design, fine.rounds
    spent = np.array(_charged(scenario, (first,), channel, seed).spent)
    number = 0
    while left > 0:
        leg = Leg(fine_tuning=True, start=number, rounds=min(every, left), design=design)
        actual = ledger(
            scenario, leg.alone, channel=channel, seed=seed, start=first.rounds + number
        ).spent
        expected = ledger(scenario, leg.alone).spent
        done.append(leg)
        spent += actual
        number, left = number + leg.rounds, left - leg.rounds
        budget_left = np.array(_budgets(scenario)) - spent
        if (budget_left <= 0).any():
            break
        if (np.abs(np.subtract(actual, expected)) > _TOLERANCE * budget_left).any():
            new = replan(rest_of(scenario, tuple(done), promised, tuple(spent.tolist())))
            if new is not None:
                design, left = new, _count(new.finetuning_rounds)
    # Where the design was kept, one leg does.
    return _merged(done)


def _whole(first: Leg, fine: Leg) -> Allocation:
    return dataclasses.replace(
        fine.design, pretraining_rounds=first.rounds, finetuning_rounds=fine.rounds
    )


def _merged(legs: list[Leg]) -> tuple[Leg, ...]:
    joined: list[Leg] = []
    for leg in legs:
        last = joined[-1] if joined else None
        if last is not None and last.fine_tuning and last.design is leg.design:
            joined[-1] = dataclasses.replace(last, rounds=last.rounds + leg.rounds)
        else:
            joined.append(leg)
    return tuple(joined)


def rest_of(
    scenario: Scenario, done: tuple[Leg, ...], promised: float, spent: tuple[float, float]
) -> Scenario:
    """The scenario of the fine-tuning rounds that are still to come.

    The two-stage bound is (2 Delta + C)/D with sums C and D over all rounds. A rest C2, D2 keeps
    the whole at a promised theta where 2 Delta + C1 + C2 = theta (D1 + D2), 1 being what is done:
    so the rest is planned with the gap Delta' = (2 Delta + C1 - theta D1)/2 left to be gained.
    Where nothing departed from an optimal plan, the rest of the plan is the optimum of this.

    Args:
        scenario: the whole.
        done: the legs that have run.
        promised: theta, the whole design's bound.
        spent: J and s so far.
    """
    learning = scenario.learning
    above, below = 2 * float(np.asarray(learning.initial_gap)), 0.0
    for leg in done:
        design = leg.alone
        effort = Effort(
            pretraining_rounds=np.asarray(design.pretraining_rounds),  # type: ignore[arg-type]
            finetuning_rounds=np.asarray(design.finetuning_rounds),  # type: ignore[arg-type]
            inverse_server_batch=1 / np.asarray(design.server.batch),
            inverse_device_batch=1 / np.asarray(design.devices.batch),
        )
        part = two_stage_fraction(dataclasses.replace(learning, initial_gap=0.0), effort)
        above += float(part.numerator)
        below += float(part.denominator)
    gap = max(above - promised * below, 1e-9 * above) / 2
    least = _count(scenario.min_finetuning_rounds) - sum(
        leg.rounds for leg in done if leg.fine_tuning
    )
    energy_budget, delay_budget = _budgets(scenario)
    return dataclasses.replace(
        scenario,
        learning=dataclasses.replace(learning, initial_gap=gap),
        energy_budget=energy_budget - spent[0],
        delay_budget=delay_budget - spent[1],
        min_pretraining_rounds=0,
        min_finetuning_rounds=max(least, 1),
    )


def course_tree(done: Course) -> dict[str, Any]:
    """The course without its ledger, as plain JSON types."""
    return {
        "planned": list(done.planned),
        "wanted": list(done.wanted),
        "short_of": done.short_of,
        "legs": [
            {
                "fine_tuning": leg.fine_tuning,
                "start": leg.start,
                "rounds": leg.rounds,
                "design": design_tree(leg.design),
            }
            for leg in done.legs
        ],
    }


def course_of(tree: dict[str, Any], scenario: Scenario, *, channel: str, seed: int) -> Course:
    """The course that `course_tree` has written, charged again."""
    legs = tuple(Leg(**{**leg, "design": design_of(leg["design"])}) for leg in tree["legs"])
    return Course(
        legs=legs,
        ledger=_charged(scenario, legs, channel, seed),
        planned=(tree["planned"][0], tree["planned"][1]),
        wanted=(tree["wanted"][0], tree["wanted"][1]),
        short_of=tree["short_of"],
    )
