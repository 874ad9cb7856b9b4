"""Readers of the data sets that people have on disk; nothing is unpickled or downloaded."""

from __future__ import annotations

import gzip
import io
import json
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxedge.machine.output_files import write_whole
from jaxedge.training.data.datasets import Dataset, dataset

PathLike = str | os.PathLike[str]

_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CIFAR_PIXELS = 3 * 32 * 32
_NPZ_FORMAT = "jaxedge-dataset-1"


def digits() -> Dataset:
    """scikit-learn's 1,797 handwritten digits of 8 x 8 pixels (UCI's optical recognition set)."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = found.images[..., None] / 16.0
    return dataset(images, found.target, name="digits", num_classes=10)


def read_idx(images: PathLike, labels: PathLike, *, num_classes: int | None = None) -> Dataset:
    """MNIST's format, plain or gzipped: images (n, height, width) in bytes, and their labels.

    Raises:
        ValueError: if a file is missing, truncated, or holds something else.
    """
    pixels, targets = _idx_array(images), _idx_array(labels)
    if pixels.ndim != 3 or pixels.dtype != np.uint8:
        raise ValueError(
            f"{images}: holds an array of shape {pixels.shape} and type {pixels.dtype}: images "
            "must be bytes of shape (n, height, width); are images and labels exchanged?"
        )
    if targets.ndim != 1:
        raise ValueError(f"{labels}: holds an array of shape {targets.shape}: labels must be (n,)")
    name = Path(images).name
    return dataset(pixels[..., None] / np.float32(255), targets, name=name, num_classes=num_classes)


def _idx_array(path: PathLike) -> np.ndarray:
    content = _bytes_of(path)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise ValueError(f"{path}: is no IDX file: must begin with two zero bytes and a type")
    kind, rank = np.dtype(_IDX_TYPES[content[2]]), content[3]
    head = 4 + 4 * rank
    shape = tuple(np.frombuffer(content[4:head], ">u4").tolist())
    expected = head + kind.itemsize * int(np.prod(shape, dtype=np.int64))
    if len(shape) != rank or len(content) != expected:
        raise ValueError(
            f"{path}: is truncated or damaged: {len(content)} bytes where its header, shape "
            f"{shape}, promises {expected}"
        )
    return np.frombuffer(content, kind, offset=head).reshape(shape).astype(kind.newbyteorder("="))


def read_cifar(paths: Sequence[PathLike], *, num_classes: int = 10) -> Dataset:
    """CIFAR's binary format: records of one label byte (two for 100 classes) and 3,072 pixels.

    Args:
        paths: files of records, such as data_batch_1.bin; they are joined in order.
        num_classes: 10, or 100 for the fine labels of CIFAR-100.

    Raises:
        ValueError: if a file is missing, truncated, or its labels do not fit.
    """
    if num_classes not in (10, 100):
        raise ValueError(f"num_classes = {num_classes}: must be 10 or 100")
    labels = 1 if num_classes == 10 else 2
    width = labels + _CIFAR_PIXELS
    records = []
    for path in paths:
        content = np.frombuffer(_bytes_of(path), np.uint8)
        if len(content) == 0 or len(content) % width:
            raise ValueError(
                f"{path}: has {len(content)} bytes: must be a positive multiple of {width} for "
                f"CIFAR-{num_classes}; it is truncated, or of another format"
            )
        records.append(content.reshape(-1, width))
    if not records:
        raise ValueError("paths is empty: give at least one file")
    joined = np.concatenate(records)
    images = joined[:, labels:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    name = f"CIFAR-{num_classes}"
    y = joined[:, labels - 1].astype(np.int32)
    return dataset(images / np.float32(255), y, name=name, num_classes=num_classes)


def read_leaf(path: PathLike, *, num_classes: int | None = None) -> Dataset:
    """LEAF's JSON, one file or a folder of them, with its users as natural clients.

    Raises:
        ValueError: if a file is missing, no JSON, or lacks a user's data.
    """
    files = sorted(Path(path).glob("*.json")) if Path(path).is_dir() else [Path(path)]
    if not files:
        raise ValueError(f"{path}: holds no .json file")
    x, y = [], []
    for file in files:
        content = _json(_bytes_of(file), file)
        try:
            users = [(content["user_data"][user], user) for user in content["users"]]
            pairs = [(part["x"], part["y"], user) for part, user in users]
        except (KeyError, TypeError) as error:
            raise ValueError(f"{file}: is no LEAF file: {error} is missing or misplaced") from None
        for inputs, targets, user in pairs:
            if len(inputs) != len(targets):
                raise ValueError(
                    f"{file}: user {user!r} has {len(inputs)} inputs and {len(targets)} labels: "
                    "must be as many"
                )
            x.append(np.asarray(inputs, np.float32))
            y.append(np.asarray(targets))
    return _of_clients(x, y, name=Path(path).name, num_classes=num_classes)


def read_femnist(path: PathLike) -> Dataset:
    """TensorFlow Federated's FEMNIST in HDF5 (needs h5py), with its writers as natural clients.

    Raises:
        ValueError: if h5py is not installed, or the file is missing or of another layout.
    """
    try:
        import h5py
    except ImportError:
        raise ValueError(f"{path}: needs h5py to be read: pip install 'jaxedge[data]'") from None
    x, y = [], []
    try:
        with h5py.File(path, "r") as file:
            for client in file["examples"].values():
                x.append(np.asarray(client["pixels"], np.float32)[..., None])
                y.append(np.asarray(client["label"]))
    except (OSError, KeyError) as error:
        raise ValueError(f"{path}: is no FEMNIST file: {error}") from None
    return _of_clients(x, y, name=Path(path).name, num_classes=62)


def _of_clients(
    x: list[np.ndarray], y: list[np.ndarray], *, name: str, num_classes: int | None
) -> Dataset:
    if not x:
        raise ValueError(f"{name}: holds no clients")
    offsets = np.cumsum([0, *(len(part) for part in y)])
    try:
        joined = np.concatenate(x), np.concatenate(y)
    except ValueError as error:
        raise ValueError(f"{name}: clients' samples differ in shape: {error}") from None
    return dataset(*joined, name=name, num_classes=num_classes, offsets=offsets)


def write_npz(data: Dataset, path: PathLike) -> None:
    """Write a data set in our own layout: x, y, offsets and a JSON header in one ``.npz`` file."""
    header = {"format": _NPZ_FORMAT, "name": data.name, "num_classes": data.num_classes}
    arrays: dict[str, Any] = {"x": data.x, "y": data.y, "header": np.array(json.dumps(header))}
    if data.offsets is not None:
        arrays["offsets"] = data.offsets
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write_whole(path, content.getvalue())


def read_npz(path: PathLike) -> Dataset:
    """Read what `write_npz` has written.

    Raises:
        ValueError: if the file is missing, damaged or of another layout.
    """
    content = io.BytesIO(_bytes_of(path))
    try:
        with np.load(content, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: is no .npz file of arrays: {error}") from None
    if not {"x", "y", "header"} <= set(arrays):
        raise ValueError(f"{path}: must hold x, y and header, but holds {sorted(arrays)}")
    header = _json(str(arrays["header"]).encode(), path)
    if not isinstance(header, dict) or header.get("format") != _NPZ_FORMAT:
        raise ValueError(f"{path}: its header must name the format {_NPZ_FORMAT!r}")
    return dataset(
        arrays["x"],
        arrays["y"],
        name=str(header.get("name", Path(path).name)),
        num_classes=header.get("num_classes"),
        offsets=arrays.get("offsets"),
    )


def _json(content: bytes, path: PathLike) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise ValueError(f"{path}: is no JSON: {error}") from None


def _bytes_of(path: PathLike) -> bytes:
    """A file's content, unzipped where it is gzipped."""
    try:
        with open(path, "rb") as file:
            content = file.read()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except FileNotFoundError:
        raise ValueError(f"{path}: does not exist") from None
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from None
