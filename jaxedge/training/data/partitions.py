"""Who has what: seeded partitions of a data set over K devices."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from jaxedge.training.data.datasets import Dataset
from jaxedge.words.choices import choice


@dataclasses.dataclass(frozen=True, kw_only=True)
class Partition:
    """Disjoint samples of K devices."""

    order: np.ndarray
    """Positions of the samples in the data set, device after device."""
    offsets: np.ndarray
    """(K + 1,) device k has ``order[offsets[k]:offsets[k + 1]]``."""

    @property
    def sizes(self) -> np.ndarray:
        """(K,) samples of each device."""
        return np.diff(self.offsets)

    @property
    def weights(self) -> np.ndarray:
        """(K,) shares of the samples, the aggregation weights w_k of federated averaging."""
        return np.asarray(self.sizes / self.sizes.sum())

    def of(self, device: int) -> np.ndarray:
        """The positions of one device's samples."""
        return self.order[self.offsets[device] : self.offsets[device + 1]]

    def class_counts(self, data: Dataset) -> np.ndarray:
        """(K, classes) samples of each class at each device."""
        return np.stack(
            [
                np.bincount(data.y[self.of(k)], minlength=data.num_classes)
                for k in range(len(self.sizes))
            ]
        )


def _partition(parts: list[np.ndarray]) -> Partition:
    empty = [k for k, part in enumerate(parts) if not len(part)]
    if empty:
        raise ValueError(
            f"devices {empty[:5]} of {len(parts)} would have no samples: take fewer devices, more "
            "even shares (a larger alpha), or another seed"
        )
    offsets = np.cumsum([0, *(len(part) for part in parts)])
    return Partition(order=np.concatenate(parts).astype(np.int64), offsets=offsets)


def iid(data: Dataset, devices: int, seed: int) -> Partition:
    """Every device draws from the same law: a shuffle cut into equal parts (within one)."""
    order = np.random.default_rng(seed).permutation(len(data))
    return _partition(np.array_split(order, devices))


def dirichlet_per_client(data: Dataset, devices: int, seed: int, alpha: float = 0.5) -> Partition:
    """Equal sizes, class shares of each device from Dirichlet(alpha) (Hsu et al., 2019).

    Devices draw in turn from what is left of the classes, so late ones get what remains.
    """
    rng = np.random.default_rng(seed)
    left = [rng.permutation(np.flatnonzero(data.y == c)).tolist() for c in range(data.num_classes)]
    parts: list[np.ndarray] = []
    for size in np.diff(np.linspace(0, len(data), devices + 1).astype(int)):
        shares = rng.dirichlet(np.full(data.num_classes, alpha))
        chosen: list[int] = []
        while len(chosen) < size:
            stock = np.array([len(c) for c in left])
            odds = np.where(stock > 0, shares + np.finfo(float).tiny, 0.0)
            wanted = rng.multinomial(size - len(chosen), odds / odds.sum())
            for c, count in enumerate(np.minimum(wanted, stock)):
                chosen += [left[c].pop() for _ in range(count)]
        parts.append(np.array(chosen))
    return _partition(parts)


def dirichlet_per_class(data: Dataset, devices: int, seed: int, alpha: float = 0.5) -> Partition:
    """Each class split by Dirichlet(alpha), so sizes differ (Yurochkin et al., 2019)."""
    rng = np.random.default_rng(seed)
    parts: list[list[np.ndarray]] = [[] for _ in range(devices)]
    for c in range(data.num_classes):
        members = rng.permutation(np.flatnonzero(data.y == c))
        ends = np.cumsum(rng.dirichlet(np.full(devices, alpha)))[:-1]
        for part, piece in zip(parts, np.split(members, _cuts(ends, len(members))), strict=True):
            part.append(piece)
    return _partition([np.concatenate(part) for part in parts])


def _cuts(ends: np.ndarray, count: int) -> np.ndarray:
    return np.rint(ends * count).astype(int)


def shards(data: Dataset, devices: int, seed: int, per_device: int = 2) -> Partition:
    """Samples sorted by class and cut, ``per_device`` cuts each (McMahan et al., 2017)."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(data))
    order = order[np.argsort(data.y[order], kind="stable")]
    pieces = np.array_split(order, devices * per_device)
    dealt = rng.permutation(len(pieces)).reshape(devices, per_device)
    return _partition([np.concatenate([pieces[i] for i in hand]) for hand in dealt])


def natural(data: Dataset, devices: int, seed: int) -> Partition:
    """Clients as they came with the data, a random choice of ``devices`` of them."""
    if data.offsets is None:
        raise ValueError(f"{data.name}: has no natural clients: take another partition")
    sizes = np.diff(data.offsets)
    having = np.flatnonzero(sizes)
    if len(having) < devices:
        raise ValueError(
            f"{data.name}: has {len(having)} clients with samples, fewer than {devices} devices"
        )
    chosen = np.sort(np.random.default_rng(seed).permutation(having)[:devices])
    return _partition([np.arange(data.offsets[c], data.offsets[c + 1]) for c in chosen])


PARTITIONS: dict[str, Callable[..., Partition]] = {
    "iid": iid,
    "dirichlet-per-client": dirichlet_per_client,
    "dirichlet-per-class": dirichlet_per_class,
    "shards": shards,
    "natural": natural,
}


def partition(
    data: Dataset, kind: str, devices: int, *, seed: int = 0, **options: float
) -> Partition:
    """The data set's samples over ``devices`` devices.

    Args:
        data: what to spread.
        kind: one of `PARTITIONS`.
        devices: K >= 1.
        seed: of every draw.
        options: ``alpha`` > 0 of either Dirichlet partition, ``per_device`` >= 1 of shards.

    Raises:
        ValueError: if the kind or an option is unknown, or a device would have no samples.
    """
    spread = PARTITIONS[choice("partition", str(kind), PARTITIONS)]
    if isinstance(devices, bool) or not isinstance(devices, int) or not 1 <= devices <= len(data):
        raise ValueError(
            f"devices = {devices!r}: must be a whole number from 1 to the {len(data)} samples"
        )
    known = {"shards": {"per_device"}}.get(kind, {"alpha"} if "dirichlet" in kind else set())
    if set(options) - known:
        raise ValueError(f"{kind}: unknown options {sorted(set(options) - known)}: takes {known}")
    for name, value in options.items():
        if not value > 0 or (name == "per_device" and value != int(value)):
            kind_of = "whole number >= 1" if name == "per_device" else "number > 0"
            raise ValueError(f"{name} = {value!r}: must be a {kind_of}")
    return spread(data, devices, seed, **options)
