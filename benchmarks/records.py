"""Records of benchmark runs: what was measured, with which versions, on what, as JSON.

A script writes one where it is called with ``--record``::

    if arguments.record:
        print(f"recorded in {records.write('throughput', results)}")
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import math
import pathlib
import platform
import re
from typing import Any

import jax
import numpy as np

import jaxedge
from jaxedge.machine.chunks import cores

FOLDER = pathlib.Path(__file__).parent / "records"

PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "optax")
PEERS = ("casadi", "clarabel", "cvxpy", "moreau", "pyscipopt", "torch", "pfl")


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--record`` to a script's arguments."""
    parser.add_argument(
        "--record", action="store_true", help="write the results to benchmarks/records"
    )


def write(name: str, results: dict[str, Any]) -> pathlib.Path:
    """Write results (numbers, texts, arrays; nested) beside versions and device; say where."""
    device = jax.devices()[0]
    record = {
        "name": name,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "jaxedge": jaxedge.__version__,
        "versions": versions(),
        "device": {
            "platform": device.platform,
            "kind": device.device_kind,
            "count": len(jax.devices()),
        },
        "cpu": {"model": cpu_model(), "count": cores()},
        "results": _plain(results),
    }
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}-{slug(device.device_kind)}.json"
    path.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path


def versions() -> dict[str, str]:
    """Python's version and those of the packages at work and the peers present."""
    found = {"python": platform.python_version()}
    for package in (*PACKAGES, *PEERS):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def cpu_model() -> str:
    """The processor's name as the system gives it."""
    source = pathlib.Path("/proc/cpuinfo")
    text = source.read_text(encoding="utf-8") if source.exists() else ""
    found = re.search(r"model name\s*:\s*(.+)", text)
    return found[1].strip() if found else platform.processor() or platform.machine()


def slug(text: str) -> str:
    """Lower case letters and digits, joined by hyphens, for a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _plain(thing: Any) -> Any:
    """What JSON can hold: arrays as lists, infinities and NaN as null."""
    if isinstance(thing, dict):
        return {str(key): _plain(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [_plain(value) for value in thing]
    if isinstance(thing, jax.Array | np.ndarray | np.generic):
        return _plain(np.asarray(thing).tolist())
    if isinstance(thing, float) and not math.isfinite(thing):
        return None
    return thing
