"""``jaxedge plan``: the design of one scenario, with its certificate."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from jaxedge.commands.arguments import Parser, add_scenario, add_solving
from jaxedge.commands.console import check_bound, given_scenario, json_text, read, say
from jaxedge.machine import compilation_cache
from jaxedge.machine.output_files import OutputFileError
from jaxedge.words.progress import ProgressLine

if TYPE_CHECKING:
    from jaxedge.answers.plan import Plan
    from jaxedge.scenario.scenario import Scenario

SUMMARY = "plan one scenario"
_EPILOG = """\
examples:
  jaxedge plan                                   the default preset
  jaxedge plan scenario.toml --gap 1e-4          ask for a tighter certificate
  jaxedge plan scenario.toml --bound fine-tuning
  jaxedge plan calibrated.toml --within          how the design changes within intervals
  jaxedge init | jaxedge plan - --json | jq .allocation

files:
  scenario files are TOML or JSON as `jaxedge init` prints them; figures are .png, .pdf or .svg

units in the answer:
  bound: squared gradient norm; energy: J; delay: s; clock: Hz; power: W; shadow prices: 1/J and 1/s

exit codes:
  0 answered (an infeasible scenario is an answer), 2 bad input, 1 anything else
"""


def add_arguments(parser: Parser) -> None:
    """Say what the command accepts."""
    parser.description = (
        "Find the rounds, batches, clocks and powers of both stages that minimise the\n"
        "convergence bound within the budgets, and certify how good they are."
    )
    parser.epilog = _EPILOG
    add_scenario(parser)
    add_solving(parser)
    parser.add_argument("--json", action="store_true", help="print the answer as JSON, alone")
    parser.add_argument("--plot", metavar="FILE", help="draw it too: .png, .pdf or .svg")
    parser.add_argument(
        "--within",
        action="store_true",
        help="plan within the intervals of FILE too, as `jaxedge calibrate --output` writes them",
    )
    parser.add_argument(
        "--no-schemes", action="store_true", help="leave the benchmark designs out (faster)"
    )


def run(options: argparse.Namespace) -> None:
    """Answer it."""
    if options.plot is not None:
        from jaxedge.report.figure_style import check_figure_path

        check_figure_path(options.plot)
    if options.gap is None:  # branch and bound to a gap may run long
        compilation_cache.hurry()
    compilation_cache.enable()
    ends = _given_ends(options) if options.within else None
    scenario = given_scenario(options) if ends is None else ends[1]
    check_bound(options.bound, [scenario])
    from jaxedge.planning import entry

    with ProgressLine() as progress:
        answer = entry.plan(
            scenario,
            bound=options.bound,
            solver=options.solver,
            relaxed=options.relaxed,
            gap=options.gap,
            schemes=not options.no_schemes,
            progress=progress,
        )
        within = None if ends is None else _plans_within(ends, options.bound, progress)
    _print_plan(answer, scenario, within, as_json=options.json)
    if options.plot is not None:
        _draw(answer, scenario, options.plot)


def _given_ends(options: argparse.Namespace) -> tuple[Scenario, Scenario, Scenario]:
    from jaxedge.scenario.intervals import load_within

    if options.file is None or options.preset is not None:
        raise ValueError("--within needs a scenario FILE with a table [intervals], and no --preset")
    return read(options.file, load_within)


def _plans_within(
    ends: tuple[Scenario, Scenario, Scenario], bound: str, progress: ProgressLine
) -> dict[str, Any]:
    from jaxedge.planning.intervals import plan_within

    return plan_within(*ends, bound=bound, progress=progress).to_dict()


def _print_plan(
    answer: Plan, scenario: Scenario, within: dict[str, Any] | None, *, as_json: bool
) -> None:
    if as_json:
        told = answer.to_dict()
        print(json_text(told if within is None else {**told, "within": within}))
        return
    from jaxedge.answers.table import plan_table

    print(plan_table(answer, scenario))
    if within is not None:
        from jaxedge.report.calibration_table import within_table

        print(f"\n{within_table(within)}")


def _draw(answer: Plan, scenario: Scenario, path: str) -> None:
    if answer.allocation is None:
        say(f"{path} is not drawn: there is no design")
        return
    from jaxedge.report.plan_plots import plot_plan

    try:
        plot_plan(answer, scenario, path)
    except OutputFileError as error:
        raise OSError(str(error)) from error
    say(f"{path} is drawn")
