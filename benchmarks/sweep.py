"""What does a sweep cost beside bare solving? Rate, overhead, memory; with --kills, interruptions.

Usage: python benchmarks/sweep.py [--smallest] [--count N] [--kills N] [--record]

Bare solving is `entry.plan_batch` on blocks spread over the same scenarios; both are timed in
CPU seconds of one process and in wall time, after a sweep of a few blocks and bare solving have
imported and compiled what they need. What that takes is told apart.
"""

from __future__ import annotations

import argparse
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import jax
import numpy as np
import records

from jaxedge import presets, sweeps
from jaxedge.bounds.batches import programs_of_each
from jaxedge.bounds.two_stage import TwoStage
from jaxedge.machine import compilation_cache
from jaxedge.machine.chunks import cores, in_chunks
from jaxedge.machine.trees import take
from jaxedge.planning import entry
from jaxedge.relaxation.driver import solve_relaxed
from jaxedge.scenario.scenario import Scenario
from jaxedge.scenario.validation import validate_batch
from jaxedge.sweeps import journal
from jaxedge.sweeps.checks import check_sweep
from jaxedge.sweeps.generation import scenarios
from jaxedge.sweeps.layout import layout_of
from jaxedge.sweeps.sweep import Sweep
from jaxedge.words.progress import ProgressLine

RAYLEIGH = 1000
"""Channels for each energy budget and deadline."""
CHUNK = 4096
"""Scenarios of a chunk of a sweep that is killed."""


def sweep_of(count: int) -> Sweep:
    """About ``count`` scenarios with K = 10, relaxed."""
    side = max(round((count / RAYLEIGH) ** 0.5), 1)
    return check_sweep(
        Sweep(
            scenario=presets.get("default"),
            axes=[
                sweeps.logspace("energy_budget", 100.0, 10_000.0, side),
                sweeps.logspace("delay_budget", 30.0, 3000.0, side),
                sweeps.channels(min(RAYLEIGH, count), "rayleigh"),
            ],
            relaxed=True,
        )
    )


def blocks(sweep: Sweep, most: int) -> list[Scenario]:
    """The scenarios of up to so many blocks, evenly spread, as rows differ in what they take."""
    starts = np.arange(0, sweep.cells, sweep.block)
    chosen = starts[np.unique(np.linspace(0, len(starts) - 1, most).astype(int))]
    return [scenarios(sweep, np.arange(i, min(i + sweep.block, sweep.cells))) for i in chosen]


def bare(given: list[Scenario]) -> tuple[float, float]:
    """CPU and wall seconds of solving blocks, a scenario."""
    cpu, wall = time.process_time(), time.perf_counter()
    for batch in given:
        entry.plan_batch(batch, relaxed=True)
    count = sum(len(batch.energy_budget) for batch in given)
    return (time.process_time() - cpu) / count, (time.perf_counter() - wall) / count


def streamed(sweep: Sweep, folder: Path) -> tuple[float, float, float]:
    """CPU and wall seconds of the sweep into a store, and the share that is certified."""
    cpu, wall = time.process_time(), time.perf_counter()
    with ProgressLine(count=sweep.cells) as progress:
        dataset = sweeps.run(sweep, folder / "sweep.zarr", progress=progress)
    spent = time.process_time() - cpu, time.perf_counter() - wall
    return (*spent, float((dataset.status == 0).mean()))


def prepared(given: list[Scenario], folder: Path) -> float:
    """CPU seconds of a first sweep and first solving: imports, compilation, a few blocks."""
    cpu = time.process_time()
    sweeps.run(sweep_of(4096), folder / "few.zarr")
    bare(given[:2])
    with jax.enable_x64(True):
        # One element in ten thousand needs the last attempt; it takes longest to compile.
        few = take(in_chunks(programs_of_each(TwoStage()), validate_batch(given[-1])), np.arange(8))
        solve_relaxed(few, gap=-1.0)
    return time.process_time() - cpu


