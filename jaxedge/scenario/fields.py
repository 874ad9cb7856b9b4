"""One field of a scenario, read and replaced by its dotted name."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.scenario.scenario import FIELDS, SECTIONS, Field, Scenario


def part_of(scenario: Scenario, section: str) -> Any:
    """The part of a scenario that a section names; None for a spectrum that it has not."""
    for name in filter(None, section.split(".")):
        scenario = getattr(scenario, name)
    return scenario


def field_value(scenario: Scenario, item: Field) -> np.ndarray | None:
    """The array at a field; None where an optional one is left out."""
    value = getattr(part_of(scenario, item.section), item.name, None)
    return None if value is None else np.asarray(value)


def with_field(scenario: Scenario, item: Field, value: Any) -> Scenario:
    """The scenario with another value at a field.

    Raises:
        ValueError: for a field of the spectrum where the scenario has none.
    """
    if part_of(scenario, item.section) is None:
        raise ValueError(f"{item.path}: the scenario has no {item.section}; give all of it")
    return _replaced(scenario, item.path.split("."), value)


def _replaced(part: Any, path: list[str], value: Any) -> Any:
    name, *rest = path
    new = _replaced(getattr(part, name), rest, value) if rest else value
    changed: dict[str, Any] = {name: new}
    return dataclasses.replace(part, **changed)


def as_arrays(scenario: Scenario) -> Scenario:
    """The scenario with float64 fields of full shape, traced or not."""
    task = dataclasses.replace(scenario.learning, spectrum=None)
    count = max(np.size(x) for x in jax.tree.leaves((scenario.devices, task)))

    def full(part: Any, section: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for item in FIELDS:
            value = getattr(part, item.name, None) if item.section == section else None
            if value is not None:
                array = jnp.asarray(value, "float64")
                found[item.name] = jnp.broadcast_to(array, (count,)) if item.per_device else array
        return found

    for name in SECTIONS:
        part = getattr(scenario, name)
        changed = {name: dataclasses.replace(part, **full(part, name))}
        scenario = dataclasses.replace(scenario, **changed)
    return dataclasses.replace(scenario, **full(scenario, ""))
