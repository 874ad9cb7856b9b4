"""``jaxedge study``: the questions of the two-stage setting, each with data, figure and finding."""

from __future__ import annotations

import argparse
from typing import Any

from jaxedge.commands.arguments import Parser
from jaxedge.commands.console import json_text, resumable, say
from jaxedge.machine import compilation_cache
from jaxedge.words.progress import ProgressLine

SUMMARY = "answer the questions of the two-stage setting with figures"
_EPILOG = """\
The folder holds study.md (the page), figures as .pdf and .png, data as CSV, and study.json (what
the study is). A study that was interrupted, for whatever reason, goes on with --resume; finished
parts are kept. A folder of another size or version is refused.

examples:
  jaxedge study                                    the full study, to the folder study
  jaxedge study --quick --store quick              a minute or two
  jaxedge study --store study --resume
  jaxedge study --only phase --only growth --store some

exit codes:
  0 done, 2 bad input, 1 anything else, 130 interrupted
"""


def add_arguments(parser: Parser) -> None:
    """Say what the command accepts."""
    parser.description = (
        "Compare the joint design with every benchmark along budgets, devices, discrepancy,\n"
        "bandwidth and model size, by bound and by real training; draw when pre-training pays,\n"
        "how designs move as budgets grow, and what accuracy, delay and energy cost in each other."
    )
    parser.epilog = _EPILOG
    parser.add_argument(
        "--store", default="study", metavar="DIR", help="folder (default: %(default)s)"
    )
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted study")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="few points, channels and runs, without devices and model-size: a minute or two",
    )
    parser.add_argument(
        "--only",
        metavar="NAME",
        action="append",
        default=[],
        help="answer this question alone, a figure's name; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON, alone")


def run(options: argparse.Namespace) -> None:
    """Answer it."""
    compilation_cache.enable()
    from jaxedge.study.questions import QUESTIONS
    from jaxedge.study.running import run as answered

    with resumable(options.store), ProgressLine() as progress:
        folder = answered(
            options.store,
            "quick" if options.quick else "full",
            only=options.only,
            resume=options.resume,
            progress=progress,
        )
    findings: dict[str, Any] = {
        name: question.finding(folder.read(name))
        for name, question in QUESTIONS.items()
        if folder.has(name)
    }
    if options.json:
        print(json_text(findings))
    else:
        print("\n\n".join(f"{name.upper()}\n{text}" for name, text in findings.items()))
    say(f"{folder.page}: the page; figures and data are beside it")
