"""Checkpoints of weights, by Orbax: each appears whole or not at all, the newest two are kept."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

_KEPT = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Where a run is."""

    rounds: int
    """Rounds done, both stages together."""
    weights: Any


def named_leaves(weights: Any) -> dict[str, np.ndarray]:
    """The arrays of a pytree by their paths, such as "layers.0.kernel"."""
    flat, _ = jax.tree_util.tree_flatten_with_path(weights)
    return {
        jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value"): np.asarray(
            leaf
        )
        for path, leaf in flat
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Orbax's log lines below an error."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, and remove all but the newest."""
    import orbax.checkpoint as ocp

    with _quiet(), ocp.Checkpointer(ocp.StandardCheckpointHandler()) as writer:
        place = folder.absolute() / f"{checkpoint.rounds:08d}"
        writer.save(place, named_leaves(checkpoint.weights), force=True)
    for old in _finished(folder)[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed run has left half written."""
    for path in folder.iterdir():
        if not path.name.isdigit():
            shutil.rmtree(path, ignore_errors=True)


def _finished(folder: Path) -> list[Path]:
    """Finished checkpoints, the newest last; unfinished ones have other names."""
    there = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in there if path.name.isdigit())


def latest(folder: Path, like: Any) -> Checkpoint | None:
    """The newest checkpoint, its weights in the structure of ``like``; None where there is none.

    Raises:
        ValueError: if it cannot be read, or holds weights of another model.
    """
    found = _finished(folder)
    if not found:
        return None
    import orbax.checkpoint as ocp

    newest = found[-1]
    wanted = named_leaves(like)
    try:
        with _quiet(), ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
            held = reader.restore(newest.absolute(), args=ocp.args.StandardRestore(wanted))
    except Exception as error:  # Orbax raises many kinds
        raise ValueError(
            f"{newest}: cannot be read, or is of another model: {error!s:.200}; remove it to go on "
            "from the one before"
        ) from error
    leaves = [jax.numpy.asarray(held[name]) for name in wanted]
    weights = jax.tree.unflatten(jax.tree.structure(like), leaves)
    return Checkpoint(rounds=int(newest.name), weights=weights)
