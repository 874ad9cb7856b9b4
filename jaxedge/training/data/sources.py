"""Data sets by name: ``digits``, or ``KIND:PATH`` for the files that people have on disk."""

from __future__ import annotations

from collections.abc import Callable

from jaxedge.training.data.data_files import (
    digits,
    read_cifar,
    read_femnist,
    read_idx,
    read_leaf,
    read_npz,
)
from jaxedge.training.data.datasets import Dataset
from jaxedge.words.choices import choice

_READERS: dict[str, tuple[str, Callable[[list[str]], Dataset]]] = {
    "digits": ("", lambda paths: digits()),
    "idx": ("IMAGES,LABELS", lambda paths: read_idx(*paths)),
    "cifar10": ("FILE,...", lambda paths: read_cifar(paths)),
    "cifar100": ("FILE,...", lambda paths: read_cifar(paths, num_classes=100)),
    "leaf": ("FILE-OR-FOLDER", lambda paths: read_leaf(*paths)),
    "femnist": ("FILE", lambda paths: read_femnist(*paths)),
    "npz": ("FILE", lambda paths: read_npz(*paths)),
}

SOURCES = tuple(f"{kind}:{paths}" if paths else kind for kind, (paths, _) in _READERS.items())
"""What `load_data` takes, as help shows it."""


def load_data(source: str) -> Dataset:
    """The data set that a source names.

    Args:
        source: one of `SOURCES`; several paths are separated by commas.

    Raises:
        ValueError: if the kind is unknown, the number of paths is wrong, or a file is missing,
            truncated or holds something else.
    """
    kind, _, rest = source.partition(":")
    wanted, read = _READERS[choice("kind of data", kind, _READERS)]
    paths = [path for path in rest.split(",") if path]
    count = len(wanted.split(",")) if wanted else 0
    if len(paths) < 1 if wanted.endswith("...") else len(paths) != count:
        form = f"{kind}:{wanted}" if wanted else kind
        raise ValueError(f"data: {source!r:.80} names {len(paths)} files: must be {form}")
    return read(paths)
