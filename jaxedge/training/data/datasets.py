"""Labelled samples in memory, checked once where they enter."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

_SHOWN = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """n labelled samples; build it through `dataset`, which checks them."""

    x: np.ndarray
    """(n, ...) float32 inputs; images are (n, height, width, channels) in [0, 1]."""
    y: np.ndarray
    """(n,) int32 labels in 0 ... num_classes - 1."""
    num_classes: int
    name: str
    offsets: np.ndarray | None = None
    """(clients + 1,) where each natural client's samples begin, and n; None without clients."""

    def __len__(self) -> int:
        return len(self.y)

    def take(self, index: np.ndarray) -> Dataset:
        """The samples at ``index``, without natural clients."""
        return dataclasses.replace(self, x=self.x[index], y=self.y[index], offsets=None)


def dataset(
    x: np.ndarray,
    y: np.ndarray,
    *,
    name: str,
    num_classes: int | None = None,
    offsets: np.ndarray | None = None,
) -> Dataset:
    """Checked samples.

    Args:
        x: (n, ...) real inputs, all finite.
        y: (n,) whole labels >= 0.
        name: what messages call it.
        num_classes: number of classes; by default the largest label + 1.
        offsets: (clients + 1,) ascending from 0 to n.

    Raises:
        ValueError: naming what is wrong, where, and what would be accepted.
    """
    x, y = np.asarray(x), np.asarray(y)
    if not np.issubdtype(x.dtype, np.number) or np.iscomplexobj(x):
        raise ValueError(f"{name}: x has type {x.dtype}: must be real numbers")
    if x.ndim < 2 or y.ndim != 1 or len(x) != len(y):
        raise ValueError(
            f"{name}: x has shape {x.shape} and y {y.shape}: must be (n, ...) and (n,), "
            "one label for each sample"
        )
    if len(y) == 0:
        raise ValueError(f"{name}: holds no samples: must be at least one")
    x = x.astype(np.float32)
    finite = np.isfinite(x).reshape(len(x), -1).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"{name}: samples {_some(~finite)} hold NaN or infinite values: all must be finite"
        )
    labels, classes = _labels(y, num_classes, name)
    if offsets is not None:
        offsets = _offsets(np.asarray(offsets), len(y), name)
    return Dataset(x=x, y=labels, num_classes=classes, name=name, offsets=offsets)


def _labels(y: np.ndarray, num_classes: int | None, name: str) -> tuple[np.ndarray, int]:
    whole = np.issubdtype(y.dtype, np.integer) or (
        np.issubdtype(y.dtype, np.floating) and np.array_equal(y, np.rint(y))
    )
    if not whole:
        raise ValueError(f"{name}: labels of type {y.dtype}: must be whole numbers from 0 on")
    classes = int(y.max()) + 1 if num_classes is None else num_classes
    outside = (y < 0) | (y >= classes)
    if outside.any():
        raise ValueError(
            f"{name}: labels {np.unique(y[outside])[:_SHOWN].tolist()} of samples "
            f"{_some(outside)}: must be from 0 to {classes - 1}"
        )
    return y.astype(np.int32), classes


def _offsets(offsets: np.ndarray, count: int, name: str) -> np.ndarray:
    ascending = offsets.ndim == 1 and len(offsets) > 1 and (np.diff(offsets) >= 0).all()
    if not ascending or offsets[0] != 0 or offsets[-1] != count:
        raise ValueError(
            f"{name}: client offsets {offsets[:_SHOWN].tolist()}...: must ascend from 0 to the "
            f"number of samples, {count}"
        )
    return offsets.astype(np.int64)


def _some(which: np.ndarray) -> str:
    places = np.flatnonzero(which)
    more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
    return f"{places[:_SHOWN].tolist()}{more}"


def split(data: Dataset, shares: tuple[float, ...], seed: int) -> tuple[Dataset, ...]:
    """Disjoint random parts of a data set, stratified by nothing, in the given shares.

    Args:
        data: what to split.
        shares: of each part, > 0, together at most 1.
        seed: of the shuffle.

    Raises:
        ValueError: if a share is not positive, they sum to more than 1, or a part stays empty.
    """
    if any(share <= 0 for share in shares) or sum(shares) > 1 + 1e-9:
        raise ValueError(f"shares = {shares}: must be > 0 and sum to at most 1")
    ends = np.floor(np.cumsum([0.0, *shares]) * len(data) + 1e-9).astype(int)
    if (np.diff(ends) == 0).any():
        raise ValueError(f"shares = {shares} of {len(data)} samples: a part would be empty")
    order = np.random.default_rng(seed).permutation(len(data))
    return tuple(data.take(order[a:b]) for a, b in itertools.pairwise(ends))
