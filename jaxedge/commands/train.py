"""``jaxedge train``: run both stages under a plan, and keep what it was promised against."""

from __future__ import annotations

import argparse
import dataclasses
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxedge.commands.arguments import Parser, add_scenario, given
from jaxedge.commands.console import given_scenario, json_text, resumable, say
from jaxedge.commands.task_options import DATA_HELP, add_task_options, given_spec, given_task
from jaxedge.machine import compilation_cache
from jaxedge.machine.output_files import held
from jaxedge.words.progress import ProgressLine

if TYPE_CHECKING:
    from jaxedge.scenario.scenario import Scenario
    from jaxedge.system.allocation import Allocation
    from jaxedge.training.models.tasks import Task
    from jaxedge.training.runs.courses import Course
    from jaxedge.training.runs.run_folder import RunFolder
    from jaxedge.training.runs.segments import Settings

SUMMARY = "train a model under a plan"
_EPILOG = f"""\
{DATA_HELP}
The folder holds config.json, course.json, metrics.jsonl, checkpoints, and at the end ledger.npz,
summary.json and figures. A run that was interrupted, for whatever reason, goes on with --resume and
the same options, to the same bits.

examples:
  jaxedge train                                   digits under the default preset's plan
  jaxedge train scenario.toml --store run --partition dirichlet-per-client --alpha 0.3
  jaxedge plan scenario.toml --json > plan.json
  jaxedge train scenario.toml --plan plan.json --fading --replan --store faded
  jaxedge train scenario.toml --plan plan.json --fading --replan --store faded --resume

exit codes:
  0 done, 2 bad input, 1 anything else (such as divergence), 130 interrupted
"""


def add_arguments(parser: Parser) -> None:
    """Say what the command accepts."""
    parser.description = (
        "Pre-train a model at the server and fine-tune it federatedly at the devices, round by\n"
        "round as a plan says, and keep the ledger of joules and seconds."
    )
    parser.epilog = _EPILOG
    add_scenario(parser)
    parser.add_argument(
        "--plan", metavar="PLAN.json", help="its design, from `jaxedge plan --json`; else planned"
    )
    parser.add_argument(
        "--store", default="run", metavar="DIR", help="folder of the run (default: %(default)s)"
    )
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    add_task_options(parser)
    group = parser.add_argument_group("running")
    group.add_argument(
        "--bits-per-weight",
        type=int,
        metavar="B",
        help="upload and broadcast the model at B bits a weight (default: the scenario's bits)",
    )
    group.add_argument(
        "--fading", action="store_true", help="charge each round under a fresh Rayleigh channel"
    )
    group.add_argument(
        "--replan", action="store_true", help="plan fine-tuning again where fading departs"
    )
    group.add_argument(
        "--every",
        type=int,
        metavar="R",
        help="rounds between measurements (20 for every 1,500 test samples)",
    )
    group.add_argument("--segment", type=int, metavar="R", help="rounds between checkpoints (200)")
    group.add_argument("--local-steps", type=int, metavar="N", help="of a device in a round (1)")
    group.add_argument(
        "--strategy",
        default="auto",
        metavar="NAME",
        help="how devices are computed: vmap, scan, loop, chunked, sharded, pooled, or auto\n"
        "(default), the fastest in a short trial that is remembered",
    )
    group.add_argument(
        "--convolution", default="auto", metavar="NAME", help="direct, im2col or auto (default)"
    )
    group.add_argument(
        "--gradient-norm", action="store_true", help="measure the whole task gradient's norm too"
    )
    group.add_argument(
        "--tensorboard", action="store_true", help="write DIR/tensorboard too (needs its package)"
    )
    parser.add_argument("--json", action="store_true", help="print a summary as JSON, alone")


def run(options: argparse.Namespace) -> None:
    """Answer it."""
    compilation_cache.enable()
    from jaxedge.training.runs import run_folder
    from jaxedge.training.runs.runner import Diverged
    from jaxedge.training.runs.segments import Settings, usual_every

    resumed = options.resume and Path(options.store).exists()
    if not resumed:
        run_folder.check_free(options.store)
    if options.tensorboard:
        from jaxedge.training.runs.event_files import check_importable

        check_importable()
    settings = Settings(**_given(options))
    scenario, task = _scenario_and_task(options)
    if options.every is None:
        settings = dataclasses.replace(settings, every=usual_every(len(task.test)))
    with ProgressLine() as progress:
        folder, course, settings = _opened(options, scenario, task, settings, resumed, progress)
    with held(folder.path), resumable(options.store):
        try:
            _train(folder, scenario, task, course, settings, events=options.tensorboard)
        except Diverged as error:
            _tell(folder, scenario, task, course, options)
            say(str(error))
            raise SystemExit(1) from None
        _tell(folder, scenario, task, course, options)


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """What differs from the defaults of `Settings`."""
    return given(options, "seed", "every", "segment", "local_steps", "gradient_norm")


