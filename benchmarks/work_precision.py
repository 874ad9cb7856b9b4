"""How long does an answer of a given accuracy take? jaxedge beside other people's solvers.

All solve the same seeded scenarios, near-infeasible ones among them, in turns in one run; one
float64 referee judges every design in original units, whatever its solver says of it. A rate is
the number of answers within a gap of the certified lower bound over all the time spent: failures
cost time and count nothing. Peers run in two processes, one for each core, with their problems
built once; time to build, compile and pack numbers is not theirs. jaxedge is timed from arrays of
scenarios to judged designs. A peer stops when its share of the time is spent: slow ones
answer fewer scenarios.

Usage: python benchmarks/work_precision.py [--smallest] [--seconds S] [--figure FILE] [--record]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jax
import numpy as np
import records
import referee
from peers import ALL, Peer, left_out, parameters, solve_chunk

from jaxedge.bounds.formulation import allocation_of
from jaxedge.machine import compilation_cache
from jaxedge.machine.chunks import cores, in_chunks
from jaxedge.machine.trees import take
from jaxedge.program.program import Program
from jaxedge.relaxation.driver import FAST, begin, decompose, solve_relaxed
from jaxedge.relaxation.judge import Relaxed
from jaxedge.relaxation.solvers import DUAL_DECOMPOSITION, SOLVERS
from jaxedge.scenario.sampling import sample_batch
from jaxedge.scenario.scenario import Scenario

SIZES = (10, 50)
TIGHTNESS = (0.0, 0.5, 0.9, 1.0)
GAPS = (1e-4, 1e-6)
STEPS = (6, 9, 12)
"""Of the dual decomposition, stopped early, for the curve."""
PROCESSES = 2
TURN = 4
"""Scenarios that a peer solves at a time: one of each tightness."""
BATCHED_TURN = 32
"""The same for peers that solve batches."""

LIMIT = 5.0
"""Seconds after which a peer hands in what it has of its turn."""
SMALLEST = ("Ipopt", "Clarabel", "Moreau")

Row = dict[str, Any]

_designs = jax.jit(jax.vmap(allocation_of))


def main() -> None:
    arguments = _arguments()
    if arguments.smallest:
        compilation_cache.hurry()
    device = jax.devices()[0].device_kind
    print(f"JAX {jax.__version__}, {device}, {cores()} cores, float64")
    rows: list[Row] = []
    peers = [peer for peer in ALL if not left_out(*peer.packages)]
    if arguments.smallest:
        peers = [peer for peer in peers if peer.title in SMALLEST]
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        for devices in (2,) if arguments.smallest else SIZES:
            here = _size(arguments, devices, pool, peers)
            _print(here)
            rows += here
    found = _ratios(rows)
    if arguments.figure:
        _draw(rows, Path(arguments.figure))
    if arguments.record:
        print(f"recorded in {records.write('work_precision', {'rows': rows, 'ratios': found})}")


def _size(
    arguments: argparse.Namespace, devices: int, pool: ProcessPoolExecutor, peers: list[Peer]
) -> list[Row]:
    """All methods at one K, in turns."""
    with jax.enable_x64(True):
        scenarios = _mixed(arguments.count, devices)
        programs = in_chunks(referee.programs_of, scenarios)
        ours = [_Ours(name, solve, scenarios) for name, solve in _methods(arguments).items()]
        theirs = [
            _Theirs(peer, variant, tolerance, scenarios)
            for peer in peers
            for variant in peer.variants
            for tolerance in peer.tolerances
        ]
        for method in ours:  # the first call compiles
            method.turn()
        certified = _certified(scenarios, programs)
        budget = arguments.seconds / max(len(arguments.sizes) * len(theirs), 1)
        number = 0
        while number < 2 or any(method.wants(budget) for method in theirs):
            for method in theirs:
                if method.wants(budget):
                    method.turn(pool)
            for method in ours:  # several times, between and after the peers' turns
                if number < (1 if method.slow else 4):
                    method.turn()
            number += 1
        return [method.row(devices, certified) for method in [*ours, *theirs]]


class _Ours:
    """One of jaxedge's solvers, timed on the whole batch."""

    def __init__(self, name: str, solve: Callable[[Program], Relaxed], scenarios: Scenario) -> None:
        self.name, self._solve = name, solve
        self.slow = name in [*SOLVERS][1:]
        size = min(len(scenarios.energy_budget), 512) if self.slow else None
        self._scenarios = take(scenarios, np.arange(len(scenarios.energy_budget))[:size])
        self._times: list[float] = []
        self._designs: Any = None

    def turn(self) -> None:
        start = time.perf_counter()
        programs = in_chunks(referee.programs_of, self._scenarios)
        relaxed = self._solve(programs)
        self._designs = in_chunks(_designs, self._scenarios, programs, relaxed.design)
        self._times.append(time.perf_counter() - start)

    def row(self, devices: int, certified: np.ndarray) -> Row:
        size = len(self._scenarios.energy_budget)
        verdict = referee.judge(self._scenarios, self._designs, certified[:size])
        steady = min(self._times[1:])
        first = self._times[0] - steady
        return _row(self.name, None, devices, verdict.gap, steady / size, first, ours=True)


