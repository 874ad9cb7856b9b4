"""The tables that ``jaxedge calibrate`` prints, and ``jaxedge plan --within``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxedge.words.quantities import count, number
from jaxedge.words.text_table import aligned, paragraph

_PLANNED = {
    "bound": "optimal bound",
    "bound_of_central_design": "bound of the central design",
    "pretraining_rounds": "pre-training rounds",
    "finetuning_rounds": "fine-tuning rounds",
    "server_batch": "server batch",
    "mean_device_batch": "mean device batch",
}
_COUNTS = ("pretraining_rounds", "finetuning_rounds")


def calibration_table(told: Mapping[str, Any]) -> str:
    """The constants, as `Calibration.to_dict` tells them, and ``wasserstein`` and ``plans`` too."""
    rows = [["", "value", "interval of 95 %", "unit", "measured as"]]
    for name, found in told["constants"].items():
        rows += _rows(name, found)
    head = [row[:4] for row in rows]
    lines = ["CONSTANTS of the convergence bound"]
    lines += [
        f"{line}  {row[4]}" if len(row) > 4 else line
        for line, row in zip(aligned(head), rows, strict=True)
    ]
    if told.get("spectrum") is not None:
        lines += ["", *paragraph(f"The end loss's spectrum is from {told['spectrum']['how']}.")]
    for name, reason in told["left_out"].items():
        lines += ["", *paragraph(f"{name} is left out: {reason}")]
    for note in told["notes"]:
        lines += ["", *paragraph(note)]
    if "wasserstein" in told:
        lines += ["", *paragraph(_apart(told["wasserstein"]))]
    if "plans" in told:
        lines += ["", within_table(told["plans"])]
    return "\n".join(lines)


def _rows(name: str, found: Mapping[str, Any]) -> list[list[str]]:
    value, low, high = found["value"], found["low"], found["high"]
    if not isinstance(value, list):
        interval = f"{number(low)} to {number(high)}"
        return [[f"  {name}", number(value), interval, found["unit"], found["how"]]]
    mean = sum(value) / len(value)
    interval = f"{number(min(low))} to {number(max(high))}"
    how = f"mean of {len(value)} devices, interval around all; {found['how']}"
    return [[f"  {name}", number(mean), interval, found["unit"], how]]


def _apart(found: Mapping[str, Any]) -> str:
    """The `transport.Distance` of the stages' data in words."""
    server, devices = found["samples"]
    return (
        f"The stages' data are W1 = {number(found['low'])} to {number(found['value'])} apart "
        f"({server} and {devices} samples; another label costs {number(found['label_cost'])}); "
        f"samples of one law would be {number(found['by_chance'])} apart by chance."
    )


def within_table(plans: Mapping[str, Any]) -> str:
    """Plans within intervals, as `interval_planning.PlansWithin.to_dict` tells them."""
    ends = [name for name in plans if name != "draws"]
    rows = [["", *ends, "draws between"]]
    for key, label in _PLANNED.items():
        form = count if key in _COUNTS else number
        cells = [form(plans[end][key]) if plans[end][key] is not None else "-" for end in ends]
        drawn = plans["draws"].get(key)
        cells.append("-" if drawn is None else f"{form(drawn[0])} to {form(drawn[1])}")
        rows.append([f"  {label}", *cells])
    return "\n".join(["PLANS within the intervals", *aligned(rows)])
