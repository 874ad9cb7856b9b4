"""``jaxedge calibrate``: measure the bound's constants on a model and data."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

from jaxedge.commands.arguments import Parser, add_scenario, given
from jaxedge.commands.console import given_scenario, json_text, say
from jaxedge.commands.task_options import DATA_HELP, add_task_options, given_task
from jaxedge.machine import compilation_cache
from jaxedge.machine.output_files import check_writable, write_whole
from jaxedge.words.progress import ProgressLine

if TYPE_CHECKING:
    from jaxedge.training.calibration.constants import Calibration
    from jaxedge.training.calibration.path import Trial
    from jaxedge.training.calibration.pilot import PilotPlan

SUMMARY = "measure the bound's constants on a model and data"
PILOT_ROUNDS = 400
"""Of a pilot's longest legs."""
_EPILOG = f"""\
A short trial run goes through both stages at the learning rates of the scenario; at points on its
path the loss, the variance of single samples' gradients at the server and each device, the
difference of the stages' gradients and the largest eigenvalue of the Hessian are measured. It is a
part of a pilot of six legs, whose losses and noise give the spectrum of the end loss. FILE or the
preset gives all the rest of the scenario that is written: device, server, channel, budgets.

{DATA_HELP}
examples:
  jaxedge calibrate --output calibrated.toml          digits, in the default preset's cell
  jaxedge calibrate scenario.toml --model lenet5 --output calibrated.toml
  jaxedge calibrate --plan                            how the plan changes within the intervals
  jaxedge train calibrated.toml

exit codes:
  0 done, 2 bad input, 1 anything else
"""


def add_arguments(parser: Parser) -> None:
    """Say what the command accepts."""
    parser.description = (
        "Measure the constants that the convergence bounds use on one's own model and data, with\n"
        "intervals, and write a scenario that holds them."
    )
    parser.epilog = _EPILOG
    add_scenario(parser)
    parser.add_argument(
        "--output", metavar="OUT.toml", help="the scenario with the constants, intervals beside"
    )
    add_task_options(parser)
    group = parser.add_argument_group("measuring")
    group.add_argument(
        "--pilot-rounds",
        type=int,
        default=PILOT_ROUNDS,
        metavar="R",
        help=f"of the pilot's longest legs, which give the end loss's spectrum (default: "
        f"{PILOT_ROUNDS}; 0: no spectrum)",
    )
    group.add_argument(
        "--pretraining-rounds",
        type=int,
        metavar="M",
        help="of the trial run (default: R, or 400 without a pilot)",
    )
    group.add_argument(
        "--finetuning-rounds",
        type=int,
        metavar="N",
        help="of the trial run (default: R/3, or 400 without a pilot)",
    )
    group.add_argument(
        "--intervals",
        type=int,
        metavar="I",
        help="of each stage, measured at both ends of each (default: 5)",
    )
    group.add_argument(
        "--server-batch", type=int, metavar="B", help="of the trial run (default: 16)"
    )
    group.add_argument(
        "--device-batch", type=int, metavar="B", help="of the trial run (default: 8)"
    )
    group.add_argument(
        "--samples", type=int, metavar="S", help="measured at most of each owner (default: 4096)"
    )
    group.add_argument(
        "--lower-loss",
        type=float,
        default=0.0,
        metavar="F",
        help="what the loss is never below (default: 0, as of cross entropy)",
    )
    group.add_argument(
        "--worst",
        action="store_true",
        help="variances and discrepancy as the largest on the path, not the mean over it",
    )
    group.add_argument(
        "--bits-per-weight", type=int, metavar="B", help="of an upload or broadcast (default: 32)"
    )
    group.add_argument(
        "--wasserstein",
        action="store_true",
        help="the distance between the stages' data, too (needs ott-jax)",
    )
    parser.add_argument(
        "--plan", action="store_true", help="plan at both ends of the intervals and in between"
    )
    parser.add_argument("--json", action="store_true", help="print the answer as JSON, alone")


def run(options: argparse.Namespace) -> None:
    """Answer it."""
    if options.output is not None:
        if not options.output.endswith(".toml"):
            raise ValueError(f"{options.output}: must end in .toml, which can hold intervals, too")
        check_writable(options.output)
    compilation_cache.enable()
    import numpy as np

    from jaxedge.scenario.validation import validate
    from jaxedge.training.calibration import transport
    from jaxedge.training.calibration.constants import calibrate

    if options.wasserstein:
        transport.check_importable()
    pilot, trial = _given_plans(options)
    scenario = validate(given_scenario(options))
    task = given_task(options, np.size(scenario.devices.gain))
    with ProgressLine() as progress:
        found = calibrate(
            task,
            scenario,
            trial,
            pilot=pilot,
            lower_loss=options.lower_loss,
            worst=options.worst,
            progress=progress,
            **given(options, "samples", "bits_per_weight"),
        )
    if options.output is not None:
        write_whole(options.output, found.to_toml().encode())
    told = found.to_dict()
    if options.wasserstein:
        weight = np.asarray(scenario.learning.device_weight)
        apart = transport.distance(task, weight, seed=trial.seed)
        told["wasserstein"] = dataclasses.asdict(apart)
    _tell(found, told, options)


def _given_plans(options: argparse.Namespace) -> tuple[PilotPlan | None, Trial]:
    """The pilot, and the trial run along it where no other rounds are asked for."""
    from jaxedge.training.calibration.path import Trial
    from jaxedge.training.calibration.pilot import PilotPlan

    both = given(options, "server_batch", "device_batch", "seed")
    rounds = given(options, "pretraining_rounds", "finetuning_rounds", "intervals")
    if options.pilot_rounds == 0:
        return None, Trial(**both, **rounds)
    pilot = PilotPlan(rounds=options.pilot_rounds, **both)
    return pilot, dataclasses.replace(pilot.trial, **rounds)


def _tell(found: Calibration, told: dict[str, Any], options: argparse.Namespace) -> None:
    from jaxedge.report.calibration_table import calibration_table

    if options.plan:
        told["plans"] = _plans(found)
    print(json_text(told) if options.json else calibration_table(told))
    if options.output is not None:
        say(f"{options.output} is written")


def _plans(found: Calibration) -> dict[str, Any]:
    from jaxedge.planning.intervals import plan_within

    with ProgressLine() as progress:
        return plan_within(
            found.optimistic, found.scenario, found.pessimistic, progress=progress
        ).to_dict()
