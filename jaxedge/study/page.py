"""The page of a study: settings, figures, and findings computed from the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxedge.machine.output_files import write_whole
from jaxedge.study import comparison, setting
from jaxedge.study.folder import FIGURES, PREFIX, StudyFolder
from jaxedge.study.questions import QUESTIONS
from jaxedge.study.sizes import Size
from jaxedge.study.table import Table
from jaxedge.words.quantities import number, quantity

_INTRO = """\
# A study of two-stage edge learning

The questions that arXiv:2404.00836 puts (pre-training at an edge server, then federated
fine-tuning at wireless devices, designed jointly), answered with this package's model. **Of
that paper only the abstract is at hand: the bound, the system model, all parameters, the
benchmark designs and every number below are ours** ([theory](theory.md)), and nothing here
reproduces or checks a figure of it. Numbers in the findings are computed from the data.
"""

_METHOD = """\
## What is studied

A cell of the default preset (`jaxedge init` prints it) with the budgets and rates below.
Designs are whole: rounds and batches are integers, and the joint design is certified. For each
draw of the channel the devices are placed anew in a disc of {radius:.0f} m, with 8 dB shadowing
and Rayleigh fading; all points and schemes of a question see the same draws. Benchmark designs
are each the best in their own restriction ([`jaxedge plan`](overview.md) lists them beside the
design).

Accuracy is real: a perceptron with {width} hidden units ({weights:,} weights) is trained by SGD
on scikit-learn's handwritten digits under each design, round by round with its batches, and
measured on held-out images of the devices' task, whose images are turned by {degrees:.0f}
degrees. Every run has its own channel, design and seed; {trained} of the draws are trained. The
perceptron stands in for the LeNet-5-class network whose bits and cycles are charged; along the
model size, these grow as the perceptron's weights do.

| parameter | value |
|---|---|
{parameters}

The bound's constants are measured on the perceptron and its data, as [`jaxedge
calibrate`](calibration.md) does, along {rounds} rounds of each stage:

| hidden units | degrees | gap | smoothness | discrepancy | server variance | device variance |
|---|---|---|---|---|---|---|
{constants}
"""

_END = """\
## Again

```text
{command}
```

makes this page with its figures (also as PDF) and data (CSV) in a folder, {draws} channel draws
at each of up to {points} points of an axis; it goes on with `--resume` after an interruption,
to the same bits. `jaxedge study --quick --store quick` does less of the same.
"""


def page(
    folder: StudyFolder,
    size_name: str,
    size: Size,
    constants: Table,
    answered: Mapping[str, Table],
) -> None:
    """Write the page of the questions that are answered."""
    parts = [_INTRO]
    compared = {along.name for along in comparison.ALONG} & set(answered)
    if compared:
        parts.append(comparison.summary({name: answered[name] for name in compared}) + "\n")
    for name, table in answered.items():
        question = QUESTIONS[name]
        parts.append(
            f"## {question.asks}\n\n{question.finding(table)}\n\n"
            f"![{question.asks}]({FIGURES}/{PREFIX}{name}.png)\n\n*{question.caption}*\n"
        )
    parts.append(_method(size, constants))
    option = "" if size_name == "full" else f" --{size_name}"
    command = f"jaxedge study{option} --store study"
    parts.append(_END.format(command=command, draws=size.draws, points=size.points))
    write_whole(folder.page, "\n".join(parts).encode())


def _method(size: Size, constants: Table) -> str:
    base = setting.scenario(constants)
    return _METHOD.format(
        radius=1e3 * setting.RADIUS_KM,
        width=setting.WIDTH,
        weights=setting.weights_of(setting.WIDTH),
        degrees=setting.DEGREES,
        trained=size.trained,
        rounds=size.trial_rounds,
        parameters="\n".join(f"| {name} | {value} |" for name, value in _parameters(base)),
        constants="\n".join(_rows(constants)),
    )


def _parameters(base: Any) -> list[tuple[str, str]]:
    devices, server = base.devices, base.server
    each = [
        (base.energy_budget, "J", "energy budget, where it is not varied"),
        (base.delay_budget, "s", "delay budget, likewise"),
        (np.size(devices.gain), "", "devices, likewise"),
        (base.upload_bits, "bit", "upload and broadcast in a round, likewise"),
        (devices.bandwidth[0], "Hz", "uplink of a device, likewise"),
        (server.bandwidth, "Hz", "broadcast"),
        (devices.cycles_per_sample[0], "cycle", "a sample at a device"),
        (server.cycles_per_sample, "cycle", "a sample at the server"),
        (devices.max_power[0], "W", "highest power of a device"),
        (server.max_power, "W", "highest power of the server"),
        (np.max(devices.max_clock), "Hz", "highest clock of the fastest device"),
        (server.max_clock, "Hz", "highest clock of the server"),
        (base.learning.server_learning_rate, "", "learning rate of both stages"),
    ]
    return [
        (words, quantity(float(value), unit) if unit else f"{float(value):g}")
        for value, unit, words in each
    ]


def _rows(constants: Table) -> list[str]:
    return [
        f"| {constants['width'][i]:.0f} | {constants['degrees'][i]:g} | "
        + " | ".join(number(float(constants[name][i]), 3) for name in setting.CONSTANTS)
        + " |"
        for i in range(len(constants))
    ]
