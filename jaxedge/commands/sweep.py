"""``jaxedge sweep``: every scenario along named axes, into a labelled store."""

from __future__ import annotations

import argparse
from typing import Any

from jaxedge.commands.arguments import Parser
from jaxedge.commands.console import json_text, read, resumable, say
from jaxedge.machine import compilation_cache
from jaxedge.words.progress import ProgressLine

SUMMARY = "plan every scenario along named axes"
_EPILOG = """\
SPEC.toml names axes over fields of a scenario, with units in the keys as in scenario files:

  scenario = "default"          # a preset, a scenario file, or a table [scenario]
  relaxed = true
  outputs = ["bound", "gap", "status", "energy", "shadow_price_energy_budget"]

  [[axes]]
  energy_budget = { logspace = [300, 3000, 20] }

  [[axes]]                      # keys of one table change together
  "devices.max_power_dbm" = [17, 20, 23]
  "server.max_power_dbm" = [27, 30, 33]

  [[axes]]                      # Monte Carlo; with reduce, only statistics are kept
  channel = "rayleigh"
  draws = 1000
  reduce = true

The store is a Zarr folder: xarray.open_zarr(DIR) opens it anywhere, jaxedge plot DIR draws it. A
run that was interrupted, for whatever reason, goes on with --resume; finished chunks are kept.

examples:
  jaxedge sweep spec.toml --store out.zarr
  jaxedge sweep spec.toml --store out.zarr --resume
  jaxedge sweep spec.toml --store shared/out.zarr --scheduler tcp://10.0.0.1:8786

exit codes:
  0 done (infeasible scenarios are answers), 2 bad input, 1 anything else, 130 interrupted
"""


def add_arguments(parser: Parser) -> None:
    """Say what the command accepts."""
    parser.description = "Plan every scenario of a sweep and stream the answers to a store."
    parser.epilog = _EPILOG
    parser.add_argument("file", metavar="SPEC.toml", help="sweep file, or - for standard input")
    parser.add_argument("--store", required=True, metavar="DIR", help="folder of the Zarr store")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the store of an interrupted run"
    )
    parser.add_argument(
        "--chunk",
        type=_count,
        metavar="N",
        help="scenarios between two writes (default: 16384); it changes no answer",
    )
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="of a Dask cluster whose workers share the folder"
    )
    parser.add_argument("--json", action="store_true", help="print a summary as JSON, alone")


def run(options: argparse.Namespace) -> None:
    """Answer it."""
    compilation_cache.enable()
    from jaxedge.sweeps import running, spec_files

    sweep = read(options.file, spec_files.load_sweep)
    chunk = running.CHUNK if options.chunk is None else options.chunk
    job = running.prepare_job(sweep, options.store, resume=options.resume, chunk=chunk)
    with resumable(options.store), ProgressLine(count=job.layout.rows) as progress:
        running.do(job, options.scheduler, progress)
    if options.json:
        print(json_text(_summary(options.store, job)))
    chunks = "1 chunk" if job.layout.chunks == 1 else f"{job.layout.chunks} chunks"
    say(f"{options.store}: {job.layout.rows} scenarios in {chunks}")


def _summary(store: str, job: Any) -> dict[str, Any]:
    from jaxedge.sweeps.variables import variables

    return {
        "store": store,
        "scenarios": job.layout.rows,
        "dimensions": {axis.name: len(axis) for axis in job.sweep.kept},
        "reduced": {axis.name: len(axis) for axis in job.sweep.reduced},
        "variables": [item.name for item in variables(job.sweep)],
        "spec_sha256": job.sweep.digest(),
    }


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r:.40} must be a whole number >= 1")
    return int(text)
