"""A sweep's Zarr store: arrays that `xarray.open_zarr` opens anywhere, written chunk by chunk.

A chunk is on disk before it is called finished, so that an interruption at any moment loses only
what was not finished. A file holds a whole chunk, so that there is nothing for shards to bundle.
"""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxedge.machine.output_files import to_disk, written
from jaxedge.machine.provenance import environment
from jaxedge.machine.resumable import Resumable
from jaxedge.sweeps import journal
from jaxedge.sweeps.layout import Layout, layout_of
from jaxedge.sweeps.sweep import Sweep
from jaxedge.sweeps.variables import Coordinate, Variable, coordinates, variables

if TYPE_CHECKING:
    import xarray

SCHEMA = 1
"""Version of how a store is laid out."""


class StoreError(OSError):
    """A store that cannot be written, in words."""


@contextlib.contextmanager
def needing_extra() -> Iterator[None]:
    """Name the extra where one of its packages is absent."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ValueError(
            f"sweeps need {error.name}, which is not installed: pip install 'jaxedge[sweep]'"
        ) from None


def zarr() -> Any:
    """The package, imported late.

    Raises:
        ValueError: naming the extra.
    """
    with needing_extra():
        import zarr as package
    return package


def create(path: str | os.PathLike[str], sweep: Sweep, chunk: int) -> Path:
    """Make an empty store; it appears whole.

    Raises:
        OutputFileError: if something is there, or the folder cannot be written.
    """

    def fill(folder: Path) -> None:
        _lay_out(folder, sweep, chunk)
        journal.create(folder)

    return STORE.create(path, fill)


def _lay_out(path: Path, sweep: Sweep, chunk: int) -> None:
    layout = layout_of(sweep, chunk)
    along = coordinates(sweep)
    beside = [item.name for item in along if item.name != item.dimension]
    now = environment()
    told = {
        "title": "jaxedge sweep",
        "jaxedge": now["jaxedge"],
        "schema": SCHEMA,
        "spec": sweep.text(),
        "spec_sha256": sweep.digest(),
        "versions": json.dumps({k: v for k, v in now.items() if k not in ("device", "jaxedge")}),
        "device": now["device"],
        "environments": json.dumps([now]),
        "chunk": chunk,
        **({"coordinates": " ".join(beside)} if beside else {}),
    }
    group = zarr().create_group(path, zarr_format=3, attributes=told)
    codec = zarr().codecs.BloscCodec(cname="lz4", clevel=5, shuffle="shuffle")
    for item in along:
        _add_coordinate(group, item)
    names = [axis.name for axis in sweep.kept]
    for one in variables(sweep):
        _add_variable(group, one, names, layout, codec)
    _consolidate(path)


def _consolidate(path: Path) -> None:
    """Gather the metadata in one file, so that opening reads one."""
    with warnings.catch_warnings():  # Zarr's third format does not prescribe it yet
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr().consolidate_metadata(path, zarr_format=3)


def _add_coordinate(group: Any, item: Coordinate) -> None:
    array = group.create_array(
        item.name,
        shape=item.values.shape,
        dtype=str if item.values.dtype.kind == "U" else item.values.dtype,
        attributes=item.attributes,
        dimension_names=[item.dimension],
    )
    array[:] = item.values


def _add_variable(group: Any, item: Variable, names: list[str], layout: Layout, codec: Any) -> None:
    own = [length for _, length in item.own]
    group.create_array(
        item.name,
        shape=(*layout.shape, *own),
        chunks=(*layout.chunk, *own),
        dtype=item.dtype,
        # A status that is not computed yet is none of the codes.
        fill_value=-1 if item.dtype == "i1" else np.nan,
        compressors=codec,
        attributes=item.attributes,
        dimension_names=[*names, *(name for name, _ in item.own)],
        chunk_key_encoding={"name": "default", "separator": "."},
    )


def attributes(path: Path) -> dict[str, Any]:
    """The attributes of the store's root; none where it is no store."""
    try:
        found = json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _specification(path: Path) -> dict[str, Any]:
    told = attributes(path)
    os.listdir(path / journal.FOLDER / "done")  # a copy may lack it, and cannot be gone on with
    return {**json.loads(told["spec"]), "schema": told["schema"]}


STORE = Resumable(work="sweep", kind="store", read=_specification)
"""What is asked of the folder of a sweep."""


def reopen(path: Path, sweep: Sweep) -> int:
    """Make sure that the store at ``path`` is of this sweep, and return its chunk size.

    Raises:
        OutputFileError: if it is not a store of ours, or of another sweep, with the difference, or
            cannot be written.
    """
    STORE.reopen(path, {"schema": SCHEMA, **sweep.tree()})
    told, now = attributes(path), environment()
    known = json.loads(told["environments"])
    with written(path):
        for left in path.rglob("*.partial"):  # Zarr's, of a run that was killed
            left.unlink(missing_ok=True)
        if now not in known:
            group = zarr().open_group(path, mode="r+", zarr_format=3)
            group.attrs["environments"] = json.dumps([*known, now])
            _consolidate(path)
    return int(told["chunk"])


def write(path: Path, layout: Layout, chunk: int, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a chunk of every array and wait until it is on disk; then it is finished.

    Raises:
        StoreError: if it cannot be written.
    """
    group = zarr().open_group(path, mode="r+", zarr_format=3)
    place = layout.place(chunk)
    at = np.unravel_index(chunk, layout.grid) if layout.grid else ()
    shape = tuple(part.stop - part.start for part in place)
    files = []
    for name, values in arrays.items():
        own = values.shape[1:]
        group[name][(*place, *(slice(None) for _ in own))] = values.reshape((*shape, *own))
        key = ".".join(["c", *(str(int(i)) for i in at), *("0" for _ in own)])
        files.append(path / name / key)
    for file in files:
        to_disk(file)
    for name in arrays:
        to_disk(path / name)
    journal.finish(path, chunk)


def open_sweep(path: str | os.PathLike[str]) -> xarray.Dataset:
    """The dataset of a store, read when it is used; nan and -1 stand for chunks not finished.

    Raises:
        ValueError: if there is no store of a sweep, or xarray or Zarr is absent.
    """
    # A copy may lack the hidden journal, which only writing needs.
    if "spec_sha256" not in attributes(Path(path)):
        raise ValueError(
            f"{os.fspath(path)}: is not the store of a sweep: give the folder that one wrote"
        )
    zarr()
    with needing_extra():
        import xarray
    return xarray.open_zarr(path, chunks=None)
