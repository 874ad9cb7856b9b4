"""Designs from files: what ``jaxedge plan --json`` prints, read back and held to a scenario."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxedge.scenario.scenario import Scenario
from jaxedge.system.allocation import Allocation, StageAllocation

_SLACK = 1 + 1e-9
"""For rounding in limits."""
_KEYS = ("batch", "clock", "power")


def load_design(path: str | os.PathLike[str]) -> Allocation:
    """The design in a plan's JSON, or in a JSON object that is the allocation itself.

    Raises:
        ValueError: if the file is missing, is no plan, or its plan holds no design.
    """
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except FileNotFoundError:
        raise ValueError(f"{path}: does not exist: `jaxedge plan --json` prints one") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: is no plan in JSON: {error}") from None
    try:
        return design_of(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def design_of(content: Any) -> Allocation:
    """The design in a plan as JSON gives it; `design_tree` is the way back.

    Raises:
        ValueError: naming the key that is missing or no number.
    """
    if isinstance(content, Mapping) and "allocation" in content:
        if content["allocation"] is None:
            raise ValueError(f"holds no design: its status is {content.get('status')!r}")
        content = content["allocation"]

    def number(tree: Any, path: str, *, each: bool = False) -> Any:
        for key in path.split("."):
            if not isinstance(tree, Mapping) or key not in tree:
                raise ValueError(f"{path} is missing: must be as `jaxedge plan --json` prints it")
            tree = tree[key]
        try:
            value = np.asarray(tree, dtype=np.float64)
        except (TypeError, ValueError):
            raise ValueError(f"{path} = {tree!r:.60}: must be numbers") from None
        if value.ndim != (1 if each else 0) or not np.isfinite(value).all():
            what = "a list of finite numbers" if each else "a finite number"
            raise ValueError(f"{path} = {tree!r:.60}: must be {what}")
        return value

    def stage(name: str, *, each: bool) -> StageAllocation:
        return StageAllocation(
            **{key: number(content, f"{name}.{key}", each=each) for key in _KEYS}
        )

    return Allocation(
        pretraining_rounds=number(content, "pretraining_rounds"),
        finetuning_rounds=number(content, "finetuning_rounds"),
        server=stage("server", each=False),
        devices=stage("devices", each=True),
    )


def design_tree(design: Allocation) -> dict[str, Any]:
    """The design as plain JSON types, which `design_of` reads back bit for bit."""

    def plain(value: Any) -> Any:
        return np.asarray(value, dtype=np.float64).tolist()

    def stage(part: StageAllocation) -> dict[str, Any]:
        return {key: plain(getattr(part, key)) for key in _KEYS}

    return {
        "pretraining_rounds": plain(design.pretraining_rounds),
        "finetuning_rounds": plain(design.finetuning_rounds),
        "server": stage(design.server),
        "devices": stage(design.devices),
    }


def check_runnable(design: Allocation, scenario: Scenario) -> None:
    """Make sure that a design can be run in a scenario as it stands: whole, and within its limits.

    Budgets are left to whoever keeps the ledger.

    Raises:
        ValueError: naming the field, its value, and what would be accepted.
    """
    devices = np.size(scenario.devices.gain)
    if np.shape(design.devices.batch) != (devices,):
        raise ValueError(
            f"the design is for {np.size(design.devices.batch)} devices and the scenario has "
            f"{devices}: must be the same"
        )
    for name in ("pretraining_rounds", "finetuning_rounds"):
        _check(name, getattr(design, name), 0.0, np.inf, "rounds", whole=True)
    for name in ("server", "devices"):
        own, limits = getattr(design, name), getattr(scenario, name)
        used = getattr(design, "pretraining_rounds" if name == "server" else "finetuning_rounds")
        if np.asarray(used) > 0:
            _check(f"{name}.batch", own.batch, 1.0, limits.max_batch, "samples", whole=True)
            _check(f"{name}.clock", own.clock, 0.0, limits.max_clock, "Hz")
        if np.asarray(design.finetuning_rounds) > 0:
            _check(f"{name}.power", own.power, 0.0, limits.max_power, "W")


def _check(
    name: str, value: Any, least: float, most: Any, unit: str, *, whole: bool = False
) -> None:
    value = np.asarray(value, dtype=np.float64)
    good = np.isfinite(value) & (value >= least) & (value <= np.asarray(most) * _SLACK)
    if whole:
        good &= value == np.rint(value)
    elif least == 0:
        good &= value > 0
    if not good.all():
        k = int(np.argmin(good)) if value.ndim else None
        place = name if k is None else f"{name}[{k}]"
        limit = float(np.broadcast_to(most, value.shape)[k] if value.ndim else most)
        low = f"from {least:g}" if whole else "> 0"
        up = f" to {limit:g}" if np.isfinite(limit) else " on"
        found = float(value if k is None else value[k])
        raise ValueError(
            f"the design's {place} = {found:g} {unit}: must be a "
            f"{'whole ' if whole else ''}number {low}{up}{' ' + unit if np.isfinite(limit) else ''}"
        )
