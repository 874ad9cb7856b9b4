"""Which parameters matter over whole ranges: global measures of the optimal bound.

The function measured is the relaxed optimal two-stage bound. Where designs are infeasible inside
the ranges it has no value: that is refused, with the share, or such designs count as a bound that
the caller names, and the measures are those of the bound so completed. They are never left out, as
the parameters would not be independent among those that remain.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxedge.answers.status import Status
from jaxedge.planning.entry import plan_batch
from jaxedge.scenario.scenario import Scenario
from jaxedge.scenario.validation import validate, validate_batch
from jaxedge.sensitivity import measures
from jaxedge.sensitivity.gradients import value_and_grad
from jaxedge.sensitivity.measures import CONFIDENCE, Measure
from jaxedge.sensitivity.ranges import Range, factors_of, ranges_of, scenarios_at
from jaxedge.words.choices import choice
from jaxedge.words.quantities import number, percent
from jaxedge.words.text_table import aligned, paragraph

METHODS = {"sobol": "total_order", "morris": "mu_star", "derivative": "total_order_bound"}
"""Method -> the measure that its table is ranked by."""
SAMPLES = {"sobol": 256, "morris": 32, "derivative": 256}
"""Method -> its samples unless asked otherwise; trajectories for Morris."""

_SECOND = "interior-point"

Evaluate = Callable[[Scenario], tuple[np.ndarray, np.ndarray]]
"""Stacked scenarios -> bounds (B,), nan where there is none, and bool (B,) where infeasible."""
Gradients = Callable[[Scenario], tuple[np.ndarray, Scenario]]
"""Stacked scenarios -> bounds (B,) and their gradients, nan where there is none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GlobalSensitivity:
    """Measures of d parameters, in the order of the ranges given."""

    method: str
    ranges: Sequence[Range]
    measures: Mapping[str, Measure]
    """The one that ranks comes first."""
    samples: int
    evaluations: int
    seed: int
    mean: float
    """Of the bound over the designs evaluated."""
    std: float
    infeasible_share: float
    """Of the designs evaluated."""
    infeasible_as: float | None
    """The bound that they count as."""

    @property
    def ranking(self) -> list[int]:
        """Positions of the parameters, the one that matters most first."""
        return [int(i) for i in np.argsort(-self.measures[METHODS[self.method]].estimate)]

    def to_dict(self) -> dict[str, Any]:
        """The content as JSON holds it, parameters ranked; None stands where there is nothing."""
        kept = ("method", "samples", "evaluations", "seed", "infeasible_share", "infeasible_as")
        return {
            **{name: getattr(self, name) for name in kept},
            "confidence": CONFIDENCE,
            "bound": {"mean": self.mean, "std": self.std},
            "parameters": [self._parameter(i) for i in self.ranking],
        }

    def _parameter(self, i: int) -> dict[str, Any]:
        given = self.ranges[i]
        kept = ("low", "high", "distribution", "mean", "std", "relative")
        measured = {
            name: {part: _plain(getattr(measure, part)[i]) for part in ("estimate", "low", "high")}
            for name, measure in self.measures.items()
        }
        told = {name: getattr(given, name) for name in kept}
        return {"parameter": given.key, "unit": given.symbol, **told, "measures": measured}

    def __str__(self) -> str:
        """A ranked table with intervals."""
        heads = [name.replace("_", " ") for name in self.measures]
        rows = [["parameter", "from", "to", "unit", *heads]]
        for i in self.ranking:
            given = self.ranges[i]
            cells = [_cell(measure, i) for measure in self.measures.values()]
            rows.append([given.key, f"{given.low:.6g}", f"{given.high:.6g}", given.symbol, *cells])
        return "\n".join([*aligned(rows), "", *paragraph(self._summary(), "")])

    def _summary(self) -> str:
        text = (
            f"{self.method}, {self.samples} samples, seed {self.seed}: {self.evaluations} optimal "
            f"bounds (relaxed), {number(self.mean)} on average with a standard deviation of "
            f"{number(self.std)}. In brackets: {percent(CONFIDENCE, 2)} intervals of a bootstrap."
        )
        if self.infeasible_as is None:
            return text
        share = percent(self.infeasible_share)
        return f"{text} {share} infeasible, counted as {number(self.infeasible_as)}."


