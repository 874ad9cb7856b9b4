"""The unit of work of a sweep: scenarios are generated, solved, written and dropped."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from jaxedge.sweeps import journal, store
from jaxedge.sweeps.generation import scenarios
from jaxedge.sweeps.layout import Layout, layout_of
from jaxedge.sweeps.outputs import INFEASIBLE, OUTPUTS, compute_outputs
from jaxedge.sweeps.statistics import EXACT, Summary, classify, mean_and_std, quantiles, summarise
from jaxedge.sweeps.sweep import Sweep
from jaxedge.sweeps.variables import outputs_of, own_dimensions

Task = tuple[int, int]
"""A chunk, and a part of its draws."""


class Worker:
    """Does tasks of one store; it keeps the last block, which the next task may need too."""

    def __init__(self, path: Path, sweep: Sweep, layout: Layout) -> None:
        self.path, self.sweep, self.layout = path, sweep, layout
        self._block: tuple[tuple[int, int], dict[str, np.ndarray]] | None = None
        self._options = {
            "bound": sweep.bound,
            "solver": sweep.solver,
            "relaxed": sweep.relaxed,
            "gap": sweep.gap,
        }
        self._outputs = outputs_of(sweep)
        if sweep.reduced:
            self._outputs += (OUTPUTS["status"],)

    def do(self, task: Task) -> None:
        """Compute a task and write it.

        Raises:
            StoreError: if it cannot be written; finished chunks stay.
        """
        chunk, part = task
        pieces = [self._rows(*span) for span in self.layout.ranges(chunk, part)]
        rows = {name: np.concatenate([p[name] for p in pieces]) for name in pieces[0]}
        try:
            if not self.sweep.reduced:
                store.write(self.path, self.layout, chunk, rows)
                return
            summaries = self._summaries(rows, len(self.layout.cells(chunk)))
            if self.layout.parts == 1:
                self.write_summaries(chunk, summaries)
            else:
                journal.save(self.path, chunk, 0, part, summaries)
        except (OSError, ValueError) as error:
            raise _explained(self.path, error) from error

    def write_summaries(self, chunk: int, summaries: dict[str, Summary]) -> None:
        """Write the statistics of a chunk all of whose draws are there."""
        arrays = statistics_of(self.sweep, summaries)
        store.write(self.path, self.layout, chunk, arrays)

    def _rows(self, first: int, last: int) -> dict[str, np.ndarray]:
        """Outputs of the rows from ``first`` to ``last``, cut from whole blocks."""
        pieces = []
        for start, stop in self.layout.blocks(first, last):
            block = self._solved(start, stop)
            cut = slice(max(first, start) - start, min(last, stop) - start)
            pieces.append({name: values[cut] for name, values in block.items()})
        return {name: np.concatenate([p[name] for p in pieces]) for name in pieces[0]}

    def _solved(self, start: int, stop: int) -> dict[str, np.ndarray]:
        held = self._block  # threads of a process share the worker, so that it is read once
        if held is None or held[0] != (start, stop):
            given = scenarios(self.sweep, np.arange(start, stop))
            found = compute_outputs(given, self._outputs, self._options)
            if self.sweep.reduced:
                found = _with_classes(self.sweep, found)
            held = self._block = (start, stop), found
        return held[1]

    def _summaries(self, rows: dict[str, np.ndarray], cells: int) -> dict[str, Summary]:
        """Summary of every output over the draws of a task, by element and own dimension."""

        def by_draw(values: np.ndarray) -> np.ndarray:
            draws = values.reshape(cells, -1, *values.shape[1:])
            return np.moveaxis(draws, 1, 0).reshape(draws.shape[1], -1)

        return {
            name: summarise(by_draw(values), by_draw(rows[f"classes of {name}"]))
            for name, values in rows.items()
            if f"classes of {name}" in rows
        }


def _with_classes(sweep: Sweep, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs to be summarised with their classes, infeasibility, and whether there is a design."""
    status = found["status"]
    values = {item.name: found[item.name] for item in outputs_of(sweep)}
    values["infeasible"] = (status == INFEASIBLE).astype(np.float64)
    values["designed"] = np.where(status < INFEASIBLE, 1.0, np.nan)
    few = sweep.draws <= EXACT
    classes = {f"classes of {name}": x if few else classify(x) for name, x in values.items()}
    if "quantile" not in sweep.statistics:
        classes = {name: np.full_like(x, np.nan) for name, x in classes.items()}
    return {**values, **classes}


def statistics_of(sweep: Sweep, summaries: dict[str, Summary]) -> dict[str, np.ndarray]:
    """The arrays of a reduced sweep's variables for the elements of a chunk."""
    arrays = {
        "outage": mean_and_std(summaries["infeasible"])[0],
        "count": summaries["designed"].moments.count,
    }
    for item in outputs_of(sweep):
        shape = (-1, *(length for _, length in own_dimensions(sweep, item)))
        summary = summaries[item.name]
        mean, std = mean_and_std(summary)
        found = {"mean": mean.reshape(shape), "std": std.reshape(shape)}
        if "quantile" in sweep.statistics:
            shares = np.asarray(sweep.quantiles)
            found["quantile"] = quantiles(summary, shares).reshape(*shape, len(shares))
        arrays |= {f"{item.name}_{kind}": found[kind] for kind in sweep.statistics}
    return arrays


def _explained(path: Path, error: Exception) -> Exception:
    """A failure to write in words; anything else unchanged."""
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    if not isinstance(cause, OSError):
        return error
    done = len(journal.finished_chunks(path)) if path.is_dir() else 0
    return store.StoreError(
        f"{path}: cannot be written: {cause.strerror or cause}; {done} finished chunks are kept: "
        "make room or get write permission, and go on with --resume"
    )


@lru_cache(maxsize=2)
def worker_at(path: str, digest: str) -> Worker:
    """The worker of a store in this process; the store says what the sweep is."""
    from jaxedge.sweeps.spec_files import loads_json

    told: dict[str, Any] = store.attributes(Path(path))
    if told.get("spec_sha256") != digest:
        raise ValueError(f"{path}: is not, or not any more, the store of this sweep")
    sweep = loads_json(told["spec"])
    return Worker(Path(path), sweep, layout_of(sweep, int(told["chunk"])))


def do_task(path: str, digest: str, task: Task) -> Task:
    """Do a task in whatever process this is; workers of a cluster import it."""
    worker_at(os.fspath(path), digest).do(task)
    return task
