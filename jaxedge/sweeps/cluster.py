"""The tasks of a sweep on the workers of a Dask cluster, each with a process of its own.

Workers share the store's folder and write their own chunks; what is finished is what the store
says, so that a task that is done twice does no harm.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from jaxedge.sweeps.tasks import Task, do_task

RETRIES = 3
"""Further attempts of a task that failed, beside those that a lost worker costs."""
_AHEAD = 4
"""Tasks handed out for each worker."""


def run_on_workers(client: Any, path: str, digest: str, tasks: Iterator[Task]) -> Iterator[Task]:
    """Do tasks on a cluster; each is yielded when it is done.

    Args:
        client: a `distributed.Client`, or the address of a scheduler.
        path: of the store, the same on all workers.
        digest: of the sweep.
        tasks: what to do.

    Raises:
        ValueError: naming the extra, where Dask is absent.
        OSError: if no scheduler answers, or a task fails on every attempt.
    """
    distributed = _distributed()
    own = isinstance(client, str)
    if own:
        client = distributed.Client(client, timeout=10)
    try:
        yield from _done(distributed, client, path, digest, tasks)
    finally:
        if own:
            client.close()


def _done(
    distributed: Any, client: Any, path: str, digest: str, tasks: Iterator[Task]
) -> Iterator[Task]:
    def submitted(task: Task) -> Any:
        # Not pure: a task of an earlier run of this client is done again, not remembered.
        return client.submit(do_task, path, digest, task, pure=False, retries=RETRIES)

    ahead = max(_AHEAD * len(client.scheduler_info(n_workers=-1)["workers"]), _AHEAD)
    running = distributed.as_completed([submitted(task) for task in itertools.islice(tasks, ahead)])
    for future in running:
        yield future.result()
        for task in itertools.islice(tasks, 1):
            running.add(submitted(task))


def _distributed() -> Any:
    try:
        import distributed

        return distributed
    except ModuleNotFoundError:
        raise ValueError(
            "a cluster needs Dask, which is not installed: pip install 'jaxedge[cluster]'"
        ) from None
