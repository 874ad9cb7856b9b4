"""Intervals of the learning constants inside scenario files, in a table of their own.

    [intervals]
    smoothness = [9.0, 11.5]                             # low, high
    device_variance = [[8.0, 9.0, 8.5], [14.0, 15.0, 14.5]]  # low and high of each device

`jaxedge calibrate --output` writes it; whoever reads the scenario alone may leave it aside.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxedge.scenario.files import ScenarioFileError, from_tree, parsed_file
from jaxedge.scenario.scenario import Scenario
from jaxedge.scenario.text import INTERVALS
from jaxedge.scenario.validation import validate
from jaxedge.words.choices import choice

CONSTANTS = (
    "initial_gap",
    "smoothness",
    "discrepancy",
    "server_variance",
    "device_variance",
    "pl_constant",
)
"""Constants of `scenario.Learning` that may have an interval."""

Intervals = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Low and high ends, each () or (K,), by the names of `CONSTANTS`."""


def at_ends(scenario: Scenario, intervals: Intervals) -> tuple[Scenario, Scenario]:
    """The scenario with all constants where bounds are least, and with all at the other ends.

    Every bound grows with all constants but the PL constant, with which it falls.

    Raises:
        ValueError: if a scenario at the ends is not valid.
    """

    def at(end: int) -> Scenario:
        values: dict[str, Any] = {
            name: ends[1 - end if name == "pl_constant" else end]
            for name, ends in intervals.items()
        }
        learning = dataclasses.replace(scenario.learning, **values)
        return validate(dataclasses.replace(scenario, learning=learning))

    return at(0), at(1)


def intervals_text(intervals: Intervals) -> str:
    """The table as TOML."""
    rows = [
        f"{name} = [{low.tolist()!r}, {high.tolist()!r}]" for name, (low, high) in intervals.items()
    ]
    return "\n".join([f"[{INTERVALS}]", *rows]) + "\n"


def load_within(path: str | os.PathLike[str]) -> tuple[Scenario, Scenario, Scenario]:
    """The optimistic, the central and the pessimistic scenario of a file with intervals.

    Raises:
        ScenarioFileError: naming the file, the constant and what would be accepted.
    """
    tree = parsed_file(path)
    try:
        central = from_tree(tree)
        table = tree.get(INTERVALS) if isinstance(tree, Mapping) else None
        if not isinstance(table, Mapping) or not table:
            raise ValueError(
                f"has no table [{INTERVALS}] of low and high ends: `jaxedge calibrate --output` "
                "writes one"
            )
        intervals = {name: _ends(central, name, ends) for name, ends in table.items()}
        optimistic, pessimistic = at_ends(central, intervals)
    except ValueError as error:
        raise ScenarioFileError(path, str(error)) from error
    return optimistic, central, pessimistic


def _ends(scenario: Scenario, name: str, ends: Any) -> tuple[np.ndarray, np.ndarray]:
    choice(f"key of [{INTERVALS}]", name, CONSTANTS)
    value = getattr(scenario.learning, name)
    where = f"{INTERVALS}.{name} = {ends!r:.60}"
    if value is None:
        raise ValueError(f"{where}: learning.{name} is missing, so that it can have no interval")
    shape = np.shape(value)
    try:
        low, high = (np.broadcast_to(np.asarray(end, np.float64), shape) for end in ends)
    except (TypeError, ValueError):
        each = " or lists of K numbers" if shape else ""
        raise ValueError(f"{where}: must be [low, high], numbers{each}") from None
    if not np.all((low <= value) & (value <= high)):
        raise ValueError(f"{where}: must enclose learning.{name} = {np.asarray(value).tolist()!r}")
    return low, high
