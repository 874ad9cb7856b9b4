"""What the commands share: reading scenarios, checking them early, and saying things."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from jaxedge.words.choices import choice

if TYPE_CHECKING:
    from jaxedge.scenario.scenario import Scenario

T = TypeVar("T")

# jax is imported inside the functions that need it: --help and --version answer at once.


def say(text: str) -> None:
    """Tell the person at the terminal, on standard error."""
    print(f"jaxedge: {text}", file=sys.stderr)


@contextmanager
def resumable(store: str) -> Iterator[None]:
    """Tell how to go on with what Ctrl-C interrupts."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"{store}: interrupted: the same command with --resume goes on")
        raise


def json_text(content: object) -> str:
    """Strict JSON as the commands print it."""
    return json.dumps(content, indent=1, allow_nan=False)


def given_scenario(options: argparse.Namespace) -> Scenario:
    """The scenario of a FILE or --preset; the default preset without either."""
    if options.file is not None and options.preset is not None:
        raise ValueError("give a scenario file or --preset, not both")
    from jaxedge.scenario import presets
    from jaxedge.scenario.files import load

    if options.file is not None:
        return read(options.file, load)
    return presets.get(choice("preset", options.preset or "default", presets.names()))


def read(path: str, load: Callable[[str], T]) -> T:
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


def check_bound(bound: str, scenarios: Sequence[Scenario]) -> None:
    """Ask for the constants that a bound needs before anything is computed."""
    from jaxedge.bounds.registry import bound_named
    from jaxedge.scenario.stacking import named

    for i, item in enumerate(scenarios):
        if len(scenarios) > 1:
            named(f"element {i}", bound_named(bound).check, item)
        else:
            bound_named(bound).check(item)
