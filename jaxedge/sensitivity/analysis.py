"""Everything about the sensitivities of one scenario: ranked, with kinks and finite changes."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import numpy as np

from jaxedge.answers.status import Status
from jaxedge.bounds.registry import DEFAULT
from jaxedge.planning.entry import plan
from jaxedge.scenario.fields import field_value
from jaxedge.scenario.scenario import FIELDS, Field, Scenario
from jaxedge.scenario.validation import validate
from jaxedge.sensitivity.finite_changes import FiniteChange, finite_changes
from jaxedge.sensitivity.gradients import value_and_grad
from jaxedge.sensitivity.kinks import Sides, both_sides
from jaxedge.words.progress import Progress, no_progress

LIMITS = (
    "energy_budget",
    "delay_budget",
    "min_pretraining_rounds",
    "min_finetuning_rounds",
    *(
        f"{part}.{name}"
        for part in ("server", "devices")
        for name in ("max_clock", "max_power", "min_batch", "max_batch")
    ),
)
"""Fields whose gradient is the shadow price of a limit: zero where it is slack."""
REPLANNED = 6
"""Fields of the largest elasticities whose finite changes are planned by default."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameter:
    """The bound's sensitivity to one field."""

    field: Field
    value: np.ndarray
    """() or (K,), SI."""
    gradient: np.ndarray
    """d bound/d value in its shape."""
    sides: Sides
    """Elasticities, of a common factor on all devices for device fields."""
    devices: tuple[Sides, ...]
    """Of each device alone; empty for single fields and large K."""
    finite: tuple[FiniteChange, ...]
    """Of whole designs; empty where not planned."""

    @property
    def elasticity(self) -> float:
        """D log bound/d log parameter."""
        return self.sides.elasticity


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """Sensitivities of the relaxed optimum of one bound."""

    status: str
    """Of the relaxed optimum, as in a plan."""
    message: str
    """What the status means."""
    bound_name: str
    bound: float | None
    """The relaxed optimal bound."""
    parameters: tuple[Parameter, ...]
    """Ranked by the size of the elasticity; empty without an optimum."""

    @property
    def shadow_prices(self) -> dict[str, np.ndarray]:
        """Path of a limit -> d bound/d limit, () or (K,); zero where it is slack."""
        by_path = {parameter.field.path: parameter for parameter in self.parameters}
        return {path: by_path[path].gradient for path in LIMITS if path in by_path}

    def to_dict(self) -> dict[str, Any]:
        """The analysis in plain JSON: null for what is not known."""
        plain: dict[str, Any] = _plain(
            {
                "status": self.status,
                "message": self.message,
                "bound_name": self.bound_name,
                "relaxed": True,
                "bound": self.bound,
                "parameters": [_entry(parameter) for parameter in self.parameters],
                "shadow_prices": self.shadow_prices,
            }
        )
        return plain


def analyse(
    scenario: Scenario,
    *,
    bound: str = DEFAULT,
    replanned: int = REPLANNED,
    progress: Progress | None = None,
) -> Sensitivity:
    """Sensitivities of the optimal bound of one scenario to everything in it.

    Args:
        scenario: as built, loaded or taken from a preset; it is validated here.
        bound: as in `value_and_grad`.
        replanned: how many of the fields that matter most are changed by 1 % and 5 %, and planned
            again with whole rounds and batches.
        progress: as in `planning.plan`.

    Raises:
        ValueError: if the scenario or the bound is not valid.
    """
    progress = no_progress if progress is None else progress
    valid = validate(scenario)
    progress("solving the relaxation", None)
    value, gradients = value_and_grad(valid, bound=bound)
    if not np.isfinite(value):
        optimum = plan(valid, bound=bound, relaxed=True, progress=progress)
        return Sensitivity(
            status=str(optimum.status),
            message=optimum.message,
            bound_name=bound,
            bound=None,
            parameters=(),
        )
    progress("solving both sides of every parameter", None)
    sides = both_sides(valid, bound=bound)
    ranked = sorted(
        (side for side in sides if side.device is None), key=lambda side: -abs(side.elasticity)
    )
    # Weights sum to 1: they have a derivative, but no change of their own.
    chosen = [side.path for side in ranked if side.path != "learning.device_weight"][:replanned]
    finite = finite_changes(valid, chosen, progress=progress, bound=bound) if chosen else {}
    by_path = {item.path: item for item in FIELDS}

    def parameter(side: Sides) -> Parameter:
        item = by_path[side.path]
        given, gradient = field_value(valid, item), field_value(gradients, item)
        return Parameter(
            field=item,
            value=np.asarray(given),
            gradient=np.asarray(gradient) + 0.0,  # no negative zeros
            sides=side,
            devices=tuple(s for s in sides if s.path == side.path and s.device is not None),
            finite=finite.get(side.path, ()),
        )

    return Sensitivity(
        status=str(Status.OPTIMAL),
        message="The relaxed optimum is certified to 1e-6.",
        bound_name=bound,
        bound=float(value),
        parameters=tuple(parameter(side) for side in ranked),
    )


def _entry(parameter: Parameter) -> dict[str, Any]:
    item, sides = parameter.field, parameter.sides
    return {
        "path": item.path,
        "unit": item.unit,
        "meaning": item.meaning,
        "whole_number_taken_as_real": item.integer,
        "value": parameter.value,
        "gradient": parameter.gradient,
        "elasticity": sides.elasticity,
        **_told(sides),
        "devices": [
            {"device": s.device, "elasticity": s.elasticity, **_told(s)} for s in parameter.devices
        ],
        "whole_designs": [dataclasses.asdict(change) for change in parameter.finite],
    }


def _told(sides: Sides) -> dict[str, Any]:
    return {
        "kink": sides.kink,
        "elasticity_below": sides.below,
        "elasticity_above": sides.above,
        "changes_nearby": list(sides.changes),
    }


def _plain(value: Any) -> Any:
    """Lists and Python numbers, with None for what is not finite."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | jax.Array | np.generic):
        return _plain(np.asarray(value).tolist())
    if isinstance(value, float):
        return value + 0.0 if math.isfinite(value) else None
    return value
