"""Reading the store of a sweep as a dataset."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xarray import Dataset


def open_stored(path: str | os.PathLike[str]) -> Dataset:
    """The dataset of a Zarr store that a sweep wrote, read when it is used.

    Raises:
        ValueError: if there is no store of a sweep, or xarray and Zarr are absent.
    """
    if not _is_sweep(Path(path)):
        raise ValueError(
            f"{os.fspath(path)}: is not the store of a sweep: give the folder that one wrote"
        )
    try:
        import xarray
        import zarr  # noqa: F401

        dataset: Dataset = xarray.open_zarr(path, chunks=None)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{os.fspath(path)}: needs {error.name} to be read: pip install 'jaxedge[sweep]'"
        ) from None
    return dataset


def _is_sweep(path: Path) -> bool:
    """Whether the root of a Zarr store is there that holds a sweep's specification."""
    try:
        return "spec" in json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
