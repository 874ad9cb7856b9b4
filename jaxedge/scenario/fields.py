"""One field of a scenario, read and replaced by its dotted name."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.scenario.scenario import FIELDS, SECTIONS, Field, Scenario


def field_value(scenario: Scenario, item: Field) -> np.ndarray | None:
    """The array at a field; None where an optional one is left out."""
    value = getattr(getattr(scenario, item.section, scenario), item.name)
    return None if value is None else np.asarray(value)


def with_field(scenario: Scenario, item: Field, value: Any) -> Scenario:
    """The scenario with another value at a field."""
    if not item.section:
        return dataclasses.replace(scenario, **{item.name: value})
    part = dataclasses.replace(getattr(scenario, item.section), **{item.name: value})
    changed: dict[str, Any] = {item.section: part}
    return dataclasses.replace(scenario, **changed)


def as_arrays(scenario: Scenario) -> Scenario:
    """The scenario with float64 fields of full shape, traced or not."""
    count = max(np.size(x) for x in jax.tree.leaves((scenario.devices, scenario.learning)))

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
