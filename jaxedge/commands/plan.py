"""``jaxedge plan``: the design of one scenario, with its certificate."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from jaxedge import compilation_cache
from jaxedge.arguments import Parser, add_scenario, add_solving
from jaxedge.console import check_bound, given_scenario, json_text, say
from jaxedge.output_files import OutputFileError
from jaxedge.progress import ProgressLine

if TYPE_CHECKING:
    from jaxedge.answer import Plan
    from jaxedge.scenario import Scenario

SUMMARY = "plan one scenario"
_EPILOG = """\
examples:
  jaxedge plan                                   the default preset
  jaxedge plan scenario.toml --gap 1e-4          ask for a tighter certificate
  jaxedge plan scenario.toml --bound fine-tuning
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
        "--no-schemes", action="store_true", help="leave the benchmark designs out (faster)"
    )


def run(options: argparse.Namespace) -> None:
    """Answer it."""
    if options.plot is not None:
        from jaxedge.figure_style import check_figure_path

        check_figure_path(options.plot)
    if options.gap is None:  # branch and bound to a gap may run long
        compilation_cache.hurry()
    compilation_cache.enable()
    scenario = given_scenario(options)
    check_bound(options.bound, [scenario])
    from jaxedge import planning

    with ProgressLine() as progress:
        answer = planning.plan(
            scenario,
            bound=options.bound,
            solver=options.solver,
            relaxed=options.relaxed,
            gap=options.gap,
            schemes=not options.no_schemes,
            progress=progress,
        )
    _print_plan(answer, scenario, as_json=options.json)
    if options.plot is not None:
        _draw(answer, scenario, options.plot)


def _print_plan(answer: Plan, scenario: Scenario, *, as_json: bool) -> None:
    if as_json:
        print(json_text(answer.to_dict()))
    else:
        from jaxedge.report import plan_table

        print(plan_table(answer, scenario))


def _draw(answer: Plan, scenario: Scenario, path: str) -> None:
    if answer.allocation is None:
        say(f"{path} is not drawn: there is no design")
        return
    from jaxedge.plots import plot_plan

    try:
        plot_plan(answer, scenario, path)
    except OutputFileError as error:
        raise OSError(str(error)) from error
    say(f"{path} is drawn")
