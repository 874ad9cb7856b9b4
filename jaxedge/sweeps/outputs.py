"""What a sweep can keep of each design: names, units and meanings, and how they are computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from jaxedge.answers.batch import STATUSES, Answers
from jaxedge.answers.status import Status
from jaxedge.planning.schemes import JOINT, SCHEMES
from jaxedge.scenario.scenario import FIELDS
from jaxedge.words.choices import unknown

SCHEME_BOUND = "scheme_bound"
_ELASTICITY = "elasticity_"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Output:
    """One variable of the dataset."""

    name: str
    unit: str
    meaning: str
    dimension: str | None = None
    """"device" or "scheme" where it has one of its own."""
    of: Callable[[Answers], Any] | None = None
    """Reads it from answers."""

    @property
    def dtype(self) -> str:
        """Of its array."""
        return "i1" if self.name == "status" else "f8"


def _one(name: str, unit: str, meaning: str, of: Callable[[Answers], Any]) -> Output:
    return Output(name=name, unit=unit, meaning=meaning, of=of)


def _each(name: str, unit: str, meaning: str, of: Callable[[Answers], Any]) -> Output:
    return Output(name=name, unit=unit, meaning=meaning, of=of, dimension="device")


def _price(budget: str, unit: str) -> Output:
    meaning = f"derivative of the relaxed optimal bound to {budget}"
    return _one(f"shadow_price_{budget}", unit, meaning, lambda a: a.shadow_prices[budget])


OUTPUTS = {
    item.name: item
    for item in (
        _one("bound", "1", "convergence bound of the design", lambda a: a.bound),
        _one("lower_bound", "1", "certified: no design is below", lambda a: a.lower_bound),
        _one("gap", "1", "certified relative gap", lambda a: a.gap),
        _one("status", "1", "status of the answer", lambda a: a.status),
        _one(
            "pretraining_rounds",
            "1",
            "pre-training rounds",
            lambda a: a.allocation.pretraining_rounds,
        ),
        _one(
            "finetuning_rounds", "1", "fine-tuning rounds", lambda a: a.allocation.finetuning_rounds
        ),
        _one(
            "server_batch",
            "1",
            "samples of the server's batch",
            lambda a: a.allocation.server.batch,
        ),
        _one("server_clock", "Hz", "clock of the server", lambda a: a.allocation.server.clock),
        _one("server_power", "W", "power of the broadcast", lambda a: a.allocation.server.power),
        _each(
            "device_batch", "1", "samples of a device's batch", lambda a: a.allocation.devices.batch
        ),
        _each("device_clock", "Hz", "clock of a device", lambda a: a.allocation.devices.clock),
        _each(
            "device_power", "W", "uplink power of a device", lambda a: a.allocation.devices.power
        ),
        _one("energy", "J", "energy spent", lambda a: a.energy),
        _one("delay", "s", "time spent", lambda a: a.delay),
        _price("energy_budget", "1/J"),
        _price("delay_budget", "1/s"),
        Output(
            name=SCHEME_BOUND,
            unit="1",
            meaning="convergence bound of a benchmark design",
            dimension="scheme",
        ),
    )
}
"""By name; elasticities come on top."""


@cache
def _elasticities() -> dict[str, Output]:
    return {
        name: Output(
            name=name, unit="1", meaning=f"elasticity of the relaxed optimal bound to {path}"
        )
        for path in (item.path for item in FIELDS)
        for name in (_ELASTICITY + path.replace(".", "__"),)
    }


def output_named(name: str) -> Output:
    """The output of a name; an elasticity's may hold a dotted path.

    Raises:
        ValueError: if it is unknown, with a suggestion.
    """
    known = {**OUTPUTS, **_elasticities()}
    plain = str(name).replace(".", "__")
    if plain in known:
        return known[plain]
    raise ValueError(unknown("output", name, known, listed=OUTPUTS))


def compute_outputs(
    scenarios: Any, outputs: tuple[Output, ...], options: dict[str, Any]
) -> dict[str, Any]:
    """Name -> array (n, ...) of the outputs of stacked scenarios.

    Args:
        scenarios: with a leading axis (n,) on one field at least.
        outputs: what is wanted.
        options: of `jaxedge.planning.entry.plan_batch`.
    """
    from jaxedge.planning import entry
    from jaxedge.scenario.validation import validate_batch

    valid = validate_batch(scenarios)
    with_schemes = any(item.name == SCHEME_BOUND for item in outputs)
    if with_schemes:
        named = entry.plan_batch(valid, schemes=True, **options)
        answers = named[JOINT]
    else:
        answers = entry.plan_batch(valid, **options)
    blank = np.full(len(answers.status), np.nan)
    found = {item.name: np.asarray(item.of(answers)) for item in outputs if item.of is not None}
    wanted = [item.name for item in outputs if item.name.startswith(_ELASTICITY)]
    if wanted:
        from jaxedge.bounds.registry import differentiable_bound
        from jaxedge.sensitivity.gradients import (
            elasticity_of_each,
            gradients_of_valid,
            sum_over_devices,
        )

        values, gradients = gradients_of_valid(
            valid, differentiable_bound(options["bound"]), prices=answers.prices
        )
        every = sum_over_devices(elasticity_of_each(valid, values, gradients))
        by_name = {_ELASTICITY + path.replace(".", "__"): x for path, x in every.items()}
        found |= {name: np.asarray(by_name.get(name, blank)) for name in wanted}
    if with_schemes:
        bounds = [named[name].bound if name in named else blank for name in SCHEMES]
        found[SCHEME_BOUND] = np.stack(bounds, axis=-1)
    return found


INFEASIBLE = STATUSES.index(Status.INFEASIBLE)
