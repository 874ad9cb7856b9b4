"""``jaxedge sensitivity``: which parameters the optimal bound depends on, and how much."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from jaxedge import compilation_cache
from jaxedge.arguments import Parser
from jaxedge.console import given_scenario, json_text, say
from jaxedge.output_files import OutputFileError
from jaxedge.progress import ProgressLine

if TYPE_CHECKING:
    from jaxedge.analysis import Sensitivity

SUMMARY = "rank what the optimal bound depends on"
_EPILOG = """\
An elasticity of -0.4 says: 1 % more of the parameter lowers the optimal bound by 0.4 %. They are
exact derivatives of the relaxed optimum (real rounds and batches) under the two-stage bound; device
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
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="scenario file, or - for standard input"
    )
    parser.add_argument("--preset", metavar="NAME", help="a named scenario in place of FILE")
    parser.add_argument("--json", action="store_true", help="print the answer as JSON, alone")
    parser.add_argument("--plot", metavar="FILE", help="draw a tornado: .png, .pdf or .svg")
    parser.add_argument(
        "--no-replanning", action="store_true", help="leave whole designs out (faster)"
    )


def run(options: argparse.Namespace) -> None:
    """Answer it."""
    if options.plot is not None:
        from jaxedge.figure_style import check_figure_path

        check_figure_path(options.plot)
    compilation_cache.enable()
    scenario = given_scenario(options)
    from jaxedge.analysis import REPLANNED, analyse

    with ProgressLine() as progress:
        replanned = 0 if options.no_replanning else REPLANNED
        found = analyse(scenario, replanned=replanned, progress=progress)
    if options.json:
        print(json_text(found.to_dict()))
    else:
        from jaxedge.sensitivity_table import sensitivity_table

        print(sensitivity_table(found))
    if options.plot is not None:
        _draw(found, options.plot)


def _draw(found: Sensitivity, path: str) -> None:
    if not found.parameters:
        say(f"{path} is not drawn: there is no design")
        return
    from jaxedge.sensitivity_plot import plot_sensitivity

    try:
        plot_sensitivity(found, path)
    except OutputFileError as error:
        raise OSError(str(error)) from error
    say(f"{path} is drawn")
