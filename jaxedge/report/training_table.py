"""The short table that ``jaxedge train`` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxedge.words.quantities import count, number, percent, quantity
from jaxedge.words.text_table import aligned, paragraph

_ENDS = {"start": "start", "pre-training": "pre-trained", "fine-tuning": "fine-tuned"}
_UNITS = {"energy": "J", "delay": "s"}


def training_table(told: Mapping[str, Any]) -> str:
    """What a run has come to, as `training.summary.summary` tells it."""
    measured = told["measured"]
    lines = ["TRAINING, measured on the devices' task"]
    names = [
        name
        for name in ("accuracy", "loss", "gradient_norm_squared")
        if any(name in row for row in measured.values())
    ]
    rows = [["", "round", *(name.replace("gradient_norm_squared", "|grad F|^2") for name in names)]]
    for stage, row in measured.items():
        cells = [
            percent(row[name]) if name == "accuracy" else number(row[name], 4) for name in names
        ]
        rows.append([f"  {_ENDS[stage]}", count(row["round"]), *cells])
    lines += aligned(rows)
    lines += ["", "LEDGER"]
    spent = [["", "planned", "spent", "budget"]]
    for name, unit in _UNITS.items():
        cells = [quantity(told[name][key], unit) for key in ("planned", "spent", "budget")]
        spent.append([f"  {name}", *cells])
    lines += [*aligned(spent), *_remarks(told)]
    return "\n".join(lines)


def _remarks(told: Mapping[str, Any]) -> list[str]:
    rounds = told["rounds"]
    lines: list[str] = []
    if told["replanned"]:
        lines += ["", f"  fine-tuning was planned again {told['replanned']} times on the way"]
    if told["short_of"] is not None:
        text = (
            f"stopped after {count(rounds['affordable'])} rounds ({count(rounds['planned'])} were "
            f"planned): the next one would overdraw the {told['short_of']} budget"
        )
        lines += ["", *paragraph(text)]
    return lines
