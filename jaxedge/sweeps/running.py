"""Run a sweep: here, or on the workers of a cluster."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxedge.machine.resumable import held
from jaxedge.sweeps import journal, store
from jaxedge.sweeps.checks import check_sweep
from jaxedge.sweeps.layout import Layout, layout_of
from jaxedge.sweeps.sweep import Sweep
from jaxedge.sweeps.tasks import Task, Worker
from jaxedge.words.choices import check_whole

if TYPE_CHECKING:
    import xarray

    from jaxedge.words.progress import Progress

CHUNK = 16_384
"""Scenarios of a task by default: a second or more of solving for each write."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be done for one store."""

    path: Path
    sweep: Sweep
    layout: Layout

    def tasks(self) -> Iterator[Task]:
        """The tasks that are not done, in order."""
        done = journal.finished_chunks(self.path)
        for chunk in range(self.layout.chunks):
            if chunk not in done:
                for part in self._left(chunk):
                    yield chunk, part

    def _left(self, chunk: int) -> list[int]:
        parts = self.layout.parts
        return [0] if parts == 1 else journal.parts_left(self.path, chunk, parts)


def run(
    sweep: Sweep,
    store_path: str | os.PathLike[str] | None = None,
    *,
    resume: bool = False,
    chunk: int = CHUNK,
    client: Any = None,
    progress: Progress | None = None,
) -> xarray.Dataset:
    """Plan every scenario of a sweep and return its labelled dataset.

    Args:
        sweep: checked here.
        store_path: folder of a Zarr store to stream to; None keeps the answer in memory.
        resume: go on with the store where a run of the same sweep ended.
        chunk: scenarios of a task; it changes no answer.
        client: Dask client, or the address of its scheduler; None runs here.
        progress: called with (text, fraction).

    Returns:
        The dataset, read from the store when it is used.

    Raises:
        ValueError: if the sweep is not valid, or the store is not of this sweep.
        StoreError: if the store cannot be written; finished chunks stay.
    """
    valid = check_sweep(sweep)
    if store_path is None:
        with tempfile.TemporaryDirectory(prefix="jaxedge-sweep-") as folder:
            path = Path(folder) / "sweep.zarr"
            dataset = run(valid, path, chunk=chunk, client=client, progress=progress)
            return dataset.load().drop_encoding()
    do(prepare_job(valid, store_path, resume=resume, chunk=chunk), client, progress)
    return store.open_sweep(store_path)


def prepare_job(
    sweep: Sweep, store_path: str | os.PathLike[str], *, resume: bool, chunk: int = CHUNK
) -> Job:
    """A store that is ready for a checked sweep: a new one, or with ``resume`` the old one.

    Raises:
        ValueError: if something else is there, or the sweep is another.
    """
    store.zarr()
    path = Path(store_path).absolute()
    check_whole("chunk", chunk)
    if resume and path.exists():
        chunk = store.reopen(path, sweep)
    else:
        store.create(path, sweep, int(chunk))
    return Job(path=path, sweep=sweep, layout=layout_of(sweep, int(chunk)))


def do(job: Job, client: Any = None, progress: Progress | None = None) -> None:
    """Do what is left of a job, here or on a cluster.

    Raises:
        OutputFileError: if another process is at it.
        StoreError: if the store cannot be written; finished chunks stay.
    """
    done = job.layout.chunks * job.layout.parts - sum(1 for _ in job.tasks())
    total = job.layout.chunks * job.layout.parts
    worker = Worker(job.path, job.sweep, job.layout)
    with held(job.path):
        for chunk, _ in _unfinished_merges(job):
            _merge(worker, chunk)
        for task in _here(worker, job) if client is None else _there(job, client):
            done += 1
            if job.layout.parts > 1:
                _merge(worker, task[0])
            if progress is not None:
                progress("sweeping", done / total)


def _unfinished_merges(job: Job) -> Iterator[Task]:
    """Chunks whose parts are all there and whose statistics are not written."""
    if job.layout.parts > 1:
        for chunk in set(range(job.layout.chunks)) - journal.finished_chunks(job.path):
            yield chunk, 0


def _merge(worker: Worker, chunk: int) -> None:
    whole = journal.merge(worker.path, chunk, worker.layout.parts)
    if whole is not None:
        worker.write_summaries(chunk, whole)


def _here(worker: Worker, job: Job) -> Iterator[Task]:
    for task in job.tasks():
        worker.do(task)
        yield task


def _there(job: Job, client: Any) -> Iterator[Task]:
    from jaxedge.sweeps.cluster import run_on_workers

    digest = store.attributes(job.path)["spec_sha256"]
    return run_on_workers(client, str(job.path), digest, job.tasks())