def _plain(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def _cell(measure: Measure, i: int) -> str:
    text = number(float(measure.estimate[i]), 3)
    if not math.isfinite(measure.low[i]):
        return text
    return f"{text} [{number(float(measure.low[i]), 3)}, {number(float(measure.high[i]), 3)}]"


def relaxed_bounds(scenarios: Scenario) -> tuple[np.ndarray, np.ndarray]:
    """Relaxed optimal bounds (B,) of stacked scenarios, and which (B,) are proven infeasible.

    What the dual decomposition fails on, some in ten thousand, the interior point is asked again.
    """
    answers = plan_batch(scenarios, relaxed=True)
    bounds, failed = np.array(answers.bound), np.flatnonzero(answers.is_(Status.FAILED))
    if failed.size:
        again: Scenario = jax.tree.map(lambda leaf: leaf[failed], validate_batch(scenarios))
        bounds[failed] = plan_batch(again, relaxed=True, solver=_SECOND).bound
    return bounds, answers.is_(Status.INFEASIBLE)


def global_sensitivity(
    scenario: Scenario,
    ranges: Mapping[str, Any] | Sequence[Range],
    *,
    method: str = "sobol",
    samples: int | None = None,
    seed: int = 0,
    infeasible_as: float | None = None,
    evaluate: Evaluate = relaxed_bounds,
    gradients: Gradients = value_and_grad,
) -> GlobalSensitivity:
    """Measure which parameters the optimal bound depends on over whole ranges.

    Args:
        scenario: holds the fields that have no range.
        ranges: as `parameter_ranges.ranges_of` takes them, or its result.
        method: "sobol" (samples * (d + 2) optima), "morris" (samples * (d + 1), needs SALib), or
            "derivative" (samples optima with their gradients).
        samples: a power of two; for Morris the number of trajectories.
        seed: the same seed gives the same numbers.
        infeasible_as: the bound that infeasible designs count as; None refuses them. The method
            "derivative" always does: a bound completed so jumps.
        evaluate: optimal bounds of stacked scenarios.
        gradients: the same with their gradients, for "derivative".

    Raises:
        ValueError: if an argument is not valid, designs in the ranges are infeasible and nothing is
            said of them, or a bound could not be computed.
    """
    choice("method", method, METHODS)
    base = validate(scenario)
    given = ranges_of(ranges) if isinstance(ranges, Mapping) else list(ranges)
    count = SAMPLES[method] if samples is None else _whole("samples", samples)
    _check_infeasible_as(infeasible_as, method)
    study = _Study(base, given, infeasible_as, evaluate, gradients)
    start = _whole("seed", seed)
    if method == "derivative":
        found = measures.derivative(study.with_gradients, len(given), count, start)
    else:
        measure = {"sobol": measures.sobol, "morris": measures.morris}[method]
        found = measure(study.values, len(given), count, start)
    return GlobalSensitivity(
        method=method,
        ranges=given,
        measures=found,
        samples=count,
        evaluations=len(study.bounds),
        seed=start,
        mean=float(study.bounds.mean()),
        std=float(study.bounds.std()),
        infeasible_share=study.infeasible_share,
        infeasible_as=infeasible_as,
    )


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise ValueError(f"{name} = {value!r:.40}: must be a whole number >= 0")
    return int(value)


def _check_infeasible_as(value: float | None, method: str) -> None:
    if value is None:
        return
    if method == "derivative":
        raise ValueError("infeasible_as: derivatives do not see jumps; use the method 'sobol'")
    if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"infeasible_as = {value!r:.40}: must be a finite bound > 0")


class _Study:
    """The optimal bound as a function on the unit cube, keeping what it was asked."""

    bounds: np.ndarray
    infeasible_share: float

    def __init__(
        self,
        base: Scenario,
        ranges: Sequence[Range],
        infeasible_as: float | None,
        evaluate: Evaluate,
        gradients: Gradients,
    ) -> None:
        self._base, self._ranges, self._infeasible_as = base, ranges, infeasible_as
        self._evaluate, self._gradients = evaluate, gradients

    def values(self, shares: np.ndarray) -> np.ndarray:
        """Bounds (B,) at shares (B, d)."""
        bounds, infeasible = self._evaluate(self._scenarios(self._points(shares)))
        bounds = np.asarray(bounds)
        if self._infeasible_as is not None:
            bounds = np.where(infeasible, self._infeasible_as, bounds)
        self._keep(bounds, float(np.mean(infeasible)))
        return bounds

    def with_gradients(self, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Bounds (B,), gradients (B, d) in the ranges' units and d value/d share (B, d)."""
        points = self._points(shares)
        bounds, gradients = self._gradients(self._scenarios(points))
        self._keep(np.asarray(bounds), 0.0)
        columns = [
            _along(self._base, item, gradients, column)
            for item, column in zip(self._ranges, points.T, strict=True)
        ]
        slopes = [r.slopes(column) for r, column in zip(self._ranges, points.T, strict=True)]
        return np.asarray(bounds), np.column_stack(columns), np.column_stack(slopes)

    def _points(self, shares: np.ndarray) -> np.ndarray:
        columns = zip(self._ranges, shares.T, strict=True)
        return np.column_stack([item.values(column) for item, column in columns])

    def _scenarios(self, points: np.ndarray) -> Scenario:
        return scenarios_at(self._base, self._ranges, points)

    def _keep(self, bounds: np.ndarray, infeasible_share: float) -> None:
        absent = int(np.sum(~np.isfinite(bounds)))
        if absent:
            raise ValueError(
                f"ranges: {absent} of {len(bounds)} designs ({percent(absent / len(bounds))}) are "
                f"infeasible or not certified ({percent(infeasible_share)} proven infeasible): "
                "narrow the ranges; infeasible_as says which bound infeasible designs count as"
            )
        self.bounds, self.infeasible_share = bounds, infeasible_share


def _along(base: Scenario, item: Range, gradients: Scenario, values: np.ndarray) -> np.ndarray:
    """Derivative d bound/d value (B,) of one range at its values (B,), in the range's unit."""
    part = np.asarray(getattr(getattr(gradients, item.item.section, gradients), item.item.name))
    each = part * factors_of(base, item)
    return (each.sum(axis=-1) if item.item.per_device else each) * item.si_slopes(values)