def _scenario_and_task(options: argparse.Namespace) -> tuple[Scenario, Task]:
    import numpy as np

    from jaxedge.scenario.validation import validate

    scenario = validate(given_scenario(options))
    task = given_task(options, np.size(scenario.devices.gain))
    if options.bits_per_weight is not None:
        from jaxedge.training.models.networks import upload_bits

        bits = upload_bits(task.tuned_of(task.weights), options.bits_per_weight)
        scenario = validate(dataclasses.replace(scenario, upload_bits=bits, download_bits=bits))
    return scenario, task


def _opened(
    options: argparse.Namespace,
    scenario: Scenario,
    task: Task,
    settings: Settings,
    resumed: bool,
    progress: ProgressLine,
) -> tuple[RunFolder, Course, Settings]:
    """The run's folder, which rounds run under which design, and how."""
    from jaxedge.answers.files import load_design
    from jaxedge.training.runs import run_folder
    from jaxedge.training.runs.courses import course
    from jaxedge.training.runs.runner import check
    from jaxedge.training.runs.strategy_choice import choose_strategy

    channel = "rayleigh" if options.fading else "planned"

    def config(settings: Settings) -> dict[str, Any]:
        return run_folder.configuration(
            scenario, given_spec(options), settings, channel=channel, replan=options.replan
        )

    design = None if options.plan is None else load_design(options.plan)
    if resumed:
        settings = _as_begun(options, settings)
        folder = run_folder.reopen(options.store, config(settings), design)
        return folder, folder.course(scenario), settings
    if design is None:
        design = _planned(scenario, progress)
    replan = None
    if options.replan:
        from jaxedge.planning.replanning import plan_finetuning

        progress("planning what fading leaves", None)
        replan = plan_finetuning
    found = course(scenario, design, channel=channel, seed=settings.seed, replan=replan)
    check(task, found)
    progress("looking for the fastest strategy", None)
    asked = {"strategy": options.strategy, "convolution": options.convolution}
    settings = choose_strategy(task, scenario, found, settings, **asked)
    return run_folder.create(options.store, config(settings), design, found), found, settings


def _as_begun(options: argparse.Namespace, settings: Settings) -> Settings:
    """With the run's own strategy where none is asked for: another has other last bits."""
    from jaxedge.training.runs.run_folder import setting_in
    from jaxedge.training.runs.strategy_choice import AUTO

    for name in ("strategy", "convolution"):
        asked = getattr(options, name)
        value = setting_in(options.store, name) if asked == AUTO else asked
        if value is not None:
            settings = dataclasses.replace(settings, **{name: value})
    return settings


def _planned(scenario: Scenario, progress: ProgressLine) -> Allocation:
    from jaxedge.planning.entry import plan

    found = plan(scenario, progress=progress)
    if found.allocation is None:
        raise ValueError(f"there is no plan to train under: {found.message}")
    return found.allocation


def _train(
    folder: RunFolder,
    scenario: Scenario,
    task: Task,
    course: Course,
    settings: Settings,
    *,
    events: bool,
) -> None:
    from jaxedge.training.runs.runner import Keeper, train

    begin = folder.latest(task.weights)
    with ExitStack() as stack:
        progress = stack.enter_context(ProgressLine(count=len(course.ledger), unit="rounds"))
        keeper: Keeper = folder
        if events:
            from jaxedge.training.runs.event_files import EventFiles

            before = 0 if begin is None else begin.rounds
            keeper = stack.enter_context(EventFiles(folder, folder.path / "tensorboard", before))
        train(task, scenario, course, settings, begin=begin, keeper=keeper, progress=progress)


def _tell(
    folder: RunFolder, scenario: Scenario, task: Task, course: Course, options: argparse.Namespace
) -> None:
    """Write the ledger, the summary and the figures, and print the table."""
    from jaxedge.report.training_table import training_table
    from jaxedge.training.runs.summary import summary

    rows = folder.measured()
    told = summary(scenario, course, rows)
    folder.finish(course.ledger.first(told["rounds"]["done"]), told)
    _draw(folder, scenario, task, rows)
    print(json_text(told) if options.json else training_table(told))
    say(f"{options.store}: figures, ledger and weights are there")


def _draw(folder: RunFolder, scenario: Scenario, task: Task, rows: list[dict[str, Any]]) -> None:
    import numpy as np

    from jaxedge.report.training_plots import plot_partition, plot_training

    folder.figures.mkdir(exist_ok=True)
    budgets = float(np.asarray(scenario.energy_budget)), float(np.asarray(scenario.delay_budget))
    for suffix in (".png", ".pdf"):
        plot_partition(task.class_counts, folder.figures / f"partition{suffix}")
        if len(rows) > 1:
            plot_training(rows, folder.figures / f"training{suffix}", budgets=budgets)
