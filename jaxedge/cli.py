"""The command line: a thin layer that reads arguments and files, calls the library and prints."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from jaxedge import arguments, compilation_cache
from jaxedge.output_files import OutputFileError, check_writable, write_whole
from jaxedge.progress import ProgressLine

if TYPE_CHECKING:
    from jaxedge.answer import Plan
    from jaxedge.scenario import Scenario

T = TypeVar("T")

# jax is imported inside the functions that need it: --help and --version answer at once.

ANSWERED, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 answered, 2 bad input, 1 anything else."""
    debug = os.environ.get("JAXEDGE_DEBUG", "0") not in ("", "0")
    try:
        options = arguments.parse(argv, _version())
        debug = debug or options.debug
        compilation_cache.silence()
        _COMMANDS[options.command](options)
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
        _say(text)
        return BAD_INPUT
    if isinstance(error, OSError):
        _say(text)
        return FAILED
    kind = type(error).__name__
    _say(f"{kind}: {text[:300]} (JAXEDGE_DEBUG=1 shows where; please report it if it is a bug)")
    return FAILED


def _say(text: str) -> None:
    print(f"jaxedge: {text}", file=sys.stderr)


def _version() -> str:
    try:
        return metadata.version("jaxedge")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _init(options: argparse.Namespace) -> None:
    from jaxedge import presets, scenario_files

    name = arguments.choice("preset", options.preset, presets.names())
    sys.stdout.write(scenario_files.template(name))


def _plan(options: argparse.Namespace) -> None:
    if options.plot is not None:
        from jaxedge.plots import check_figure_path

        check_figure_path(options.plot)
    if options.gap is None:  # branch and bound to a gap may run long
        compilation_cache.hurry()
    compilation_cache.enable()
    scenario = _scenario(options)
    _check_bound(options.bound, [scenario])
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


def _batch(options: argparse.Namespace) -> None:
    if options.output != "-":
        check_writable(options.output)
    compilation_cache.enable()
    from jaxedge.scenario_files import load_batch

    scenarios = [scenario for _, scenario in _read(options.file, load_batch)]
    _check_bound(options.bound, scenarios)
    from jaxedge import planning

    with ProgressLine(count=len(scenarios)) as progress:
        answers = planning.plan_batch(
            scenarios,
            bound=options.bound,
            solver=options.solver,
            relaxed=options.relaxed,
            gap=options.gap,
            progress=progress,
        )
    _write_answers(_json_text([answer.to_dict() for answer in answers]), options.output)
    counts = Counter(str(answer.status) for answer in answers)
    listed = ", ".join(f"{count} {status}" for status, count in counts.items())
    _say(f"{len(answers)} scenarios: {listed}")


_COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "init": _init,
    "plan": _plan,
    "batch": _batch,
}


def _scenario(options: argparse.Namespace) -> Scenario:
    if options.file is not None and options.preset is not None:
        raise ValueError("give a scenario file or --preset, not both")
    from jaxedge import presets
    from jaxedge.scenario_files import load

    if options.file is not None:
        return _read(options.file, load)
    return presets.get(arguments.choice("preset", options.preset or "default", presets.names()))


def _read(path: str, load: Callable[[str], T]) -> T:
    """Load a file, or standard input where the path is "-"."""
    if path != "-":
        return load(path)
    if sys.stdin is None:
        raise ValueError("standard input is closed: give a file, or pipe one in")
    with tempfile.TemporaryDirectory() as folder:
        spooled = Path(folder) / "standard-input"
        spooled.write_bytes(sys.stdin.buffer.read())
        try:
            return load(str(spooled))
        except ValueError as error:
            raise ValueError(str(error).replace(str(spooled), "standard input")) from error


def _check_bound(bound: str, scenarios: Sequence[Scenario]) -> None:
    """The one field that is needed by one bound only, asked for before anything is computed."""
    lacking = [i for i, item in enumerate(scenarios) if item.learning.pl_constant is None]
    if bound == "fine-tuning" and lacking:
        place = f"element {lacking[0]}: " if len(scenarios) > 1 else ""
        raise ValueError(
            f"{place}learning.pl_constant is missing: the fine-tuning bound needs it "
            "(mu, a finite number > 0 and at most learning.smoothness)"
        )


def _print_plan(answer: Plan, scenario: Scenario, *, as_json: bool) -> None:
    if as_json:
        print(_json_text(answer.to_dict()))
    else:
        from jaxedge.report import plan_table

        print(plan_table(answer, scenario))


def _json_text(content: object) -> str:
    return json.dumps(content, indent=1, allow_nan=False)


def _draw(answer: Plan, scenario: Scenario, path: str) -> None:
    if answer.allocation is None:
        _say(f"{path} is not drawn: there is no design")
        return
    from jaxedge.plots import plot_plan

    try:
        plot_plan(answer, scenario, path)
    except OutputFileError as error:
        raise OSError(str(error)) from error
    _say(f"{path} is drawn")


def _write_answers(text: str, path: str) -> None:
    """Write the answers; where that fails after all, keep them in a temporary file."""
    if path == "-":
        print(text)
        return
    try:
        write_whole(path, f"{text}\n".encode())
    except OutputFileError as error:
        with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as rescue:
            rescue.write(f"{text}\n")
        raise OSError(f"{error}; the answers are in {rescue.name}") from error
