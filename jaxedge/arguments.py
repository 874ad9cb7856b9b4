"""What the command line accepts, and what it says where it does not understand."""

from __future__ import annotations

import argparse
import difflib
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import NoReturn

from jaxedge.solvers import SOLVERS

BOUNDS = ("two-stage", "fine-tuning")

_EPILOG = """\
examples:
  jaxedge plan                          plan the default scenario
  jaxedge init > scenario.toml          write a commented scenario to edit
  jaxedge plan scenario.toml            the design, its certificate, what binds, what it would gain
  jaxedge plan scenario.toml --json     the same for a program to read
  jaxedge plan --plot spending.pdf      draw where the joules and seconds go
  jaxedge batch many.json --output answers.json

exit codes:
  0 answered (an infeasible scenario is an answer), 2 bad input, 1 anything else, 130 interrupted

environment:
  JAXEDGE_CACHE=off   keep no compiled programs in the user's cache folder
  JAXEDGE_DEBUG=1     show the traceback of unexpected errors
"""

_INIT_EPILOG = """\
The file is TOML. Numbers are SI and linear (J, s, W, Hz, bit), or carry their unit in the key:
max_power_dbm = 23, bandwidth_mhz = 1, gain_db = -110. Device fields are lists, or one
number for all.

presets:
  default           ten devices, both stages worth running, both budgets binding
  pretraining-wins  related data: pre-training alone is best
  finetuning-wins   unrelated data: fine-tuning alone is best
  small, usual, large   3, 10 and 100 devices

example:
  jaxedge init --preset small > scenario.toml
"""

_PLAN_EPILOG = """\
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

_BATCH_EPILOG = """\
The input is a JSON list of scenarios, or {"cases": [{"scenario": ...}, ...]}; the output is a JSON
list of the answers in the same order, each as `jaxedge plan --json` prints it. All scenarios are
checked before any is computed; an element that is not valid is named, and nothing is written.

examples:
  jaxedge batch many.json --output answers.json
  jaxedge batch many.json --relaxed --output - | jq '.[].bound'
"""


class Parser(argparse.ArgumentParser):
    """A parser that complains in one line and suggests what may have been meant."""

    def __init__(self, **options: object) -> None:
        settings = {"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter}
        super().__init__(**{**settings, **options})  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Exit with code 2 and one line on standard error."""
        self.exit(2, f"{self.prog}: {message}; see `{self.prog} --help`\n")

    def options(self) -> list[str]:
        """The long options that it knows."""
        return [name for name in self._option_string_actions if name.startswith("--")]


def choice(kind: str, name: str, known: Iterable[str]) -> str:
    """Return ``name`` if it is known.

    Raises:
        ValueError: otherwise, with the nearest known name.
    """
    known = list(known)
    if name in known:
        return name
    raise ValueError(_unknown(kind, name, known))


def _unknown(kind: str, name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name[:100], known, n=1, cutoff=0.5)
    advice = f"did you mean {near[0]}?" if near else f"must be one of {', '.join(known)}"
    return f"unknown {kind} {name!r:.60}: {advice}"


def parse(arguments: Sequence[str] | None, version: str) -> argparse.Namespace:
    """Read the command line; exits with code 2 and one line where it is not understood."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser, commands = _parsers(version)
    _check_names(given, parser, commands)
    parsed, extra = parser.parse_known_args(given)
    if parsed.command is None:
        parser.error(f"a command is needed: {', '.join(commands)}")
    if extra:
        commands[parsed.command].error(f"unexpected argument {extra[0]!r:.60}")
    return parsed


def _check_names(given: Sequence[str], parser: Parser, commands: Mapping[str, Parser]) -> None:
    """Name a misspelt command or option before argparse complains about what is missing."""
    command = next((item for item in given if not item.startswith("-")), None)
    if command is not None and command not in commands:
        parser.error(_unknown("command", command, list(commands)))
    parser = parser if command is None else commands[command]
    for item in given[: given.index("--")] if "--" in given else given:
        name = item.partition("=")[0]
        if name.startswith("--") and name not in parser.options():
            parser.error(_unknown("option", name, parser.options()))


def _parsers(version: str) -> tuple[Parser, dict[str, Parser]]:
    parser = Parser(
        prog="jaxedge",
        description="Plan two-stage edge learning: pre-training at a server, then federated\n"
        "fine-tuning at wireless devices, under energy and delay budgets.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"jaxedge {version}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    known = {
        "init": _init(commands.add_parser("init", help="print a commented scenario file to edit")),
        "plan": _plan(commands.add_parser("plan", help="plan one scenario")),
        "batch": _batch(commands.add_parser("batch", help="plan many scenarios in one call")),
    }
    return parser, known


def _argument(kind: str, name: str, known: Iterable[str]) -> str:
    try:
        return choice(kind, name, known)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _init(parser: Parser) -> Parser:
    parser.description = "Print a commented scenario file to edit."
    parser.epilog = _INIT_EPILOG
    parser.add_argument("--preset", default="default", metavar="NAME", help="see below")
    return _debugging(parser)


def _plan(parser: Parser) -> Parser:
    parser.description = (
        "Find the rounds, batches, clocks and powers of both stages that minimise the\n"
        "convergence bound within the budgets, and certify how good they are."
    )
    parser.epilog = _PLAN_EPILOG
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="scenario file, or - for standard input"
    )
    parser.add_argument("--preset", metavar="NAME", help="a named scenario in place of FILE")
    _solving(parser)
    parser.add_argument("--json", action="store_true", help="print the answer as JSON, alone")
    parser.add_argument("--plot", metavar="FILE", help="draw it too: .png, .pdf or .svg")
    parser.add_argument(
        "--no-schemes", action="store_true", help="leave the benchmark designs out (faster)"
    )
    return _debugging(parser)


def _batch(parser: Parser) -> Parser:
    parser.description = "Plan many scenarios in one vectorised call."
    parser.epilog = _BATCH_EPILOG
    parser.add_argument("file", metavar="FILE.json", help="scenarios, or - for standard input")
    parser.add_argument(
        "--output", required=True, metavar="OUT.json", help="answers, or - for standard output"
    )
    _solving(parser)
    return _debugging(parser)


def _solving(parser: Parser) -> None:
    parser.add_argument(
        "--bound",
        default=BOUNDS[0],
        type=lambda name: _argument("bound", name, BOUNDS),
        metavar="|".join(BOUNDS),
        help="convergence bound to minimise (default: %(default)s)",
    )
    parser.add_argument(
        "--solver",
        default=SOLVERS[0],
        type=lambda name: _argument("solver", name, SOLVERS),
        metavar="NAME",
        help=f"{', '.join(SOLVERS)} (default: %(default)s)",
    )
    parser.add_argument("--relaxed", action="store_true", help="real rounds and batches")
    parser.add_argument(
        "--gap", type=_gap, metavar="G", help="certified relative gap to ask for, such as 1e-4"
    )


def _debugging(parser: Parser) -> Parser:
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


def _gap(text: str) -> float:
    try:
        gap = float(text)
    except ValueError:
        gap = math.nan
    if not 0 < gap < 1:
        raise argparse.ArgumentTypeError(f"{text!r:.40} is no relative gap: must be > 0 and < 1")
    return gap
