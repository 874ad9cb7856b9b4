"""Joint design against every benchmark scheme, along one parameter: bound and real accuracy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxedge.planning.question import INTEGER_GAP
from jaxedge.planning.schemes import JOINT
from jaxedge.scenario.scenario import Scenario
from jaxedge.study import setting
from jaxedge.study.plans import Planned, planned
from jaxedge.study.sizes import Size
from jaxedge.study.table import Table
from jaxedge.study.trained import Run, trained
from jaxedge.words.progress import Progress

_SAME = 1 + INTEGER_GAP
"""Ratio of bounds that counts as equal: to it the joint design is certified."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Along:
    """A parameter along which designs are compared."""

    name: str
    """Of the question and its files."""
    words: str
    """The parameter as sentences name it."""
    label: str
    """Of its axis, with its unit."""
    unit: str
    values: Sequence[float]
    place: Callable[[Table, float], float] = lambda constants, value: value
    """Where a value stands on the axis."""
    task: Callable[[float], dict[str, Any]] = lambda value: {}
    """Options of `setting.task` at a value."""
    change: Callable[[Scenario, float], Scenario] = lambda scenario, value: scenario
    """What else a value changes."""


def _bandwidth(scenario: Scenario, hertz: float) -> Scenario:
    """So much for each device, and as much more for the broadcast."""
    factor = hertz / np.asarray(scenario.devices.bandwidth)
    return dataclasses.replace(
        scenario,
        devices=dataclasses.replace(scenario.devices, bandwidth=np.full_like(factor, hertz)),
        server=dataclasses.replace(
            scenario.server, bandwidth=np.asarray(scenario.server.bandwidth) * factor[0]
        ),
    )


def _discrepancy(constants: Table, degrees: float) -> float:
    row = constants.where(width=setting.WIDTH, degrees=degrees)
    return float(row["discrepancy"][0])


ALONG = (
    Along(
        name="energy",
        words="energy budget",
        label="energy budget (J)",
        unit="J",
        values=(10.0, 20.0, 40.0, 80.0, 160.0, 320.0),
        change=lambda scenario, value: dataclasses.replace(scenario, energy_budget=value),
    ),
    Along(
        name="delay",
        words="delay budget",
        label="delay budget (s)",
        unit="s",
        values=(10.0, 16.0, 25.0, 40.0, 63.0, 100.0),
        change=lambda scenario, value: dataclasses.replace(scenario, delay_budget=value),
    ),
    Along(
        name="devices",
        words="number of devices",
        label="devices",
        unit="devices",
        values=(2, 5, 10, 20, 40),
        task=lambda value: {"devices": int(value)},
    ),
    Along(
        name="discrepancy",
        words="data discrepancy",
        label="data discrepancy $d^2$, measured",
        unit="",
        values=setting.ALL_DEGREES,
        place=_discrepancy,
        task=lambda value: {"degrees": value},
    ),
    Along(
        name="bandwidth",
        words="bandwidth of a device",
        label="bandwidth of a device (MHz)",
        unit="MHz",
        values=(0.18, 0.36, 0.9, 1.8, 3.6),
        change=lambda scenario, value: _bandwidth(scenario, 1e6 * value),
    ),
    Along(
        name="model-size",
        words="model size",
        label="upload of a device (Mbit)",
        unit="Mbit",
        values=setting.WIDTHS,
        place=lambda constants, value: 1e-6 * _bits(constants, value),
        task=lambda value: {"width": int(value)},
    ),
)
"""The parameters, in the order of the page."""


def _bits(constants: Table, width: float) -> float:
    return float(np.asarray(setting.scenario(constants, int(width)).upload_bits))


def compute(along: Along, constants: Table, size: Size, progress: Progress) -> Table:
    """Plans of all schemes under all channels, and the accuracy of those that are trained.

    Returns:
        A row for each value, scheme and draw; the measured average
        of |grad F|^2 and the accuracy are nan where nothing was trained.
    """
    values = size.thinned(along.values)
    options = [along.task(value) for value in values]
    scenarios = [
        along.change(setting.scenario(constants, **given), value)
        for given, value in zip(options, values, strict=True)
    ]
    plans = _all_planned(scenarios, size.draws, progress)
    runs = [_all_trained(options, scenarios, plans, draw, progress) for draw in range(size.trained)]
    rows = []
    for number, value in enumerate(values):
        place = float(along.place(constants, value))
        found, point = plans[number]
        for scheme, answers in found.answers.items():
            rounds = [
                np.asarray(answers.allocation.pretraining_rounds),
                np.asarray(answers.allocation.finetuning_rounds),
            ]
            for draw in range(size.draws):
                i = point * size.draws + draw
                run = runs[draw].get((number, scheme)) if draw < size.trained else None
                rows.append(
                    {
                        along.name: place,
                        "value": float(value),
                        "scheme": scheme,
                        "draw": draw,
                        "bound": answers.bound[i],
                        "pretraining_rounds": rounds[0][i],
                        "finetuning_rounds": rounds[1][i],
                        "energy_J": answers.energy[i],
                        "delay_s": answers.delay[i],
                        "measured": np.nan if run is None else run.average,
                        "accuracy": np.nan if run is None else run.last("accuracy"),
                    }
                )
    return Table.of(rows)


def _all_planned(
    scenarios: list[Scenario], draws: int, progress: Progress
) -> list[tuple[Planned, int]]:
    """Of each scenario, the plans of those with as many devices, and its position there."""
    counts = [np.size(scenario.devices.gain) for scenario in scenarios]
    found: list[tuple[Planned, int] | None] = [None] * len(scenarios)
    for count in dict.fromkeys(counts):
        members = [i for i, own in enumerate(counts) if own == count]
        plans = planned([scenarios[i] for i in members], draws, progress=progress)
        for point, i in enumerate(members):
            found[i] = plans, point
    return [item for item in found if item is not None]