def started(store: Path, count: int) -> subprocess.Popen[bytes]:
    """A process that runs or resumes a sweep."""
    return subprocess.Popen([sys.executable, __file__, "--child", str(store), str(count)])


def child(store: str, count: int) -> None:
    """What that process does."""
    compilation_cache.enable()
    sweeps.run(sweep_of(count), store, resume=Path(store).exists(), chunk=CHUNK)


def completed(store: Path, count: int) -> tuple[float, dict[str, bytes]]:
    """Seconds that it takes to run or resume a sweep to its end, and every file of its store."""
    start = time.perf_counter()
    process = started(store, count)
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, process.args)
    files = (path for path in store.rglob("*") if path.is_file())
    return time.perf_counter() - start, {str(p.relative_to(store)): p.read_bytes() for p in files}


def phase(store: Path, chunks: int) -> str:
    """How far the sweep is whose store this is."""
    if not store.is_dir():
        return "before there is a store"
    done = len(journal.finished_chunks(store))
    if done == chunks:
        return "when all chunks are finished"
    return "between finished chunks" if done else "before the first finished chunk"


def killed(kills: int, count: int, folder: Path) -> dict[str, object]:
    """Kill a sweep so many times and compare what it leads to with an uninterrupted one.

    Each time the process is killed after a random share of what an uninterrupted run takes, and the
    next one resumes. Only kills that end a running process count. A store that is finished is
    compared file by file, and another one is begun.
    """
    completed(folder / "first.zarr", count)  # compiles into the cache
    seconds, whole = completed(folder / "whole.zarr", count)
    chunks = layout_of(sweep_of(count), CHUNK).chunks
    rng, phases, equal = np.random.default_rng(0), Counter[str](), []
    while phases.total() < kills:
        store = folder / f"killed-{len(equal)}.zarr"
        while phases.total() < kills:
            process = started(store, count)
            try:
                process.wait(timeout=rng.uniform(0.0, seconds))
                break
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
            if process.wait() != -signal.SIGKILL:
                break
            phases[phase(store, chunks)] += 1
        equal.append(completed(store, count)[1] == whole)
    return {
        "kills": phases.total(),
        "kills_by_phase": dict(phases),
        "stores_of_killed_sweeps": len(equal),
        "equal": all(equal),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smallest", action="store_true", help="4096 scenarios")
    parser.add_argument("--count", type=int, default=1_000_000, help="scenarios")
    parser.add_argument("--kills", type=int, default=0, help="interrupt a sweep so many times")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    records.add_option(parser)
    options = parser.parse_args()
    if options.child:
        child(options.child[0], int(options.child[1]))
        return
    sweep = sweep_of(4096 if options.smallest else options.count)
    given = blocks(sweep, 20)
    with tempfile.TemporaryDirectory() as folder:
        first_cpu = prepared(given, Path(folder))
        cpu, wall, certified = streamed(sweep, Path(folder))
        chunks = len(journal.finished_chunks(Path(folder) / "sweep.zarr"))
        files = (Path(folder) / "sweep.zarr").rglob("*")
        size = sum(p.stat().st_size for p in files if p.is_file())
        bare_cpu, bare_wall = (x * sweep.cells for x in bare(given))
        results = {
            "scenarios": sweep.cells,
            "first_cpu_seconds": first_cpu,
            "chunks": chunks,
            "seconds": wall,
            "scenarios_a_second": sweep.cells / wall,
            "certified": certified,
            "overhead_cpu": cpu / bare_cpu - 1,
            "overhead_wall": wall / bare_wall - 1,
            "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            "bytes_a_scenario": size / sweep.cells,
        }
        if options.kills:
            count = min(options.count, 50_000)
            results |= killed(options.kills, count, Path(folder))
    print(f"{sweep.cells} scenarios, K = 10, relaxed, {cores()} cores")
    for name, value in results.items():
        print(f"  {name}: {value:.4g}" if isinstance(value, float) else f"  {name}: {value}")
    if options.record:
        print(f"recorded in {records.write('sweep', results)}")


if __name__ == "__main__":
    main()
