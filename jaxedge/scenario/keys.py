"""Keys of scenario files: from a key that may carry its unit to a field in SI units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxedge.scenario.field_checks import as_numbers
from jaxedge.scenario.scenario import FIELDS, SECTIONS, SPECTRUM_FIELDS, Field
from jaxedge.scenario.units import SUFFIXES, Unit, split_suffix, suffixes_of
from jaxedge.words.choices import unknown


def fields_in(section: str) -> dict[str, Field]:
    """The fields of one section ("" is the top level) by name."""
    return {item.name: item for item in (*FIELDS, *SPECTRUM_FIELDS) if item.section == section}


def stems_of(item: Field) -> tuple[str, ...]:
    """What a unit suffix may follow: the name, and for ``upload_bits`` also ``upload``."""
    return (item.name, item.name.removesuffix("_bits")) if item.unit == "bit" else (item.name,)


def unit_keys(item: Field) -> dict[str, Unit]:
    """Every key with a unit suffix that gives the field, e.g. ``max_power_dbm``."""
    return {
        f"{stem}_{suffix}": SUFFIXES[suffix]
        for stem in stems_of(item)
        for suffix in suffixes_of(item.unit)
    }


def read_section(section: str, table: Mapping[str, object]) -> dict[str, Any]:
    """Read one table of a file into field name -> value in SI units.

    Raises:
        ValueError: for an unknown key (with a suggestion), a missing one, a unit that does not fit,
            a field given twice, or a value to convert that is not a finite number.
    """
    found: dict[str, Any] = {}
    source: dict[str, str] = {}
    for key, value in table.items():
        item, unit = _recognise(section, key)
        if item.name in found:
            raise ValueError(
                f"{item.path} is given twice, as {source[item.name]} and as {key}: keep one"
            )
        source[item.name] = key
        found[item.name] = value if unit is None else _convert(item, key, value, unit)
    _check_complete(section, found)
    return found


def field_at(path: str) -> tuple[Field, Unit | None]:
    """The field at a dotted path whose key may carry a unit, such as "server.max_power_dbm".

    Raises:
        ValueError: if there is no such section or key (with a suggestion), or the unit does not
            fit.
    """
    section, _, key = path.rpartition(".")
    if section and section not in SECTIONS:
        raise ValueError(unknown("section", section, SECTIONS, place=f" in {path!r:.80}"))
    return _recognise(section, key)


def _recognise(section: str, key: str) -> tuple[Field, Unit | None]:
    """The field that a key gives, and the unit it carries."""
    known = fields_in(section)
    if key in known:
        return known[key], None
    for item in known.values():
        if key in unit_keys(item):
            return item, unit_keys(item)[key]
    raise ValueError(_unfitting(known, key) or _unknown(section, key))


def _unfitting(known: Mapping[str, Field], key: str) -> str | None:
    """Say that a known field does not take the unit, if that is what is wrong."""
    for stem, suffix in split_suffix(key):
        item = next((one for one in known.values() if stem in stems_of(one)), None)
        if item is not None:
            accepted = [f"{item.name} ({item.unit})", *unit_keys(item)]
            return (
                f"{item.path} cannot be given in {SUFFIXES[suffix].symbol} (key {key}): "
                f"use {', '.join(accepted)}"
            )
    return None


def _unknown(section: str, key: str) -> str:
    place = f"in [{section}]" if section else "at the top level"
    elsewhere = [name for name in ("", *SECTIONS) if name != section and key in fields_in(name)]
    if elsewhere:
        homes = " or ".join(f"[{name}]" if name else "the top level" for name in elsewhere)
        return f"unknown key {key!r:.60} {place}: it belongs to {homes}"
    names = list(fields_in(section))
    units = [with_unit for item in fields_in(section).values() for with_unit in unit_keys(item)]
    tables = {"": [*SECTIONS], "learning": ["spectrum"]}.get(section, [])
    choices = [*names, *units, *tables]
    return unknown("key", key, choices, place=f" {place}", listed=names)


def _convert(item: Field, key: str, value: object, unit: Unit) -> np.ndarray:
    number = as_numbers(item, value)
    bad = ~np.isfinite(number)
    if np.any(bad):
        raise ValueError(
            f"{item.path} ({key}) = {float(number[bad].flat[0])} {unit.symbol} "
            f"must be finite ({item.meaning}); for no limit give a large finite number"
        )
    return unit.to_si(number)


def _check_complete(section: str, found: Mapping[str, object]) -> None:
    missing = [
        item for item in fields_in(section).values() if item.required and item.name not in found
    ]
    if missing:
        listed = "; ".join(f"{item.path} in {item.unit} ({item.meaning})" for item in missing)
        raise ValueError(f"missing {listed}")
