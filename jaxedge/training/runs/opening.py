"""A run in one call: begun or gone on with, trained, and all that there is to see written."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from jaxedge.answers.plan import Plan
from jaxedge.machine.output_files import PathLike
from jaxedge.machine.resumable import held
from jaxedge.planning import entry, replanning
from jaxedge.report.training_plots import plot_partition, plot_training
from jaxedge.scenario.scenario import Scenario
from jaxedge.scenario.validation import validate
from jaxedge.system.allocation import Allocation
from jaxedge.training.models.tasks import Task, TaskSpec, load_task
from jaxedge.training.rounds.strategies import AUTO
from jaxedge.training.runs import event_files, run_folder
from jaxedge.training.runs.checkpoints import Checkpoint
from jaxedge.training.runs.courses import Course, course
from jaxedge.training.runs.ledgers import Ledger, check_channel
from jaxedge.training.runs.run_folder import RunFolder
from jaxedge.training.runs.runner import Diverged, Keeper, Row, check, train
from jaxedge.training.runs.segments import Settings, usual_every
from jaxedge.training.runs.strategy_choice import choose_strategy
from jaxedge.training.runs.summary import summary
from jaxedge.words.progress import Progress, no_progress


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """What a run has come to."""

    weights: Any
    """At the end, or at the last checkpoint where training diverged."""
    ledger: Ledger
    """Charges of the rounds that have run."""
    rows: list[Row]
    """What was measured, the weights before any round first."""
    summary: dict[str, Any]
    """Measurements at the ends of both stages; joules and seconds planned, spent and allowed."""
    settings: Settings
    """How it was run, with the strategy that was chosen."""
    folder: Path | None
    diverged: str | None = None
    """What stopped it, where weights or loss went to NaN or infinity."""


def run(
    task: Task | TaskSpec,
    scenario: Scenario,
    design: Plan | Allocation | None = None,
    *,
    folder: PathLike | None = None,
    resume: bool = False,
    channel: str = "planned",
    replan: bool = False,
    bits_per_weight: int | None = None,
    events: bool = False,
    progress: Progress = no_progress,
    **settings: Any,
) -> Run:
    """Train under a plan as ``jaxedge train`` does: plan, open, run, and write what came of it.

    Args:
        task: data and model, or in words and numbers, to be loaded.
        scenario: gives learning rates, the devices' weights, limits and budgets.
        design: whole rounds and batches within the limits; by default the optimum is planned.
        folder: of the run, a new one; by default nothing is written.
        resume: go on with the run in the folder, if there is one, to the same bits.
        channel: of every round, one of `ledgers.CHANNELS`.
        replan: plan fine-tuning again where the channel departs from the plan.
        bits_per_weight: upload and broadcast what the devices train at so many bits a weight; by
            default at the scenario's bits.
        events: write event files for TensorBoard into the folder too.
        progress: called with (text, fraction).
        settings: fields of `Settings`; by default ``every`` goes by the size of the test data, and
            ``strategy`` and ``convolution`` are the fastest.

    Raises:
        ValueError: naming what is wrong with an argument, the data or the folder; or why there is
            no plan.
    """
    there = _is_there(folder, resume, events)
    check_channel(channel)
    how = Settings(**{"strategy": AUTO, "convolution": AUTO, **settings})
    scenario = validate(scenario)
    spec = task if isinstance(task, TaskSpec) else None
    task = load_task(task, np.size(scenario.devices.gain)) if isinstance(task, TaskSpec) else task
    if "every" not in settings:
        how = dataclasses.replace(how, every=usual_every(len(task.test)))
    if bits_per_weight is not None:
        scenario = _with_bits(scenario, task, bits_per_weight)
    asked = _Asked(
        task=task, spec=spec, scenario=scenario, settings=how, channel=channel, replan=replan
    )
    if folder is not None and there:
        opened = _reopened(asked, None if design is None else _allocation(design), folder)
    else:
        if design is None:
            design = entry.plan(scenario, progress=progress)
        opened = _begun(asked, _allocation(design), folder, progress)
    with contextlib.nullcontext() if folder is None else held(folder):
        return _run(asked, opened, events, progress)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Asked:
    """All that a run is, but for its design."""

    task: Task
    spec: TaskSpec | None
    scenario: Scenario
    settings: Settings
    channel: str
    replan: bool

    def configuration(self, settings: Settings) -> dict[str, Any]:
        return run_folder.configuration(
            self.scenario,
            self.task,
            settings,
            spec=self.spec,
            channel=self.channel,
            replan=self.replan,
        )


@dataclasses.dataclass(kw_only=True)
class _Memory:
    """Keeps a run that has no folder."""

    path: None = None
    kept: list[Row] = dataclasses.field(default_factory=list)
    last: Checkpoint | None = None

    def rows(self, rows: list[Row]) -> None:
        self.kept += rows

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        self.last = checkpoint

    def measured(self) -> list[Row]:
        return self.kept

    def latest(self, weights: Any) -> Checkpoint | None:
        del weights
        return self.last

    def rewind(self, weights: Any) -> None:
        del weights


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Opened:
    keeper: RunFolder | _Memory
    course: Course
    settings: Settings


def _is_there(folder: PathLike | None, resume: bool, events: bool) -> bool:
    """Whether there is a run to go on with; told before anything is computed what is in the way."""
    if folder is None and (resume or events):
        raise ValueError("folder = None with resume or events: give the folder of the run")
    there = folder is not None and resume and Path(folder).exists()
    if folder is not None and not there:
        run_folder.KIND.check_free(folder)
    if events:
        event_files.check_importable()
    return there


def _with_bits(scenario: Scenario, task: Task, bits_per_weight: int) -> Scenario:
    from jaxedge.training.models.networks import upload_bits

    bits = upload_bits(task.tuned_of(task.weights), bits_per_weight)
    return validate(dataclasses.replace(scenario, upload_bits=bits, download_bits=bits))


def _allocation(design: Plan | Allocation) -> Allocation:
    if isinstance(design, Allocation):
        return design
    if design.allocation is None:
        raise ValueError(f"there is no plan to train under: {design.message}")
    return design.allocation


def _begun(
    asked: _Asked, design: Allocation, folder: PathLike | None, progress: Progress
) -> _Opened:
    """A new run, with its strategy chosen."""
    replan = None
    if asked.replan:
        progress("planning what fading leaves", None)
        replan = replanning.plan_finetuning
    seed = asked.settings.seed
    found = course(asked.scenario, design, channel=asked.channel, seed=seed, replan=replan)
    check(asked.task, found)
    progress("looking for the fastest strategy", None)
    settings = choose_strategy(asked.task, asked.scenario, found, asked.settings)
    keeper: RunFolder | _Memory = _Memory()
    if folder is not None:
        keeper = run_folder.create(folder, asked.configuration(settings), design, found)
    return _Opened(keeper=keeper, course=found, settings=settings)


def _reopened(asked: _Asked, design: Allocation | None, folder: PathLike) -> _Opened:
    """A run begun before, under its own strategy if none is asked for: others have other bits."""
    settings = asked.settings
    for name in ("strategy", "convolution"):
        own = run_folder.setting_in(folder, name)
        if getattr(settings, name) == AUTO and own is not None:
            settings = dataclasses.replace(settings, **{name: own})
    keeper = run_folder.reopen(folder, asked.configuration(settings), design)
    return _Opened(keeper=keeper, course=keeper.course(asked.scenario), settings=settings)


def _run(asked: _Asked, opened: _Opened, events: bool, progress: Progress) -> Run:
    """Train from the last checkpoint on, and write what came of it, also where it diverged."""
    task, keeper, diverged = asked.task, opened.keeper, None
    begin = keeper.rewind(task.weights)
    given = (task, asked.scenario, opened.course, opened.settings)
    with _with_events(keeper, events, begin) as both:
        try:
            weights = train(*given, begin=begin, keeper=both, progress=progress).weights
        except Diverged as error:
            last = keeper.latest(task.weights)
            weights, diverged = (task if last is None else last).weights, str(error)
    rows = keeper.measured()
    told = summary(asked.scenario, opened.course, rows)
    found = Run(
        weights=weights,
        ledger=opened.course.ledger.first(told["rounds"]["done"]),
        rows=rows,
        summary=told,
        settings=opened.settings,
        folder=keeper.path,
        diverged=diverged,
    )
    if isinstance(keeper, RunFolder):
        keeper.finish(found.ledger, told)
        _draw(keeper.figures, asked, rows)
    return found


def _with_events(
    keeper: RunFolder | _Memory, events: bool, begin: Checkpoint | None
) -> contextlib.AbstractContextManager[Keeper]:
    if keeper.path is None or not events:
        return contextlib.nullcontext(keeper)
    before = 0 if begin is None else begin.rounds
    return event_files.EventFiles(keeper, keeper.path / "tensorboard", before)


def _draw(folder: Path, asked: _Asked, rows: list[Row]) -> None:
    folder.mkdir(exist_ok=True)
    scenario = asked.scenario
    budgets = float(np.asarray(scenario.energy_budget)), float(np.asarray(scenario.delay_budget))
    for suffix in (".png", ".pdf"):
        plot_partition(asked.task.class_counts, folder / f"partition{suffix}")
        if len(rows) > 1:
            plot_training(rows, folder / f"training{suffix}", budgets=budgets)
