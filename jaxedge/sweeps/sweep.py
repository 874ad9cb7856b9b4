"""The specification of a sweep: a scenario, axes over its fields, and what is to be kept."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxedge.bounds.registry import DEFAULT
from jaxedge.scenario.scenario import Scenario
from jaxedge.scenario.text import to_tree
from jaxedge.scenario.validation import validate
from jaxedge.sweeps.axes import Axis, Setting, as_axis

DEFAULT_OUTPUTS = (
    "bound",
    "lower_bound",
    "gap",
    "status",
    "pretraining_rounds",
    "finetuning_rounds",
    "energy",
    "delay",
    "shadow_price_energy_budget",
    "shadow_price_delay_budget",
)
STATISTICS = ("mean", "std", "quantile")
BLOCK = 4096
"""Scenarios that are always solved together, however the sweep is cut into chunks."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """Named axes over fields of a scenario, and the outputs to keep of each design.

    Raises:
        ValueError: from `jaxedge.sweeps.checks.check_sweep`, through which a sweep passes before it
            runs.
    """

    scenario: Scenario
    """What the axes leave alone."""
    axes: Sequence[Axis | Setting]
    """In the order of the dimensions."""
    outputs: Sequence[str] = DEFAULT_OUTPUTS
    """Names of `jaxedge.sweeps.outputs.OUTPUTS`, "elasticity_PATH", or "scheme_bound"."""
    statistics: Sequence[str] = STATISTICS
    """Kept in place of reduced draws."""
    quantiles: Sequence[float] = (0.05, 0.5, 0.95)
    relaxed: bool = False
    bound: str = DEFAULT
    solver: str = "dual-decomposition"
    gap: float | None = None
    seed: int = 0
    block: int = BLOCK
    """Scenarios solved in one call: draws and answers depend on it in their last bits only."""

    @property
    def dimensions(self) -> tuple[Axis, ...]:
        """The axes, grids alone among them made axes."""
        return tuple(as_axis(axis) for axis in self.axes)

    @property
    def kept(self) -> tuple[Axis, ...]:
        """The axes that are dimensions of the answer."""
        return tuple(axis for axis in self.dimensions if not axis.reduce)

    @property
    def reduced(self) -> tuple[Axis, ...]:
        """The random axes over which only statistics are kept."""
        return tuple(axis for axis in self.dimensions if axis.reduce)

    @property
    def cells(self) -> int:
        """Number of elements of the answer."""
        return math.prod(len(axis) for axis in self.kept)

    @property
    def draws(self) -> int:
        """Draws behind each element; 1 where nothing is reduced."""
        return math.prod(len(axis) for axis in self.reduced)

    @property
    def num_devices(self) -> int:
        """K; nothing on an axis changes it."""
        return len(validate(self.scenario).devices.gain)  # type: ignore[arg-type]

    def tree(self) -> dict[str, Any]:
        """The sweep as a sweep file holds it, in plain numbers and lists."""
        given = {
            item.name: getattr(self, item.name)
            for item in dataclasses.fields(self)
            if item.name not in ("scenario", "axes")
        }
        axes = [axis.tree() for axis in self.dimensions]
        told = {name: value for name, value in given.items() if value is not None}
        whole = {**told, "scenario": to_tree(validate(self.scenario)), "axes": axes}
        return {name: plain(value) for name, value in whole.items()}

    def text(self) -> str:
        """The sweep as one line of JSON, the same for equal sweeps."""
        return json.dumps(self.tree(), sort_keys=True, allow_nan=False)

    def digest(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.text().encode()).hexdigest()


def plain(value: Any) -> Any:
    """Numbers, lists and mappings of NumPy's or Python's as those of JSON."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(inner) for inner in value]
    return value