class _Theirs:
    """One setting of one peer, timed a few scenarios at a time in both processes."""

    def __init__(self, peer: Peer, variant: str, tolerance: float, scenarios: Scenario) -> None:
        self.peer, self.variant, self.tolerance = peer, variant, tolerance
        self._scenarios, self._next, self._first = scenarios, 0, 0.0
        self._designs: list[np.ndarray] = []
        self._index: list[np.ndarray] = []
        self._busy: list[np.ndarray] = []
        self._spent = 0.0

    def wants(self, budget: float) -> bool:
        room = self._next + PROCESSES * self._size <= len(self._scenarios.energy_budget)
        return room and (self._spent < budget or len(self._busy) < 1)

    @property
    def _size(self) -> int:
        return BATCHED_TURN if self.peer.batched else TURN

    def turn(self, pool: ProcessPoolExecutor) -> None:
        first, start = not self._busy, time.perf_counter()
        jobs, tried = [], []
        for _ in range(PROCESSES):
            index = np.arange(self._next, self._next + self._size)
            self._next += self._size
            tried.append(index)
            given = (self.peer, self.variant, self.tolerance, take(self._scenarios, index))
            jobs.append(pool.submit(solve_chunk, *given, LIMIT))
        for job, index in zip(jobs, tried, strict=True):
            designs, seconds, building = job.result()
            self._index.append(index[: len(designs)])
            self._designs.append(designs)
            self._busy.append(seconds)
            self._first += building if first else 0.0
        self._spent += time.perf_counter() - start

    def row(self, devices: int, certified: np.ndarray) -> Row:
        index, designs = np.concatenate(self._index), np.concatenate(self._designs)
        given = take(self._scenarios, index), parameters.allocation(designs)
        verdict = referee.judge(*given, certified[index])
        each = float(np.mean(np.concatenate(self._busy))) / PROCESSES
        name = f"{self.peer.title} {self.variant}"
        return _row(name, self.tolerance, devices, verdict.gap, each, self._first / PROCESSES)


def _row(
    name: str,
    setting: float | None,
    devices: int,
    gap: np.ndarray,
    seconds: float,
    first: float,
    *,
    ours: bool = False,
) -> Row:
    """What a method's designs are worth for the time that each took."""
    answered = np.isfinite(gap)
    row: Row = {
        "method": name,
        "setting": setting,
        "devices": devices,
        "ours": ours,
        "scenarios": len(gap),
        "answered": float(np.mean(answered)),
        "median_gap": float(np.median(gap)),
        "seconds_each": seconds,
        "seconds_first": first,
    }
    for limit in GAPS:
        share = float(np.mean(gap <= limit))
        row[f"share_{limit:g}"], row[f"rate_{limit:g}"] = share, share / seconds
    return row


def _methods(arguments: argparse.Namespace) -> dict[str, Callable[[Program], Relaxed]]:
    """Jaxedge's solvers: as users call them, and the fast one stopped early."""

    def stopped(steps: int) -> Callable[[Program], Relaxed]:
        return lambda p: in_chunks(decompose, p, begin(p, FAST, steps))[0]

    names = [*SOLVERS][: 1 if arguments.smallest else 3]  # solvers.py has the baseline
    found: dict[str, Callable[[Program], Relaxed]] = {
        name: lambda p, name=name: solve_relaxed(p, solver=name) for name in names
    }
    return found | {f"{DUAL_DECOMPOSITION.name}, {n} steps": stopped(n) for n in STEPS}


