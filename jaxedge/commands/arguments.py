"""What the command line accepts, and what it says where it does not understand."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn, Protocol

from jaxedge.relaxation.solvers import DUAL_DECOMPOSITION, SOLVERS
from jaxedge.words.choices import choice, unknown

BOUNDS = ("two-stage", "fine-tuning", "end-loss", "last-iterate")
"""The names of the registry for the help, without JAX; the first is the default."""

_EPILOG = """\
examples:
  jaxedge plan                          plan the default scenario
  jaxedge init > scenario.toml          write a commented scenario to edit
  jaxedge plan scenario.toml            the design, its certificate, what binds, what it would gain
  jaxedge plan scenario.toml --json     the same for a program to read
  jaxedge plan --plot spending.pdf      draw where the joules and seconds go
  jaxedge batch many.json --output answers.json
  jaxedge sensitivity scenario.toml     rank what the optimal bound depends on
  jaxedge sweep spec.toml --store out.zarr
  jaxedge plot out.zarr --output figure.pdf
  jaxedge calibrate --output calibrated.toml
  jaxedge train                         train on real images under the default plan
  jaxedge study --quick                 joint design against benchmarks, with figures

exit codes:
  0 answered (an infeasible scenario is an answer), 2 bad input, 1 anything else, 130 interrupted

environment:
  JAXEDGE_CACHE=off   keep no compiled programs in the user's cache folder
  JAXEDGE_DEBUG=1     show the traceback of unexpected errors
"""


class Command(Protocol):
    """What the module of a command holds."""

    SUMMARY: str

    def add_arguments(self, parser: Parser) -> None:
        """Say what the command accepts."""

    def run(self, options: argparse.Namespace) -> None:
        """Answer it."""


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


def _registered() -> Iterable[str]:
    from jaxedge.bounds.registry import BOUNDS

    return BOUNDS


def parse(
    arguments: Sequence[str] | None, version: str, known: Mapping[str, Command]
) -> argparse.Namespace:
    """Read the command line; exits with code 2 and one line where it is not understood."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser, commands = _parsers(version, known)
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
        parser.error(unknown("command", command, list(commands)))
    parser = parser if command is None else commands[command]
    for item in given[: given.index("--")] if "--" in given else given:
        name = item.partition("=")[0]
        if name.startswith("--") and name not in parser.options():
            parser.error(unknown("option", name, parser.options()))


def _parsers(version: str, known: Mapping[str, Command]) -> tuple[Parser, dict[str, Parser]]:
    parser = Parser(
        prog="jaxedge",
        description="Plan two-stage edge learning: pre-training at a server, then federated\n"
        "fine-tuning at wireless devices, under energy and delay budgets.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"jaxedge {version}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    parsers = {}
    for name, command in known.items():
        parsers[name] = commands.add_parser(name, help=command.SUMMARY)
        command.add_arguments(parsers[name])
        parsers[name].add_argument("--debug", action="store_true", help="show tracebacks")
    return parser, parsers


def _argument(kind: str, name: str, known: Iterable[str]) -> str:
    try:
        return choice(kind, name, known)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_scenario(parser: Parser) -> None:
    """Where `console.given_scenario` finds the scenario."""
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="scenario file, or - for standard input"
    )
    parser.add_argument("--preset", metavar="NAME", help="a named scenario in place of FILE")


def given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options that were given, by name: the others are None."""
    found = {name: getattr(options, name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def add_bound(parser: Parser) -> None:
    """Which bound a command is about."""
    parser.add_argument(
        "--objective",
        "--bound",
        dest="bound",
        default=BOUNDS[0],
        type=lambda name: name if name in BOUNDS else _argument("bound", name, _registered()),
        metavar="NAME",
        help=f"what is minimised: {', '.join(BOUNDS)} (default: %(default)s)",
    )


def add_solving(parser: Parser) -> None:
    """Options of every command that plans."""
    add_bound(parser)
    parser.add_argument(
        "--solver",
        default=DUAL_DECOMPOSITION.name,
        type=lambda name: _argument("solver", name, SOLVERS),
        metavar="NAME",
        help=f"{', '.join(SOLVERS)} (default: %(default)s)",
    )
    parser.add_argument("--relaxed", action="store_true", help="real rounds and batches")
    parser.add_argument(
        "--gap", type=_gap, metavar="G", help="certified relative gap to ask for, such as 1e-4"
    )


def _gap(text: str) -> float:
    try:
        gap = float(text)
    except ValueError:
        gap = math.nan
    if not 0 < gap < 1:
        raise argparse.ArgumentTypeError(f"{text!r:.40} is no relative gap: must be > 0 and < 1")
    return gap
