"""Many scenarios as one: a leading batch axis on every field, as jax.vmap wants it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import jax
import numpy as np

from jaxedge.scenario.scenario import Scenario
from jaxedge.scenario.validation import validate

_Given = TypeVar("_Given")
_Found = TypeVar("_Found")


def stack(scenarios: Sequence[Scenario]) -> Scenario:
    """Stack B valid scenarios of equal K into one whose fields have a leading axis (B, ...).

    Raises:
        ValueError: if there are none, K differs, one is not valid, or only some have a
            ``pl_constant``, or their spectra differ in length.
    """
    if not scenarios:
        raise ValueError("no scenarios to stack: give at least one")
    valid = [named(f"scenario {i}", validate, item) for i, item in enumerate(scenarios)]
    first = valid[0]
    for index, item in enumerate(valid):
        _same_structure(first, item, index)
    stacked: Scenario = jax.tree.map(lambda *leaves: np.stack(leaves), *valid)
    return stacked


def unstack(scenarios: Scenario) -> list[Scenario]:
    """Split a scenario with one leading axis (B, ...) into its B elements; inverse of stack."""
    count = len(np.asarray(scenarios.energy_budget))
    return [jax.tree.map(lambda leaf, i=i: leaf[i], scenarios) for i in range(count)]


def modes_of(scenario: Scenario) -> int:
    """How many modes the spectrum has; 0 where there is none."""
    spectrum = scenario.learning.spectrum
    return 0 if spectrum is None else np.shape(spectrum.curvature)[-1]


def named(name: str, function: Callable[[_Given], _Found], argument: _Given) -> _Found:
    """Apply ``function``; a ValueError from it is raised again with ``name`` in front."""
    try:
        return function(argument)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _same_structure(first: Scenario, item: Scenario, index: int) -> None:
    counts = [len(np.asarray(one.devices.gain)) for one in (first, item)]
    if counts[0] != counts[1]:
        raise ValueError(
            f"scenario 0 has {counts[0]} devices and scenario {index} has {counts[1]}: "
            "a stack needs the same number K in all"
        )
    absent = [one.learning.pl_constant is None for one in (first, item)]
    if absent[0] != absent[1]:
        without, given = (0, index) if absent[0] else (index, 0)
        raise ValueError(
            f"scenario {without} has no learning.pl_constant and scenario {given} has one: "
            "give it in all or in none"
        )
    modes = [modes_of(one) for one in (first, item)]
    if modes[0] != modes[1]:
        raise ValueError(
            f"scenario 0 has {modes[0]} modes in learning.spectrum and scenario {index} has "
            f"{modes[1]}: a stack needs the same number in all, or no spectrum in any"
        )
