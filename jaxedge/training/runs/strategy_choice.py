"""The fastest strategy for a model, a cohort and this machine, by a short trial that is remembered.

Every candidate runs a round of the run to come, some times over; what was found is kept in the
user's cache folder beside compiled programs, a file for each question.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.machine.compilation_cache import is_off, user_cache_folder
from jaxedge.machine.output_files import OutputFileError, write_whole
from jaxedge.machine.provenance import environment
from jaxedge.scenario.scenario import Scenario
from jaxedge.training.models.convolutions import CONVOLUTIONS
from jaxedge.training.models.tasks import Task
from jaxedge.training.rounds.strategies import AUTO
from jaxedge.training.runs.courses import Course
from jaxedge.training.runs.segments import Segments, Settings

_WORTH = 1e9
"""Samples times weights of all fine-tuning below which no trial pays."""
_SECONDS = 10.0
"""After which no further candidate is begun; compiling is most of it."""
_REPEATS = 3
_MOST_UNROLLED = 16
"""Devices up to which an unrolled loop compiles in reasonable time."""

Choice = tuple[str, str]
"""Strategy and way to compute convolutions."""


def choose_strategy(task: Task, scenario: Scenario, course: Course, settings: Settings) -> Settings:
    """The settings with the fastest strategy and convolutions where they are "auto".

    Args:
        task: data and model.
        scenario: gives learning rates and the devices' weights.
        course: of the same scenario.
        settings: of the run to come.
    """
    asked = settings.strategy, settings.convolution
    if AUTO not in asked:
        return settings
    if not _pays(task, course, settings):
        usual = _usual(settings.local_steps), "direct"
        return _with(settings, *(u if a == AUTO else a for a, u in zip(asked, usual, strict=True)))
    candidates = _candidates(task, settings, _has_convolutions(task))
    if len(candidates) == 1:
        return _with(settings, *candidates[0])
    file = _file(_question(task, course, settings, candidates))
    found = _remembered(file, candidates)
    if found is None:
        measured = _trial(task, scenario, course, settings, candidates)
        found = min(measured, key=lambda choice: measured[choice])
        _remember(file, found, measured)
    return _with(settings, *found)


def _with(settings: Settings, strategy: str, convolution: str) -> Settings:
    return dataclasses.replace(settings, strategy=strategy, convolution=convolution)


def _usual(local_steps: int) -> str:
    return "pooled" if local_steps == 1 else "vmap"


def _pays(task: Task, course: Course, settings: Settings) -> bool:
    samples = sum(
        leg.rounds * float(np.sum(leg.design.devices.batch))
        for leg in course.legs
        if leg.fine_tuning
    )
    weights = sum(int(np.size(leaf)) for leaf in jax.tree.leaves(task.weights))
    return samples * settings.local_steps * weights >= _WORTH


def _has_convolutions(task: Task) -> bool:
    return "conv_general_dilated" in str(_program_of(task))


def _program_of(task: Task) -> Any:
    x, y = jnp.asarray(task.test.x[:1]), jnp.asarray(task.test.y[:1])
    return jax.make_jaxpr(task.loss)(task.weights, x, y)


def _candidates(task: Task, settings: Settings, convolutional: bool) -> list[Choice]:
    """What is tried, the likely winners first."""
    strategy, convolution = settings.strategy, settings.convolution
    found = {"pooled": settings.local_steps == 1, "scan": True, "vmap": True, "chunked": True}
    found |= {"sharded": jax.device_count() > 1, "loop": len(task.sizes) <= _MOST_UNROLLED}
    strategies = [name for name, fits in found.items() if fits] if strategy == AUTO else [strategy]
    methods = [convolution] if convolution != AUTO else [*reversed(CONVOLUTIONS)]
    if convolution == AUTO and not convolutional:
        methods = ["direct"]
    return [(name, method) for name in strategies for method in methods]


def _trial(
    task: Task, scenario: Scenario, course: Course, settings: Settings, candidates: list[Choice]
) -> dict[Choice, float]:
    """Seconds of a round of each candidate that there was time for."""
    leg = next(leg for leg in course.legs if leg.fine_tuning)
    measured: dict[Choice, float] = {}
    begun = time.perf_counter()
    for choice in candidates:
        if measured and time.perf_counter() - begun > _SECONDS:
            break
        short = dataclasses.replace(_with(settings, *choice), every=1, segment=1)
        program = Segments(task, scenario, course, short)

        def round_of(program: Segments = program) -> None:
            jax.block_until_ready(program.run(leg, 0, task.weights))

        round_of()  # compiles
        measured[choice] = min(_seconds(round_of) for _ in range(_REPEATS))
    return measured


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _question(
    task: Task, course: Course, settings: Settings, candidates: list[Choice]
) -> dict[str, Any]:
    """All that the answer depends on: machine, model, data, batches, and what may be answered."""
    program = re.sub(r"0x[0-9a-f]+", "", str(_program_of(task)))
    leg = next(leg for leg in course.legs if leg.fine_tuning)
    return {
        "environment": environment() | {"processors": str(jax.device_count())},
        "model": hashlib.sha256(program.encode()).hexdigest(),
        "tuned": task.tuned,
        "batch": np.asarray(leg.design.devices.batch).tolist(),
        "samples": task.sizes.tolist(),
        "local_steps": settings.local_steps,
        "chunk": settings.chunk,
        "candidates": candidates,
    }


def _file(question: dict[str, Any]) -> Path | None:
    """Where the answer is kept; None where nothing is to be."""
    if is_off():
        return None
    name = hashlib.sha256(json.dumps(question).encode()).hexdigest()[:24]
    try:
        return user_cache_folder() / "strategies" / f"{name}.json"
    except RuntimeError:  # no home folder
        return None


def _remembered(file: Path | None, candidates: list[Choice]) -> Choice | None:
    """The answer kept; None where there is none, or none that makes sense."""
    if file is None:
        return None
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        choice = (told["strategy"], told["convolution"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return choice if choice in candidates else None


def _remember(file: Path | None, choice: Choice, measured: dict[Choice, float]) -> None:
    if file is None:
        return
    seconds = {" ".join(key): value for key, value in measured.items()}
    told = {"strategy": choice[0], "convolution": choice[1], "seconds_per_round": seconds}
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(file, (json.dumps(told, indent=1) + "\n").encode())
    except (OSError, OutputFileError):
        pass  # the next run measures again