def _mixed(count: int, devices: int) -> Scenario:
    """Seeded scenarios, the tightnesses in turn."""
    share = count // len(TIGHTNESS)
    parts = [
        sample_batch(jax.random.key(7 + i), share, devices, tightness=tightness)
        for i, tightness in enumerate(TIGHTNESS)
    ]
    mixed: Scenario = jax.tree.map(
        lambda *xs: np.stack(xs, 1).reshape(-1, *xs[0].shape[1:]), *parts
    )
    return mixed


def _certified(scenarios: Scenario, programs: Program) -> np.ndarray:
    """(B,) lower bounds, by the restatement from the dual decomposition's prices."""
    return referee.certificate(scenarios, programs, solve_relaxed(programs).prices)


def _print(rows: list[Row]) -> None:
    print(
        f"{'K':>3} {'method':<34} {'setting':>8} {'number':>6} {'answered':>8} {'median gap':>10} "
        f"{'ms each':>9} {'first s':>7} " + " ".join(f"{f'/s to {g:g}':>11}" for g in GAPS)
    )
    for row in rows:
        setting = "" if row["setting"] is None else f"{row['setting']:g}"
        rates = " ".join(f"{row[f'rate_{g:g}']:11.3g}" for g in GAPS)
        print(
            f"{row['devices']:3d} {row['method']:<34} {setting:>8} {row['scenarios']:6d} "
            f"{row['answered']:8.1%} {row['median_gap']:10.1e} {row['seconds_each'] * 1e3:9.3f} "
            f"{row['seconds_first']:7.1f} {rates}",
            flush=True,
        )


def _ratios(rows: list[Row]) -> list[Row]:
    """Each solver of ours against each peer at its best setting, at equal accuracy."""
    found: list[Row] = []
    for devices in sorted({row["devices"] for row in rows}):
        here = [row for row in rows if row["devices"] == devices]
        titles = dict.fromkeys(row["method"].split()[0] for row in here if not row["ours"])
        for limit in GAPS:
            best = {
                title: max(
                    row[f"rate_{limit:g}"] for row in here if row["method"].split()[0] == title
                )
                for title in titles
            }
            for row in here:
                if row["method"] in SOLVERS and best:
                    against = {
                        title: row[f"rate_{limit:g}"] / rate if rate else float("inf")
                        for title, rate in best.items()
                    }
                    told = ", ".join(f"{title} {ratio:.3g}" for title, ratio in against.items())
                    print(f"K = {devices}, gap <= {limit:g}: {row['method']} is faster by {told}")
                    found.append(
                        {"devices": devices, "gap": limit, "method": row["method"], **against}
                    )
    return found


def _draw(rows: list[Row], path: Path) -> None:
    """Time for each answer against the gap reached, log-log, one panel for each K."""
    from matplotlib import pyplot

    sizes = sorted({row["devices"] for row in rows})
    figure, panels = pyplot.subplots(1, len(sizes), figsize=(6 * len(sizes), 5), squeeze=False)
    for panel, devices in zip(panels[0], sizes, strict=True):
        here = [row for row in rows if row["devices"] == devices and row["answered"] > 0]
        for name in dict.fromkeys(_line(row) for row in here):
            points = [
                (max(r["median_gap"], 1e-12), r["seconds_each"]) for r in here if _line(r) == name
            ]
            panel.loglog(*zip(*sorted(points), strict=True), marker="o", label=name)
        panel.set(xlabel="median certified gap", ylabel="s a scenario", title=f"K = {devices}")
        panel.invert_xaxis()
    panels[0][0].legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path)
    print(f"figure in {path.name}")


def _line(row: Row) -> str:
    return str(row["method"]).split(",")[0]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--smallest", action="store_true", help="K = 2, the dual decomposition alone, few scenarios"
    )
    parser.add_argument("--seconds", type=float, default=80.0, help="for all peers together")
    parser.add_argument("--figure", help="write a log-log figure to this .png, .pdf or .svg")
    records.add_option(parser)
    arguments = parser.parse_args()
    arguments.count = 32 if arguments.smallest else 4096
    arguments.sizes = SIZES
    return arguments


if __name__ == "__main__":
    main()
