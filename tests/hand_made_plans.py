"""Plans put together by hand, for tests of what prints and draws them."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxedge import presets
from jaxedge.answers.plan import Plan
from jaxedge.answers.status import Shortfall, Status
from jaxedge.scenario.scenario import Scenario
from jaxedge.system.allocation import Allocation, StageAllocation
from tests import plain_model
from tests.plain_model import plain

SCHEMES = (
    "pre-training only",
    "fine-tuning only",
    "separate stages",
    "fixed batches",
    "maximum clocks",
    "maximum power",
    "equal rounds",
)


def hand_made(
    preset: str = "default", pretraining: int = 400, finetuning: int = 150
) -> tuple[Scenario, Plan]:
    """A scenario whose energy is spent to 0.02 % and its delay to 1 %, and a plan of it."""
    scenario = presets.get(preset)
    allocation = _allocation(scenario, pretraining, finetuning)
    energy, delay = plain_model.energy_and_delay(plain(scenario), plain(allocation))
    scenario = dataclasses.replace(
        scenario,
        energy_budget=np.float64(energy * 1.0002),
        delay_budget=np.float64(delay * 1.01),
    )
    bound = plain_model.two_stage_bound(plain(scenario), plain(allocation))
    plan = Plan(
        status=Status.OPTIMAL,
        bound_name="two-stage",
        relaxed=False,
        requested_gap=1e-3,
        bound=bound,
        lower_bound=bound / 1.0002,
        allocation=allocation,
        energy=energy,
        delay=delay,
        shadow_prices={"energy_budget": -1.25e-4, "delay_budget": 0.0},
        naive_rounding=1.012 * bound,
    )
    return scenario, plan


def with_schemes(plan: Plan) -> Plan:
    """The plan with seven schemes, 10, 20, ... % above it, of which one is infeasible."""
    schemes = {
        name: dataclasses.replace(plan, bound=plan.bound * (1 + 0.1 * (index + 1)))
        for index, name in enumerate(SCHEMES)
    }
    return dataclasses.replace(plan, schemes={**schemes, "maximum clocks": infeasible()})


def infeasible() -> Plan:
    """An answer without a design."""
    return Plan(
        status=Status.INFEASIBLE,
        bound_name="two-stage",
        relaxed=False,
        requested_gap=1e-3,
        infeasible_because=Shortfall(budget="delay_budget", least_energy=None, least_delay=321.0),
    )


def _allocation(scenario: Scenario, pretraining: int, finetuning: int) -> Allocation:
    """Every third device at full clock, the first two at full power, the first with batch 1."""
    devices = scenario.devices
    index = np.arange(devices.gain.size)
    return Allocation(
        pretraining_rounds=np.float64(pretraining),
        finetuning_rounds=np.float64(finetuning),
        server=StageAllocation(batch=np.float64(6), clock=np.float64(4e9), power=np.float64(0.4)),
        devices=StageAllocation(
            batch=np.minimum(1.0 + index, 9.0),
            clock=devices.max_clock * np.where(index % 3 == 0, 1.0, 0.8),
            power=devices.max_power * np.where(index < 2, 1.0, 0.1),
        ),
    )
