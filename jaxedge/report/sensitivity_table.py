"""Sensitivities as a readable plain-text table."""

from __future__ import annotations

import numpy as np

from jaxedge.bounds.registry import bound_named
from jaxedge.sensitivity.analysis import Parameter, Sensitivity
from jaxedge.words.quantities import number, percent, quantity
from jaxedge.words.text_table import aligned, paragraph

_LEAST = 5e-7
"""Elasticities below it print as zero."""
_SHOWN = 6
"""Changes nearby that are listed for one parameter."""


def sensitivity_table(sensitivity: Sensitivity) -> str:
    """The analysis as aligned text, in ASCII."""
    name = sensitivity.bound_name
    lines = [
        f"Sensitivities of the {name} bound (relaxed optimum: real rounds and batches)",
        "",
        f"status  {sensitivity.status}",
    ]
    if sensitivity.bound is None:
        return "\n".join([*lines, *paragraph(sensitivity.message, "")])
    lines.append(f"bound   {number(sensitivity.bound, 7)} (a {bound_named(name).unit})")
    blocks = [
        lines,
        _ranking(sensitivity),
        _prices(sensitivity),
        _kinks(sensitivity),
        _replanned(sensitivity),
    ]
    return "\n\n".join("\n".join(block) for block in blocks)


def in_words(elasticity: float, share: float = 0.01) -> str:
    """What a little more of a parameter does: "1 % more lowers the bound by 0.4 %"."""
    more = f"{100 * share:g} % more"
    if abs(elasticity) < _LEAST:
        return f"{more} changes nothing"
    move = "lowers" if elasticity < 0 else "raises"
    return f"{more} {move} the bound by {percent(abs(elasticity) * share)}"


def _value(parameter: Parameter) -> str:
    low, high = float(np.min(parameter.value)), float(np.max(parameter.value))
    unit = parameter.field.unit
    if unit in ("J", "s", "Hz", "W", "bit"):
        ends = quantity(low, unit), quantity(high, unit)
    else:
        ends = number(low), f"{number(high)}{'' if unit == '1' else ' ' + unit}"
        ends = (ends[1], ends[1]) if low == high else ends
    return ends[0] if low == high else f"{ends[0]} to {ends[1]}"


def _ranking(sensitivity: Sensitivity) -> list[str]:
    some = [p for p in sensitivity.parameters if not abs(p.elasticity) < _LEAST]
    rows = [("PARAMETER", "value", "elasticity", "in words")]
    for p in some:
        mark = " *" if p.sides.kink else ""
        words = "a kink, see below" if p.sides.kink else in_words(p.elasticity)
        rows.append((p.field.path, _value(p), f"{number(p.elasticity)}{mark}", words))
    rest = [p.field.path for p in sensitivity.parameters if abs(p.elasticity) < _LEAST]
    note = "Fields of devices count for all devices together."
    if rest:
        note += f" No influence: {', '.join(rest)}."
    return [*aligned(rows), *paragraph(note, "")]


def _prices(sensitivity: Sensitivity) -> list[str]:
    units = {p.field.path: p.field.unit for p in sensitivity.parameters}
    rows = [("SHADOW PRICES", "bound per unit", "unit")]
    slack = []
    for path, price in sensitivity.shadow_prices.items():
        if not np.any(price):
            slack.append(path)
            continue
        low, high = float(np.min(price)), float(np.max(price))
        text = number(low) if low == high else f"{number(low)} to {number(high)}"
        rows.append((path, text, units[path]))
    return [
        *aligned(rows),
        *(paragraph(f"Slack, price 0: {', '.join(slack)}.", "") if slack else []),
    ]


def _kinks(sensitivity: Sensitivity) -> list[str]:
    lines = ["KINKS (elasticities with the parameter 0.1 % less and 0.1 % more)"]
    nearby = 0
    for p in sensitivity.parameters:
        for s in (p.sides, *p.devices):
            nearby += bool(s.changes) and not s.kink
            if s.kink:
                name = s.path if s.device is None else f"{s.path}[{s.device}]"
                sides = f"{number(s.below)} below, {number(s.above)} above"
                lines.append(f"  {name}: {sides}")
                lines += paragraph(f"on one side only: {_listed(s.changes)}", "    ")
    if len(lines) == 1:
        lines.append("  none")
    if nearby:
        told = f"{nearby} more only change which limits the design touches: the bound is smooth"
        lines.append(f"  ({told} there, the design is not)")
    return lines


def _listed(changes: tuple[str, ...]) -> str:
    if not changes:
        return "an optimum"
    more = len(changes) - _SHOWN
    return ", ".join(changes[:_SHOWN]) + (f", and {more} more" if more > 0 else "")


def _replanned(sensitivity: Sensitivity) -> list[str]:
    some = [p for p in sensitivity.parameters if p.finite]
    if not some:
        return ["WHOLE DESIGNS were not planned"]
    head = [f"{100 * c.change:+g} %" for c in some[0].finite]
    rows = [("WHOLE DESIGNS, planned again", *head, "relaxed elasticity")]
    for p in some:
        moves = [_signed(c.relative) for c in p.finite]
        rows.append((p.field.path, *moves, number(p.elasticity)))
    note = (
        "Changes of the best whole design's bound, each known to within the designs' certified "
        "gaps; whole-number fields change by at least 1; - is a value that is not accepted."
    )
    return [*aligned(rows), *paragraph(note, "")]


def _signed(share: float) -> str:
    if not np.isfinite(share):
        return "-"
    return f"{'-' if share < 0 else '+'}{percent(abs(share))}"
