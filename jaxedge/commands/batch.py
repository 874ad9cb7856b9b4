"""``jaxedge batch``: many scenarios in one vectorised call."""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter

from jaxedge.commands.arguments import Parser, add_solving
from jaxedge.commands.console import check_bound, json_text, read, say
from jaxedge.machine import compilation_cache
from jaxedge.machine.output_files import OutputFileError, check_writable, write_whole
from jaxedge.words.progress import ProgressLine

SUMMARY = "plan many scenarios in one call"
_EPILOG = """\
The input is a JSON list of scenarios, or {"cases": [{"scenario": ...}, ...]}; the output is a JSON
list of the answers in the same order, each as `jaxedge plan --json` prints it. All scenarios are
checked before any is computed; an element that is not valid is named, and nothing is written.

examples:
  jaxedge batch many.json --output answers.json
  jaxedge batch many.json --relaxed --output - | jq '.[].bound'
"""


def add_arguments(parser: Parser) -> None:
    """Say what the command accepts."""
    parser.description = "Plan many scenarios in one vectorised call."
    parser.epilog = _EPILOG
    parser.add_argument("file", metavar="FILE.json", help="scenarios, or - for standard input")
    parser.add_argument(
        "--output", required=True, metavar="OUT.json", help="answers, or - for standard output"
    )
    add_solving(parser)


def run(options: argparse.Namespace) -> None:
    """Answer it."""
    if options.output != "-":
        check_writable(options.output)
    compilation_cache.enable()
    from jaxedge.scenario.files import load_batch

    scenarios = [scenario for _, scenario in read(options.file, load_batch)]
    check_bound(options.bound, scenarios)
    from jaxedge.planning import entry

    with ProgressLine(count=len(scenarios)) as progress:
        answers = entry.plan_batch(
            scenarios,
            bound=options.bound,
            solver=options.solver,
            relaxed=options.relaxed,
            gap=options.gap,
            progress=progress,
        )
    _write_answers(json_text([answer.to_dict() for answer in answers]), options.output)
    counts = Counter(str(answer.status) for answer in answers)
    listed = ", ".join(f"{count} {status}" for status, count in counts.items())
    say(f"{len(answers)} scenarios: {listed}")


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
