"""``jaxedge init``: a commented scenario file to edit."""

from __future__ import annotations

import argparse
import sys

from jaxedge.commands.arguments import Parser
from jaxedge.words.choices import choice

SUMMARY = "print a commented scenario file to edit"
_EPILOG = """\
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


def add_arguments(parser: Parser) -> None:
    """Say what the command accepts."""
    parser.description = "Print a commented scenario file to edit."
    parser.epilog = _EPILOG
    parser.add_argument("--preset", default="default", metavar="NAME", help="see below")


def run(options: argparse.Namespace) -> None:
    """Answer it."""
    from jaxedge.scenario import files, presets

    name = choice("preset", options.preset, presets.names())
    sys.stdout.write(files.template(name))
