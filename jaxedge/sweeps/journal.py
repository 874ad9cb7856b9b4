"""Which chunks of a store are finished, in files that appear whole or not at all."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import numpy as np

from jaxedge.machine.output_files import to_disk, write_whole
from jaxedge.sweeps.statistics import Summary, from_arrays, merge_summaries, to_arrays

FOLDER = ".jaxedge"
"""Beside the arrays of a store."""


def create(root: Path) -> None:
    """Make the empty journal of a new store."""
    (root / FOLDER / "done").mkdir(parents=True)
    (root / FOLDER / "parts").mkdir()


def finished_chunks(root: Path) -> set[int]:
    """The chunks that are on disk."""
    return {int(name) for name in os.listdir(root / FOLDER / "done") if name.isdigit()}


def finish(root: Path, chunk: int) -> None:
    """Say that a chunk is on disk; its partial summaries are not needed any more."""
    done = root / FOLDER / "done"
    (done / str(chunk)).touch()
    to_disk(done)
    shutil.rmtree(_parts(root, chunk), ignore_errors=True)


def _parts(root: Path, chunk: int) -> Path:
    return root / FOLDER / "parts" / str(chunk)


def _name(level: int, index: int) -> str:
    return f"{level}-{index}.npz"


def summaries(root: Path, chunk: int) -> set[tuple[int, int]]:
    """(level, index) of the summaries that a chunk has: each covers 2^level parts."""
    folder = _parts(root, chunk)
    names = os.listdir(folder) if folder.is_dir() else []
    pairs = [name.removesuffix(".npz").split("-") for name in names if name[0].isdigit()]
    return {(int(level), int(index)) for level, index in pairs}


def parts_left(root: Path, chunk: int, parts: int) -> list[int]:
    """The parts of a chunk that no summary covers."""
    covered = {
        part
        for level, index in summaries(root, chunk)
        for part in range(index << level, (index + 1) << level)
    }
    return [part for part in range(parts) if part not in covered]


def save(root: Path, chunk: int, level: int, index: int, summaries: dict[str, Summary]) -> None:
    """Keep summaries of 2^level parts of a chunk."""
    folder = _parts(root, chunk)
    folder.mkdir(exist_ok=True)
    content = io.BytesIO()
    np.savez(content, **to_arrays(summaries))  # type: ignore[arg-type]
    write_whole(folder / _name(level, index), content.getvalue())
    to_disk(folder / _name(level, index))
    to_disk(folder)


def load(root: Path, chunk: int, level: int, index: int) -> dict[str, Summary]:
    """Read summaries back."""
    with np.load(_parts(root, chunk) / _name(level, index)) as arrays:
        return from_arrays(dict(arrays))


def merge(root: Path, chunk: int, parts: int) -> dict[str, Summary] | None:
    """Merge the summaries of a chunk up the tree as far as they go; the whole where it is there."""
    top = max(parts - 1, 0).bit_length()
    for level in range(top):
        for index in sorted(i for at, i in summaries(root, chunk) if at == level):
            _merge_pair(root, chunk, level, index & ~1, parts)
    return load(root, chunk, top, 0) if (top, 0) in summaries(root, chunk) else None


def _merge_pair(root: Path, chunk: int, level: int, left: int, parts: int) -> None:
    there = summaries(root, chunk)
    alone = (left + 1) << level >= parts  # nothing stands on the right
    if (level, left) not in there or not (alone or (level, left + 1) in there):
        return
    whole = load(root, chunk, level, left)
    if not alone:
        right = load(root, chunk, level, left + 1)
        whole = {name: merge_summaries(item, right[name]) for name, item in whole.items()}
    save(root, chunk, level + 1, left >> 1, whole)
    for index in (left, left + 1):
        (_parts(root, chunk) / _name(level, index)).unlink(missing_ok=True)
