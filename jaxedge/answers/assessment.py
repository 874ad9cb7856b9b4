"""What is claimed of a design, computed again from its allocation in original units."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxedge.scenario.scenario import Scenario
from jaxedge.system.allocation import Allocation
from jaxedge.system.constraints import violation
from jaxedge.system.delay import delay
from jaxedge.system.energy import energy

TOLERANCE = 1e-9
"""Relative excess over a limit, or of a lower bound over its bound, taken for rounding."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Assessment:
    """An allocation with what it reaches and uses, () each or with a leading batch axis."""

    allocation: Allocation
    bound: Array
    energy: Array
    """J."""
    delay: Array
    """s."""
    violation: Array
    """Largest relative excess over a limit."""

    @property
    def legal_bound(self) -> np.ndarray:
        """(B,) the bounds, nan where a limit is broken or the bound is no finite number."""
        bound = np.asarray(self.bound)
        legal = (np.asarray(self.violation) <= TOLERANCE) & np.isfinite(bound)
        return np.where(legal, bound, np.nan)


def assessment_of(
    scenario: Scenario, allocation: Allocation, bound: Array, own_violation: ArrayLike = -np.inf
) -> Assessment:
    """The assessment of one allocation.

    Args:
        scenario: what it has to keep to.
        allocation: any.
        bound: () what it reaches.
        own_violation: () largest relative excess over the user's own limits.
    """
    return Assessment(
        allocation=allocation,
        bound=bound,
        energy=energy(scenario, allocation),
        delay=delay(scenario, allocation),
        violation=jnp.maximum(violation(scenario, allocation), own_violation),
    )
