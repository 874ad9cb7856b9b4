"""Statistics of many draws from partial ones, with the same bits however the draws are parted.

Moments are merged along one binary tree over the draws, of which every part is a complete subtree.
Quantiles come from sorted values with counts, whose sums are whole numbers: the values themselves
for few draws, and logarithmic classes of relative half-width `ACCURACY` for many.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

EXACT = 10_000
"""Up to so many draws quantiles are those of the values themselves."""
ACCURACY = 5e-4
"""Greatest relative error of a quantile of more draws than that."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moments:
    """Count, mean and sum of squared deviations, of equal shape."""

    count: np.ndarray
    mean: np.ndarray
    squares: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Histogram:
    """Sorted (slot, value) pairs with counts; a slot is one element of the answer."""

    slot: np.ndarray
    value: np.ndarray
    count: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """What is known of one output over some of its draws; slots are flattened elements."""

    moments: Moments
    histogram: Histogram


def classify(values: np.ndarray) -> np.ndarray:
    """Each value replaced by the middle, in logarithms, of its class; zero and nan stay."""
    width = 2.0 * np.log1p(ACCURACY)
    with np.errstate(divide="ignore", invalid="ignore"):
        middle = np.exp(np.rint(np.log(np.abs(values)) / width) * width)
    return np.asarray(np.where(values == 0, 0.0, np.copysign(middle, values)))


def summarise(values: np.ndarray, classes: np.ndarray) -> Summary:
    """Summary of ``values`` (draws, slots), nan left out; ``classes`` of the same shape."""
    return Summary(moments=_moments(values), histogram=_histogram(classes))


def merge_summaries(first: Summary, second: Summary) -> Summary:
    """Summary of the draws of both, ``first`` before ``second`` in the tree."""
    a, b = first.histogram, second.histogram
    joined = [np.concatenate(pair) for pair in ((a.slot, b.slot), (a.value, b.value))]
    histogram = _counted(joined[0], joined[1], np.concatenate([a.count, b.count]))
    return Summary(moments=_merged_moments(first.moments, second.moments), histogram=histogram)


def _merged_moments(a: Moments, b: Moments) -> Moments:
    count = a.count + b.count
    share = b.count / np.maximum(count, 1)
    apart = b.mean - a.mean
    # Where one side is empty the other passes unchanged, in bits too.
    both = (a.count > 0) & (b.count > 0)
    mean = np.where(both, a.mean + apart * share, np.where(b.count > 0, b.mean, a.mean))
    squares = a.squares + b.squares + np.where(both, apart**2 * a.count * share, 0.0)
    return Moments(count=count, mean=mean, squares=squares)


def _moments(values: np.ndarray) -> Moments:
    """Moments over the first axis along the binary tree; its length is padded with nothing."""
    length = 1 << max(len(values) - 1, 0).bit_length()
    padded = np.full((length, *values.shape[1:]), np.nan)
    padded[: len(values)] = values
    there = np.isfinite(padded)
    mean = np.where(there, padded, 0.0)
    tree = Moments(count=there.astype(np.float64), mean=mean, squares=np.zeros_like(mean))
    while len(tree.mean) > 1:
        tree = _merged_moments(_every_other(tree, 0), _every_other(tree, 1))
    return Moments(count=tree.count[0], mean=tree.mean[0], squares=tree.squares[0])


def _every_other(tree: Moments, start: int) -> Moments:
    return Moments(
        count=tree.count[start::2], mean=tree.mean[start::2], squares=tree.squares[start::2]
    )


def _histogram(values: np.ndarray) -> Histogram:
    slots = np.broadcast_to(np.arange(values.shape[1]), values.shape)
    there = np.isfinite(values)
    return _counted(slots[there], values[there], np.ones(int(there.sum()), dtype=np.int64))


def _counted(slot: np.ndarray, value: np.ndarray, count: np.ndarray) -> Histogram:
    """Equal pairs made one, in order."""
    order = np.lexsort((value, slot))
    slot, value, count = slot[order], value[order], count[order]
    new = np.ones(len(slot), dtype=bool)
    new[1:] = (slot[1:] != slot[:-1]) | (value[1:] != value[:-1])
    starts = np.flatnonzero(new)
    total = np.add.reduceat(count, starts) if len(starts) else count
    return Histogram(slot=slot[starts], value=value[starts], count=total)


def mean_and_std(summary: Summary) -> tuple[np.ndarray, np.ndarray]:
    """(slots,) mean and population standard deviation, nan where nothing was counted."""
    moments = summary.moments
    count = np.where(moments.count > 0, moments.count, np.nan)
    return moments.mean + 0.0 * count, np.sqrt(moments.squares / count)


def quantiles(summary: Summary, shares: np.ndarray) -> np.ndarray:
    """(slots, shares) quantiles with linear interpolation, nan where nothing was counted."""
    histogram, slots = summary.histogram, len(summary.moments.count)
    sizes = np.bincount(histogram.slot, weights=histogram.count, minlength=slots).astype(np.int64)
    before = np.cumsum(sizes) - sizes
    if not len(histogram.value):
        return np.full((slots, len(shares)), np.nan)
    reached = np.cumsum(histogram.count)
    position = np.asarray(shares)[None, :] * np.maximum(sizes - 1, 0)[:, None]
    low = np.floor(position).astype(np.int64)

    def value_at(rank: np.ndarray) -> np.ndarray:
        at = np.searchsorted(reached, before[:, None] + rank, side="right")
        return histogram.value[np.minimum(at, len(reached) - 1)]

    lower = value_at(low)
    upper = value_at(np.minimum(low + 1, np.maximum(sizes - 1, 0)[:, None]))
    found = lower + (position - low) * (upper - lower)
    return np.where(sizes[:, None] > 0, found, np.nan)


def to_arrays(summaries: Mapping[str, Summary]) -> dict[str, np.ndarray]:
    """Flat arrays by name, to be kept in a file."""
    return {
        f"{name}/{part.name}/{item.name}": getattr(getattr(summary, part.name), item.name)
        for name, summary in summaries.items()
        for part in dataclasses.fields(Summary)
        for item in dataclasses.fields(_PARTS[part.name])
    }


def from_arrays(arrays: Mapping[str, np.ndarray]) -> dict[str, Summary]:
    """The inverse of `to_arrays`."""
    found: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    for key, array in arrays.items():
        name, part, item = key.rsplit("/", 2)
        found.setdefault(name, {}).setdefault(part, {})[item] = array
    return {
        name: Summary(**{part: _PARTS[part](**items) for part, items in parts.items()})
        for name, parts in found.items()
    }


_PARTS: dict[str, Any] = {"moments": Moments, "histogram": Histogram}
