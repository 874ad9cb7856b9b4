"""The command line: a thin layer that reads arguments and files, calls the library and prints."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import metadata

from jaxedge.commands import COMMANDS, arguments
from jaxedge.commands.console import say
from jaxedge.machine import compilation_cache

ANSWERED, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 answered, 2 bad input, 1 anything else."""
    debug = os.environ.get("JAXEDGE_DEBUG", "0") not in ("", "0")
    try:
        options = arguments.parse(argv, _version(), COMMANDS)
        debug = debug or options.debug
        compilation_cache.silence()
        COMMANDS[options.command].run(options)
        _flush()
        return ANSWERED
    except SystemExit as end:
        return _finished(end)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return _abandoned()
    except Exception as error:
        return _explained(error, debug=debug)


def _finished(end: SystemExit) -> int:
    """The exit code of argparse, after its help has left."""
    try:
        _flush()
    except BrokenPipeError:
        return _abandoned()
    return end.code if isinstance(end.code, int) else ANSWERED


def _flush() -> None:
    """Write what is buffered now, where errors are still explained."""
    if sys.stdout is not None:  # None where the caller has closed it
        sys.stdout.flush()


def _abandoned() -> int:
    """Nobody reads any more, as in ``| head``: nothing to complain about, here or at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ANSWERED


def _explained(error: Exception, *, debug: bool) -> int:
    """One line on standard error; ValueErrors of the library are about the input."""
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    text = " ".join(str(error).split())
    if isinstance(error, ValueError):
        say(text)
        return BAD_INPUT
    if isinstance(error, OSError):
        say(text)
        return FAILED
    kind = type(error).__name__
    say(f"{kind}: {text[:300]} (JAXEDGE_DEBUG=1 shows where; please report it if it is a bug)")
    return FAILED


def _version() -> str:
    try:
        return metadata.version("jaxedge")
    except metadata.PackageNotFoundError:
        return "(not installed)"
