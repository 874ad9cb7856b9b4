"""Other people's solvers on the same scenarios, each module importing its package late.

A peer's module has ``solve(scenarios, variant, tolerance)`` -> designs (B, 5+3K), seconds (B,).
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import time
from typing import Any

import numpy as np

_SAID: set[str] = set()
_APART = dict.fromkeys(("flwr", "ray"), "'flwr[simulation]'")
"""Not in the extra "bench": Flower needs protobuf below 7, and constraints.txt has 7."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peer:
    """A solver, the settings it is tried with, and what must be installed for it."""

    title: str
    module: str
    packages: tuple[str, ...]
    variants: tuple[str, ...]
    tolerances: tuple[float, ...]
    batched: bool = False


ALL = (
    Peer(
        title="Ipopt",
        module="ipopt",
        packages=("casadi",),
        variants=("log", "natural"),
        tolerances=(1e-4, 1e-7, 1e-10),
    ),
    Peer(
        title="Clarabel",
        module="clarabel_direct",
        packages=("clarabel",),
        variants=("direct",),
        tolerances=(1e-5, 1e-7, 1e-8, 1e-9, 1e-11),
    ),
    Peer(
        title="CVXPY",
        module="clarabel_cvxpy",
        packages=("cvxpy", "clarabel"),
        variants=("Clarabel",),
        tolerances=(1e-8, 1e-9),
    ),
    Peer(
        title="Moreau",
        module="moreau_batch",
        packages=("moreau",),
        variants=("batch",),
        tolerances=(1e-5, 1e-7, 1e-8, 1e-9, 1e-11),
        batched=True,
    ),
    Peer(
        title="SLSQP",
        module="scipy_nlp",
        packages=("scipy",),
        variants=("SLSQP",),
        tolerances=(1e-9, 1e-12),
    ),
    Peer(
        title="trust-constr",
        module="scipy_nlp",
        packages=("scipy",),
        variants=("trust-constr",),
        tolerances=(1e-9,),
    ),
    Peer(
        title="Blind",
        module="blind_jax",
        packages=("optax",),
        variants=("L-BFGS",),
        tolerances=(20, 60),
        batched=True,
    ),
)


def left_out(*packages: str) -> bool:
    """Whether one of the packages is missing; says so once in a line."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    for name in missing:
        if name not in _SAID:
            how = _APART.get(name, "jaxedge[bench]")
            print(f"left out: {name} is not installed; pip install {how}")
            _SAID.add(name)
    return bool(missing)


def solve_chunk(
    peer: Peer, variant: str, tolerance: float, scenarios: Any, limit: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """Designs, seconds each, and seconds to get ready, in a process of its own.

    A peer that does not solve batches stops after ``limit`` seconds with what it has done.
    """
    from peers.parameters import part_of

    size = len(scenarios.energy_budget)
    solve = importlib.import_module(f"peers.{peer.module}").solve
    count = scenarios.devices.gain.shape[-1]
    building = _get_ready(peer, variant, tolerance, count, size, scenarios)
    if peer.batched:
        return *solve(scenarios, variant, tolerance), building
    start, parts = time.perf_counter(), []
    for i in range(size):
        parts.append(solve(part_of(scenarios, slice(i, i + 1)), variant, tolerance))
        if time.perf_counter() - start > limit:
            break
    designs, seconds = (np.concatenate(x) for x in zip(*parts, strict=True))
    return designs, seconds, building


_READY: set[Any] = set()


def _get_ready(
    peer: Peer, variant: str, tolerance: float, count: int, size: int, scenarios: Any
) -> float:
    """Seconds of what a solver does once: building, compiling, its first call."""
    key = (peer.title, variant, tolerance, count, size if peer.batched else 1)
    if key in _READY:
        return 0.0
    _READY.add(key)
    from peers.parameters import part_of

    module = importlib.import_module(f"peers.{peer.module}")
    first = scenarios if peer.batched else part_of(scenarios, slice(1))
    start = time.perf_counter()
    getattr(module, "warm_up", module.solve)(first, variant, tolerance)
    return time.perf_counter() - start
