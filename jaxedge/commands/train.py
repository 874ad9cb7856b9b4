"""``jaxedge train``: run both stages under a plan, and keep what it was promised against."""

from __future__ import annotations

import argparse

from jaxedge.commands.arguments import Parser, add_scenario, given
from jaxedge.commands.console import given_scenario, json_text, resumable, say
from jaxedge.commands.task_options import DATA_HELP, add_task_options, given_spec
from jaxedge.machine import compilation_cache
from jaxedge.words.progress import ProgressLine

SUMMARY = "train a model under a plan"
_EPILOG = f"""\
{DATA_HELP}
The folder holds config.json, course.json, metrics.jsonl, checkpoints, and at the end ledger.npz,
summary.json and figures. A run that was interrupted, for whatever reason, goes on with --resume and
the same options, to the same bits.

examples:
  jaxedge train                                   digits under the default preset's plan
  jaxedge train scenario.toml --store run --partition dirichlet-per-client --alpha 0.3
  jaxedge plan scenario.toml --json > plan.json
  jaxedge train scenario.toml --plan plan.json --fading --replan --store faded
  jaxedge train scenario.toml --plan plan.json --fading --replan --store faded --resume

exit codes:
  0 done, 2 bad input, 1 anything else (such as divergence), 130 interrupted
"""


def add_arguments(parser: Parser) -> None:
    """Say what the command accepts."""
    parser.description = (
        "Pre-train a model at the server and fine-tune it federatedly at the devices, round by\n"
        "round as a plan says, and keep the ledger of joules and seconds."
    )
    parser.epilog = _EPILOG
    add_scenario(parser)
    parser.add_argument(
        "--plan", metavar="PLAN.json", help="its design, from `jaxedge plan --json`; else planned"
    )
    parser.add_argument(
        "--store", default="run", metavar="DIR", help="folder of the run (default: %(default)s)"
    )
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    add_task_options(parser)
    group = parser.add_argument_group("running")
    group.add_argument(
        "--bits-per-weight",
        type=int,
        metavar="B",
        help="upload and broadcast the model at B bits a weight (default: the scenario's bits)",
    )
    group.add_argument(
        "--fading", action="store_true", help="charge each round under a fresh Rayleigh channel"
    )
    group.add_argument(
        "--replan", action="store_true", help="plan fine-tuning again where fading departs"
    )
    group.add_argument(
        "--every",
        type=int,
        metavar="R",
        help="rounds between measurements (20 for every 1,500 test samples)",
    )
    group.add_argument("--segment", type=int, metavar="R", help="rounds between checkpoints (200)")
    group.add_argument("--local-steps", type=int, metavar="N", help="of a device in a round (1)")
    group.add_argument(
        "--strategy",
        default="auto",
        metavar="NAME",
        help="how devices are computed: vmap, scan, loop, chunked, sharded, pooled, or auto\n"
        "(default), the fastest in a short trial that is remembered",
    )
    group.add_argument(
        "--convolution", default="auto", metavar="NAME", help="direct, im2col or auto (default)"
    )
    group.add_argument(
        "--gradient-norm", action="store_true", help="measure the whole task gradient's norm too"
    )
    group.add_argument(
        "--tensorboard", action="store_true", help="write DIR/tensorboard too (needs its package)"
    )
    parser.add_argument("--json", action="store_true", help="print a summary as JSON, alone")


_SETTINGS = ("seed", "every", "segment", "local_steps", "gradient_norm", "strategy", "convolution")


def run(options: argparse.Namespace) -> None:
    """Answer it."""
    compilation_cache.enable()
    from jaxedge import training
    from jaxedge.answers.files import load_design
    from jaxedge.report.training_table import training_table

    with resumable(options.store), ProgressLine() as progress:
        found = training.run(
            given_spec(options),
            given_scenario(options),
            None if options.plan is None else load_design(options.plan),
            folder=options.store,
            resume=options.resume,
            channel="rayleigh" if options.fading else "planned",
            replan=options.replan,
            bits_per_weight=options.bits_per_weight,
            events=options.tensorboard,
            progress=progress,
            **given(options, *_SETTINGS),
        )
    print(json_text(found.summary) if options.json else training_table(found.summary))
    say(f"{options.store}: figures, ledger and weights are there")
    if found.diverged is not None:
        say(found.diverged)
        raise SystemExit(1)
