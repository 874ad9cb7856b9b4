"""``jaxedge sensitivity``: which parameters the optimal bound depends on, and how much."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from jaxedge.commands.arguments import BOUNDS, Parser, add_bound, add_scenario
from jaxedge.commands.console import given_scenario, json_text, say
from jaxedge.machine import compilation_cache
from jaxedge.machine.output_files import OutputFileError
from jaxedge.words.progress import ProgressLine

if TYPE_CHECKING:
    from jaxedge.sensitivity.analysis import Sensitivity

SUMMARY = "rank what the optimal bound depends on"
_EPILOG = """\
An elasticity of -0.4 says: 1 % more of the parameter lowers the optimal bound by 0.4 %. They are
exact derivatives of the relaxed optimum (real rounds and batches) of the bound asked for; device
fields count for all devices together, and each by itself in the JSON. Where a derivative does not
exist, both sides are given. The parameters that matter most are changed by 1 % and 5 %, too, and
planned again with whole rounds and batches.

examples:
  jaxedge sensitivity                              the default preset
  jaxedge sensitivity scenario.toml --plot tornado.pdf
  jaxedge sensitivity scenario.toml --json | jq '.parameters[] | [.path, .elasticity]'
"""


def add_arguments(parser: Parser) -> None:
    """Say what the command accepts."""
    parser.description = (
        "Rank all parameters by the elasticity of the optimal bound, with shadow prices."
    )
    parser.epilog = _EPILOG
    add_scenario(parser)
    add_bound(parser)
    parser.add_argument("--json", action="store_true", help="print the answer as JSON, alone")
    parser.add_argument("--plot", metavar="FILE", help="draw a tornado: .png, .pdf or .svg")
    parser.add_argument(
        "--no-replanning", action="store_true", help="leave whole designs out (faster)"
    )
    parser.add_argument(
        "--ranges", metavar="FILE.toml", help="global measures over ranges: key = [low, high]"
    )
    parser.add_argument("--method", metavar="NAME", help="sobol, morris or derivative")
    parser.add_argument("--samples", metavar="N", type=int, help="a power of two")
    parser.add_argument("--seed", metavar="S", type=int, help="of the samples (default: 0)")
    parser.add_argument(
        "--infeasible-as", metavar="BOUND", type=float, help="count infeasible designs as this"
    )


def run(options: argparse.Namespace) -> None:
    """Answer it."""
    if options.ranges is not None:
        _measure(options)
        return
    for name in _GLOBAL:
        if getattr(options, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} goes with --ranges FILE.toml")
    if options.plot is not None:
        from jaxedge.report.figure_style import check_figure_path

        check_figure_path(options.plot)
    compilation_cache.enable()
    scenario = given_scenario(options)
    from jaxedge.sensitivity.analysis import REPLANNED, analyse

    with ProgressLine() as progress:
        replanned = 0 if options.no_replanning else REPLANNED
        found = analyse(scenario, bound=options.bound, replanned=replanned, progress=progress)
    if options.json:
        print(json_text(found.to_dict()))
    else:
        from jaxedge.report.sensitivity_table import sensitivity_table

        print(sensitivity_table(found))
    if options.plot is not None:
        _draw(found, options.plot)


_GLOBAL = ("method", "samples", "seed", "infeasible_as")
"""Options of global measures."""


def _measure(options: argparse.Namespace) -> None:
    """Global measures over the ranges of a file."""
    if options.plot is not None:
        raise ValueError("--plot draws elasticities: leave it out with --ranges")
    if options.bound != BOUNDS[0]:
        raise ValueError(f"--bound {options.bound}: ranges are measured under {BOUNDS[0]!r} alone")
    compilation_cache.enable()
    from jaxedge.sensitivity.over_ranges import global_sensitivity
    from jaxedge.sensitivity.ranges import load_ranges

    ranges = load_ranges(options.ranges)
    given = {name: getattr(options, name) for name in _GLOBAL}
    asked = {name: value for name, value in given.items() if value is not None}
    found = global_sensitivity(given_scenario(options), ranges, **asked)
    print(json_text(found.to_dict()) if options.json else found)


def _draw(found: Sensitivity, path: str) -> None:
    if not found.parameters:
        say(f"{path} is not drawn: there is no design")
        return
    from jaxedge.report.sensitivity_plot import plot_sensitivity

    try:
        plot_sensitivity(found, path)
    except OutputFileError as error:
        raise OSError(str(error)) from error
    say(f"{path} is drawn")
