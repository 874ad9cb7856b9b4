"""A valid scenario as nested plain types, as TOML text, and its JSON Schema."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxedge.scenario.fields import field_value
from jaxedge.scenario.keys import fields_in, unit_keys
from jaxedge.scenario.scenario import FIELDS, SECTIONS, SPECTRUM_FIELDS, Field, Scenario

_HEADER = """\
# A jaxedge scenario. Numbers are SI and linear; a key may carry its unit instead where people think
# in it (max_power_dbm, bandwidth_mhz, gain_db, max_clock_ghz, energy_budget_kj, delay_budget_min).
# Device fields are lists over the devices, or one number for all of them.
"""

Plain = int | float | list[int] | list[float] | list[list[float]]

_TABLES = ("", "learning", "learning.spectrum", *list(SECTIONS)[1:])
"""The tables of a file in the order in which they are written."""

INTERVALS = "intervals"
"""The table of a scenario file that holds no part of the scenario: `interval_files` reads it."""


def to_tree(scenario: Scenario) -> dict[str, Any]:
    """The fields of a valid scenario as nested dictionaries of plain numbers and lists."""
    tree: dict[str, Any] = {}
    for item in (*FIELDS, *SPECTRUM_FIELDS):
        value = _value(scenario, item)
        if value is not None:
            home = tree
            for name in filter(None, item.section.split(".")):
                home = home.setdefault(name, {})
            home[item.name] = value
    return tree


def to_toml(scenario: Scenario, *, comments: bool = False) -> str:
    """Write a valid scenario as TOML; with ``comments``, unit and meaning stand beside each key."""
    lines = [_HEADER] if comments else []
    for section in _TABLES:
        values = {item: _value(scenario, item) for item in fields_in(section).values()}
        if section == "learning.spectrum" and scenario.learning.spectrum is None:
            continue
        lines += [f"\n[{section}]"] if section else []
        for item, value in values.items():
            lines += _entry(item, value, comments=comments)
    return "\n".join(lines) + "\n"


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of scenario files, for editors that check and complete."""
    schema = _table_schema("")
    for section in SECTIONS:
        schema["properties"][section] = _table_schema(section)
    schema["properties"]["learning"]["properties"]["spectrum"] = _table_schema("learning.spectrum")
    schema["properties"][INTERVALS] = {
        "type": "object",
        "description": "low and high ends of learning constants, for `jaxedge plan --within`",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "jaxedge scenario",
        **schema,
        "required": list(SECTIONS),
    }


def _value(scenario: Scenario, item: Field) -> Plain | None:
    """The field as plain numbers; whole ones as int where only those are accepted."""
    number = field_value(scenario, item)
    if number is None:
        return None
    if item.ndim == 2 and bool(np.all(number == number[:1])):
        number = number[0]  # one row does for devices that are alike
    plain: Plain = (number.astype(np.int64) if _fits(item, number) else number).tolist()
    return plain


def _fits(item: Field, number: np.ndarray) -> bool:
    return item.integer and bool(np.all(number < 2**53))


def _entry(item: Field, value: Plain | None, *, comments: bool) -> list[str]:
    if value is None:
        return [f"# {item.name} = ...  # {_remark(item)}"] if comments else []
    if not comments:
        return [f"{item.name} = {_literal(value)}"]
    # The weights stay a list: they sum to 1, and they show how many devices there are.
    text = _literal(value if item.name == "device_weight" else _shortened(value))
    line = f"{f'{item.name} = {text}':<32} # {_remark(item)}"
    if len(line) > 100:  # a long list or remark reads better on two lines
        return [f"# {_remark(item)}", f"{item.name} = {text}"]
    return [line]


def _remark(item: Field) -> str:
    default = "" if item.default is None else f"; {item.default:g} if left out"
    unit = "" if item.unit == "1" else f"{item.unit}: "
    return f"{unit}{item.meaning}{default}"


def _shortened(value: Plain) -> Plain:
    """One number in place of a list of equal ones."""
    return value[0] if isinstance(value, list) and len(set(value)) == 1 else value


def _literal(value: Plain) -> str:
    """A TOML literal with the fewest digits that read back equal: 5e6 rather than 5000000.0."""
    if isinstance(value, list):
        return f"[{', '.join(_literal(number) for number in value)}]"
    if isinstance(value, int) or abs(value) < 1e5:
        return repr(value)
    scientific = np.format_float_scientific(value, trim="-", exp_digits=1).replace("e+", "e")
    return min(repr(value), scientific, key=len)


def _table_schema(section: str) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    needed: list[dict[str, Any]] = []
    for item in fields_in(section).values():
        keys = [item.name, *unit_keys(item)]
        properties[item.name] = _field_schema(item)
        for key, unit in unit_keys(item).items():
            properties[key] = _shape(item, {"type": "number"})
            properties[key]["description"] = f"{unit.symbol}: {item.meaning}"
        one = {"oneOf": [{"required": [key]} for key in keys]}
        none = {"not": {"anyOf": one["oneOf"]}}
        needed.append(one if item.required else {"oneOf": [*one["oneOf"], none]})
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "allOf": needed,
    }


def _field_schema(item: Field) -> dict[str, Any]:
    number: dict[str, Any] = {"type": "integer" if item.integer else "number"}
    if np.isfinite(item.least):
        number["exclusiveMinimum" if item.above else "minimum"] = item.least
    schema = _shape(item, number)
    schema["description"] = _remark(item)
    if item.default is not None:
        schema["default"] = item.default
    return schema


def _shape(item: Field, number: dict[str, Any]) -> dict[str, Any]:
    several = {"type": "array", "items": dict(number), "minItems": 1}
    if item.per_mode:
        rows = {"type": "array", "items": several, "minItems": 1}
        return {"anyOf": [several, rows]} if item.per_device else several
    return {"anyOf": [dict(number), several]} if item.per_device else dict(number)
