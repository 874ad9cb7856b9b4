"""``jaxedge plot``: figures of a sweep, straight from its store."""

from __future__ import annotations

import argparse
from pathlib import Path

from jaxedge.commands.arguments import Parser
from jaxedge.commands.console import say

SUMMARY = "draw a sweep"
_EPILOG = """\
kinds:
  lines     over one axis: a line per benchmark design or per value of a second axis, with bands
            over random axes
  heatmap   a value over two axes, infeasible scenarios hatched
  phase     which stage gets more rounds than it must, over two axes
  pareto    the designs that none beats in all of x, y and value (energy, bound and delay)
  By default one axis gives lines and two give a heat map.

examples:
  jaxedge plot results                                 to results.pdf
  jaxedge plot results --kind phase --x delay_budget --y energy_budget --output stages.svg
  jaxedge plot results --at delay_budget=300 --value energy
  jaxedge plot results --kind pareto
"""


def add_arguments(parser: Parser) -> None:
    """Say what the command accepts."""
    parser.description = "Draw a sweep for one column of a paper, straight from its store."
    parser.epilog = _EPILOG
    parser.add_argument("store", metavar="DIR", help="the store that a sweep wrote")
    parser.add_argument(
        "--output", metavar="FIG", help=".pdf, .svg or .png (default: DIR's name with .pdf)"
    )
    parser.add_argument("--kind", metavar="KIND", help="lines, heatmap, phase or pareto")
    parser.add_argument("--x", metavar="NAME", help="axis across; of pareto a quantity")
    parser.add_argument("--y", metavar="NAME", help="axis upwards, or that of the lines")
    parser.add_argument("--value", metavar="NAME", help="what is shown (default: bound)")
    parser.add_argument(
        "--at",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        type=_place,
        help="fix an axis at the nearest value; may be repeated",
    )
    parser.add_argument(
        "--band",
        metavar="BAND",
        default="quantile",
        help="over random axes: quantile (5 %% to 95 %%) or confidence (of the mean)",
    )


def _place(text: str) -> tuple[str, str]:
    name, given, value = text.partition("=")
    if not (name and given and value):
        raise argparse.ArgumentTypeError(f"{text!r:.60} must be NAME=VALUE, as delay_budget=300")
    return name, value


def run(options: argparse.Namespace) -> None:
    """Answer it."""
    from jaxedge.report.figure_style import check_figure_path
    from jaxedge.sweeps.store import open_sweep

    store = Path(options.store)
    output = options.output or f"{store.resolve().name}.pdf"
    check_figure_path(output)
    dataset = open_sweep(store)
    from jaxedge.report.sweep_plots import plot_sweep

    plot_sweep(
        dataset,
        output,
        kind=options.kind,
        x=options.x,
        y=options.y,
        value=options.value,
        at=dict(options.at),
        band=options.band,
    )
    say(f"{output} is drawn")
