"""A plan as a readable plain-text table; the numbers come from ``jaxedge.system.accounts``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxedge.answers.design_table import design_table
from jaxedge.answers.status import Status
from jaxedge.scenario.scenario import Scenario
from jaxedge.system.accounts import BindingLimit, Breakdown, binding_limits, breakdown
from jaxedge.words.quantities import count, number, percent, quantity
from jaxedge.words.text_table import aligned, index_ranges, paragraph

if TYPE_CHECKING:  # a plan prints itself with this module
    from jaxedge.answers.plan import Plan

__all__ = ["binding_limits", "breakdown", "plan_table"]

_UNITS = {"energy_budget": ("energy", "joule", "J"), "delay_budget": ("time", "second", "s")}


def plan_table(plan: Plan, scenario: Scenario | None = None) -> str:
    """The plan as aligned text of at most 100 columns, in ASCII.

    Args:
        plan: the answer to print.
        scenario: what it answers; without it budgets, limits and accounts are left out.
    """
    blocks = [_headline(plan)]
    allocation = plan.allocation
    if allocation is not None:
        spent = None if scenario is None else breakdown(scenario, allocation)
        blocks.append(design_table(allocation, spent))
        if scenario is not None and spent is not None:
            blocks += [_budgets(plan, scenario), _accounts(spent)]
            blocks.append(_binding(binding_limits(scenario, allocation), spent))
        blocks.append(_prices(plan, scenario))
    if plan.schemes:
        blocks.append(_schemes(plan))
    return "\n\n".join("\n".join(block) for block in blocks)


def _headline(plan: Plan) -> list[str]:
    kind = "real rounds and batches" if plan.relaxed else "whole rounds and batches"
    rows = [f"{'status':<15} {plan.status}"]
    if plan.bound is not None:
        rows.append(f"{'bound':<15} {number(plan.bound, 7)} (a {plan.unit})")
    if plan.lower_bound is not None:
        rows.append(f"{'lower bound':<15} {number(plan.lower_bound, 7)} (no design can do better)")
    if plan.gap is not None:
        asked = percent(plan.requested_gap)
        rows.append(f"{'certified gap':<15} {percent(plan.gap)} (requested: {asked})")
    if plan.bound is not None and not plan.relaxed:
        rows.append(f"{'naive rounding':<15} {_naive(plan, plan.bound)}")
    title = f"Two-stage edge learning plan: {plan.bound_name} bound, {kind}"
    return [title, "", *rows, *paragraph(plan.message, "")]


def _naive(plan: Plan, bound: float) -> str:
    if plan.naive_rounding is None:
        return "of the relaxed optimum breaks a limit"
    change = _relative(plan.naive_rounding, bound)
    return f"{number(plan.naive_rounding, 7)} ({change} against this design)"


def _relative(value: float, reference: float) -> str:
    """How much larger the value is, "+12.3 %"."""
    share = value / reference - 1.0 if reference > 0 else 0.0
    return f"{'-' if share < 0 else '+'}{percent(abs(share))}"


def _budgets(plan: Plan, scenario: Scenario) -> list[str]:
    rows = [("BUDGETS", "used", "budget", "share")]
    for name, used, budget, unit in (
        ("energy", plan.energy, scenario.energy_budget, "J"),
        ("delay", plan.delay, scenario.delay_budget, "s"),
    ):
        limit = float(np.asarray(budget))
        share = None if used is None else used / limit
        rows.append(
            (name, f"{number(used, 6)} {unit}", f"{number(limit, 6)} {unit}", percent(share, 4))
        )
    return aligned(rows)


def _accounts(spent: Breakdown) -> list[str]:
    energy, delay = sum(spent.energy.values()), sum(spent.delay.values())
    rows = [("WHERE IT GOES", "energy", "share", "delay", "share")]
    for name, joules in spent.energy.items():
        seconds = spent.delay[name]
        shares = (percent(joules / energy if energy else 0), percent(seconds / delay))
        rows.append((name, quantity(joules, "J"), shares[0], quantity(seconds, "s"), shares[1]))
    return aligned(rows)


def _binding(limits: Sequence[BindingLimit], spent: Breakdown) -> list[str]:
    devices = spent.device_energy.size
    lines = ["LIMITS THAT BIND", *(f"  {_limit(limit, devices)}" for limit in limits)]
    if not limits:
        lines.append("  none")
    if spent.delay["uploads"] > 0 and devices > 1:
        time = spent.device_round_time
        last = _whom(np.flatnonzero(time >= time.max() * (1 - 1e-3)).tolist(), devices)
        lines.append(f"  (each fine-tuning round waits for {last})")
    return lines


def _limit(limit: BindingLimit, devices: int) -> str:
    if limit.owner == "plan":
        return limit.limit
    owner = "server" if limit.owner == "server" else _whom(limit.devices, devices)
    return f"{owner}: {limit.limit}"


def _whom(some: Sequence[int], devices: int) -> str:
    """The devices in words; many scattered ones are only counted."""
    if len(some) == devices:
        return "all devices" if devices > 1 else "the device"
    listed = index_ranges(some)
    if len(listed) > 50:
        return f"{len(some)} of {devices} devices"
    return f"device {listed}" if len(some) == 1 else f"devices {listed}"


def _prices(plan: Plan, scenario: Scenario | None) -> list[str]:
    heading = "of the relaxed optimum" if not plan.relaxed else "of the optimum"
    lines = [f"SHADOW PRICES ({heading})"]
    for field, (what, one, unit) in _UNITS.items():
        price = plan.shadow_prices.get(field)
        budget = None if scenario is None else float(np.asarray(getattr(scenario, field)))
        lines.append(f"  {what:<7} {_price(price, one, unit, what, budget, plan.bound)}")
    return lines


def _price(
    price: float | None, one: str, unit: str, what: str, budget: float | None, bound: float | None
) -> str:
    if price is None:
        return "unknown"
    if price == 0:
        return f"0 per {unit}: one more {one} changes nothing"
    move = "lowers" if price < 0 else "raises"
    text = f"{number(price)} per {unit}: one more {one} {move} the bound by {number(abs(price))}"
    if budget is None or not bound:
        return text
    more, share = 0.01 * budget, 0.01 * budget * abs(price) / bound
    relative = f"1 % more {what} ({quantity(more, unit)}) {move} it by {percent(share)}"
    return f"{text},\n{'':<10}{relative}"


def _schemes(plan: Plan) -> list[str]:
    head = ("DESIGNS COMPARED", "status", "bound", "to joint", "pre", "fine", "energy", "delay")
    rows = [head, _scheme("joint (this plan)", plan, None)]
    rows += [_scheme(name, scheme, plan.bound) for name, scheme in plan.schemes.items()]
    return aligned(rows)


def _scheme(name: str, plan: Plan, joint: float | None) -> tuple[str, ...]:
    design = plan.allocation
    if design is None or plan.bound is None or plan.status in (Status.INFEASIBLE, Status.FAILED):
        return (name, str(plan.status), "-", "-", "-", "-", "-", "-")
    rounds = (design.pretraining_rounds, design.finetuning_rounds)
    return (
        name,
        str(plan.status),
        number(plan.bound, 5),
        "" if joint is None else _relative(plan.bound, joint),
        *(count(float(np.asarray(number_of))) for number_of in rounds),
        quantity(plan.energy, "J"),
        quantity(plan.delay, "s"),
    )
