"""A sweep's Zarr store: arrays that `xarray.open_zarr` opens anywhere, written chunk by chunk.

A chunk is on disk before it is called finished, so that an interruption at any moment loses only
what was not finished. A file holds a whole chunk, so that there is nothing for shards to bundle.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxedge.machine.output_files import OutputFileError
from jaxedge.machine.provenance import differences, environment
from jaxedge.sweeps import ledger
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


def create(path: Path, sweep: Sweep, chunk: int) -> None:
    """Make an empty store; it appears whole.

    Raises:
        OutputFileError: if the folder cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        beside.mkdir()
        _lay_out(beside, sweep, chunk)
        ledger.create(beside)
        os.rename(beside, path)
        ledger.to_disk(path.parent)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise OutputFileError(f"{path}: cannot be written: {error.strerror or error}") from error


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


def check_free(path: Path) -> None:
    """Make sure that a new store can be made at ``path``.

    Raises:
        ValueError: if something else is there, or the sweep of another run.
    """
    if is_ours(path):
        raise ValueError(f"{path}: holds a sweep already: --resume goes on with it")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path}: is there and is not the store of a sweep: give another folder")
    if not path.parent.is_dir():
        raise OutputFileError(f"{path}: the folder {path.parent} does not exist: create it first")


def is_ours(path: Path) -> bool:
    """Whether a store of jaxedge is there."""
    return (path / ledger.FOLDER / "done").is_dir() and "spec_sha256" in attributes(path)


def attributes(path: Path) -> dict[str, Any]:
    """The attributes of the store's root; none where it is no store."""
    try:
        found = json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def check_same(path: Path, sweep: Sweep) -> int:
    """Make sure that the store at ``path`` is of this sweep, and return its chunk size.

    Raises:
        ValueError: if it is not a store of ours, or of another sweep, with the difference.
        OutputFileError: if it cannot be written.
    """
    if not is_ours(path):
        raise ValueError(f"{path}: is not the store of a sweep: give the folder of one to resume")
    told = attributes(path)
    if told.get("schema") != SCHEMA:
        raise ValueError(f"{path}: has schema {told.get('schema')}, this version writes {SCHEMA}")
    if told["spec_sha256"] != sweep.digest():
        changed = differences(json.loads(told["spec"]), json.loads(sweep.text()), where="store")
        raise ValueError(f"{path}: holds another sweep ({changed}): give another folder")
    _record_environment(path, told)
    return int(told["chunk"])


def _record_environment(path: Path, told: dict[str, Any]) -> None:
    """List every combination of versions and device that has written to the store."""
    now, known = environment(), json.loads(told["environments"])
    try:
        if now not in known:
            group = zarr().open_group(path, mode="r+", zarr_format=3)
            group.attrs["environments"] = json.dumps([*known, now])
            _consolidate(path)
        for left in path.rglob("*.partial"):  # of a run that was killed
            left.unlink(missing_ok=True)
        trial = path / ledger.FOLDER / "trial"
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise OutputFileError(f"{path}: cannot be written: {error.strerror or error}") from error


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
        group[name][(*place, *(slice(None) for _ in own))] = values.reshape(*shape, *own)
        key = ".".join(["c", *(str(int(i)) for i in at), *("0" for _ in own)])
        files.append(path / name / key)
    for file in files:
        ledger.to_disk(file)
    for name in arrays:
        ledger.to_disk(path / name)
    ledger.finish(path, chunk)


def open_sweep(path: str | os.PathLike[str]) -> xarray.Dataset:
    """The dataset of a store, read when it is used; nan and -1 stand for chunks not finished.

    Raises:
        ValueError: if there is no store of a sweep, or xarray or Zarr is absent.
    """
    # A copy may lack the hidden ledger, which only writing needs.
    if "spec_sha256" not in attributes(Path(path)):
        raise ValueError(
            f"{os.fspath(path)}: is not the store of a sweep: give the folder that one wrote"
        )
    zarr()
    with needing_extra():
        import xarray
    return xarray.open_zarr(path, chunks=None)