def _all_trained(
    options: list[dict[str, Any]],
    scenarios: list[Scenario],
    plans: list[tuple[Planned, int]],
    draw: int,
    progress: Progress,
) -> dict[tuple[int, str], Run]:
    """(position, scheme) -> the run under the channel of a draw."""
    found: dict[tuple[int, str], Run] = {}
    for given in [dict(item) for item in dict.fromkeys(tuple(o.items()) for o in options)]:
        members = [i for i, own in enumerate(options) if own == given]
        designs = {
            (i, scheme): plans[i][0].design(scheme, plans[i][1], draw)
            for i in members
            for scheme in plans[i][0].answers
        }
        task = setting.task(**given)
        found |= trained(task, scenarios[members[0]], designs, seed=draw, progress=progress)
    return found


def means(table: Table, along: Along, value: str) -> dict[str, np.ndarray]:
    """Scheme -> (points,) means over the draws that have the value, geometric ones of the bound."""
    found = {}
    for scheme in table.values("scheme"):
        rows = table.where(scheme=scheme).grouped(value, along.name)
        mean = np.nanmean(np.log(rows) if value == "bound" else rows, axis=-1)
        found[scheme] = np.exp(mean) if value == "bound" else mean
    return found


def finding(table: Table, along: Along) -> str:
    """What the comparison shows: who has the least bound, by how much, and what training says."""
    bounds, accuracy = means(table, along, "bound"), means(table, along, "accuracy")
    others = [scheme for scheme in bounds if scheme != JOINT]
    best = np.min([bounds[scheme] for scheme in others], axis=0)
    x = np.array(table.values(along.name))
    whole = {scheme: float(np.mean(bounds[scheme])) for scheme in bounds}
    rival, worst = min(others, key=whole.__getitem__), max(others, key=whole.__getitem__)
    gain = 100 * (1 - bounds[JOINT] / bounds[rival])
    most = int(np.argmax(gain))
    overall = {scheme: 100 * float(np.mean(accuracy[scheme])) for scheme in bounds}
    top = max(overall, key=overall.__getitem__)
    return (
        f"From {x.min():.3g} to {_with_unit(x.max(), along)} the joint design's bound is "
        f"{_span(100 * (1 - bounds[JOINT] / best))} % below that of whichever benchmark is best at "
        f"the point; the best of them overall, {rival}, it beats by {gain[most]:.0f} % at "
        f"{_with_unit(x[most], along)}, and the worst, {worst}, has "
        f"{np.mean(bounds[worst] / bounds[JOINT]):.2f} times its bound. Real training: "
        f"{overall[JOINT]:.1f} % mean accuracy of the joint design, "
        + (
            "the best of all schemes"
            if top == JOINT
            else f"{overall[top]:.1f} % of {top}, the best of all schemes"
        )
        + ". Over schemes and points the bound's rank correlation with final accuracy is "
        f"{correlation(table, along, 'accuracy'):.2f} (-1: the lower the bound, the higher the "
        "accuracy), and with what it bounds, the measured average of $|\\nabla F|^2$, "
        f"{correlation(table, along, 'measured'):.2f}."
    )


def summary(tables: Mapping[str, Table]) -> str:
    """How often the joint design has the least bound and the highest accuracy, over all points.

    Args:
        tables: of the comparisons by name.
    """
    points, least, highest = 0, 0, 0
    leaders: dict[str, int] = {}
    for along in ALONG:
        if along.name in tables:
            table = tables[along.name]
            bounds, accuracy = (means(table, along, name) for name in ("bound", "accuracy"))
            lowest = np.min(list(bounds.values()), axis=0)
            least += int(np.sum(bounds[JOINT] <= _SAME * lowest))
            top = np.max(list(accuracy.values()), axis=0)
            highest += int(np.sum(accuracy[JOINT] == top))
            points += len(top)
            for scheme, own in accuracy.items():
                leaders[scheme] = leaders.get(scheme, 0) + int(np.sum(own == top))
    first = max(leaders, key=leaders.__getitem__)
    return (
        f"Over the {points} points of the comparisons the joint design has the least bound, to "
        f"the certified 0.1 %, at {least}, and the highest accuracy of real training at {highest}; "
        f"the most often highest is that of {first}, at {leaders[first]}. The bound speaks of the "
        "average of $|\\nabla F|^2$ over all rounds, not of accuracy at the end."
    )


def correlation(table: Table, along: Along, value: str) -> float:
    """Spearman's rank correlation over schemes and points of the trained draws' bound and value."""
    held = np.isfinite(table["accuracy"])
    own = Table({name: column[held] for name, column in table.columns.items()})
    bounds, values = (
        np.concatenate(list(means(own, along, name).values())) for name in ("bound", value)
    )
    return float(np.corrcoef(_ranks(bounds), _ranks(values))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks, ties sharing their mean."""
    below = np.sum(values[None] < values[:, None], axis=1)
    equal = np.sum(values[None] == values[:, None], axis=1)
    return below + (equal - 1) / 2


def _with_unit(x: float, along: Along) -> str:
    return f"{x:.3g} {along.unit}".strip()


def _span(values: np.ndarray) -> str:
    low, high = f"{values.min():.1f}", f"{values.max():.1f}"
    return low if low == high else f"{low} to {high}"
