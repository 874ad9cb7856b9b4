"""What is learned: the server's general data, the devices' task data, a model and its loss."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxedge.training.data.datasets import Dataset, split
from jaxedge.training.data.partitions import Partition, partition
from jaxedge.training.data.samples import Loss, Samples, pool
from jaxedge.training.data.shifts import shift
from jaxedge.training.data.sources import load_data
from jaxedge.words.choices import check_whole


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """A task in words and numbers, as a run's configuration keeps it."""

    data: str = "digits"
    """Source of the general data, one of `sources.SOURCES`."""
    task_data: str | None = None
    """Source of the devices' data where it is another; else the general data's source is cut."""
    shift: str = "rotation"
    """One of `shifts.SHIFTS`, of the devices' data."""
    strength: float = 0.2
    """Of the shift, 0 to 1."""
    partition: str = "iid"
    """One of `partitions.PARTITIONS`."""
    partition_options: dict[str, float] = dataclasses.field(default_factory=dict)
    """``alpha`` or ``per_device``."""
    model: str = "mlp"
    """One of `models.MODELS`."""
    adapters_only: bool = False
    """Fine-tune and upload the model's low-rank adapters alone."""
    general_share: float = 0.5
    """Of the source's samples, to the server; the rest is the devices'."""
    test_share: float = 0.25
    """Of the devices' samples, held out for measuring."""
    seed: int = 0
    """Of the cuts, the shift, the partition and the initial weights."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """Data and model of both stages, checked against each other; build it through `task`."""

    general: Dataset
    """The server's samples."""
    devices: Dataset
    """The devices' samples, device after device."""
    offsets: np.ndarray
    """(K + 1,) where each device's samples begin."""
    test: Dataset
    """Samples of the devices' task that nobody trains on."""
    weights: Any
    """The weights to begin with."""
    loss: Loss
    """Of single samples."""
    outputs: Callable[[Any, Array], Array]
    """(weights, x) -> logits (n, classes)."""
    tuned: tuple[bool, ...] | None = None
    """Which leaves of the weights the devices train and upload; None for all."""

    def tuned_of(self, weights: Any) -> list[Array]:
        """The leaves that the devices train and upload."""
        leaves = jax.tree.leaves(weights)
        tuned = (True,) * len(leaves) if self.tuned is None else self.tuned
        return [leaf for leaf, chosen in zip(leaves, tuned, strict=True) if chosen]

    def with_tuned(self, weights: Any, tuned: list[Array]) -> Any:
        """The weights with other leaves in place of those that the devices train."""
        leaves, structure = jax.tree.flatten(weights)
        new = iter(tuned)
        chosen = (True,) * len(leaves) if self.tuned is None else self.tuned
        mixed = [next(new) if one else leaf for leaf, one in zip(leaves, chosen, strict=True)]
        return jax.tree.unflatten(structure, mixed)

    def tuned_loss(self, weights: Any) -> Loss:
        """The loss as a function of the leaves that the devices train, the others as they are."""

        def loss(tuned: list[Array], x: Array, y: Array) -> Array:
            return self.loss(self.with_tuned(weights, tuned), x, y)

        return loss

    @property
    def sizes(self) -> np.ndarray:
        """(K,) samples of each device."""
        return np.diff(self.offsets)

    @property
    def class_counts(self) -> np.ndarray:
        """(K, classes) samples of each class at each device."""
        part = Partition(order=np.arange(len(self.devices)), offsets=self.offsets)
        return part.class_counts(self.devices)

    @property
    def digest(self) -> str:
        """Of all samples, whose they are, the weights' shapes and which of them are tuned."""
        found = hashlib.sha256()
        for data in (self.general, self.devices, self.test):
            found.update(repr(data.x.shape).encode())
            found.update(np.ascontiguousarray(data.x))
            found.update(np.ascontiguousarray(data.y))
        shapes = [(leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(self.weights)]
        found.update(repr((self.offsets.tolist(), shapes, self.tuned)).encode())
        return found.hexdigest()[:16]

    @property
    def server_samples(self) -> Samples:
        """The general data as the stages take it."""
        return pool(self.general.x, self.general.y)

    @property
    def device_samples(self) -> Samples:
        """The task data as the stages take it."""
        x, y = jnp.asarray(self.devices.x), jnp.asarray(self.devices.y)
        return Samples(x=x, y=y, offsets=jnp.asarray(self.offsets, jnp.int32))

    def check_batches(self, server: float, devices: np.ndarray) -> None:
        """Make sure that no batch is larger than its owner's data.

        Raises:
            ValueError: naming the owner, its batch and its samples.
        """
        owners = ["server", *(f"device {k}" for k in range(len(self.sizes)))]
        sizes = [len(self.general), *self.sizes.tolist()]
        for owner, batch, size in zip(owners, [server, *devices.tolist()], sizes, strict=True):
            if batch > size:
                raise ValueError(
                    f"{owner}: batch = {batch:g} samples, but it has {size}: lower its max_batch "
                    "in the scenario and plan again, or give it more data"
                )


def task(
    general: Dataset,
    devices: Dataset,
    part: Partition,
    test: Dataset,
    module: Any,
    *,
    tuned_kind: Any = None,
    **training: Any,
) -> Task:
    """A task from data and any Flax NNX module.

    Args:
        general: the server's samples.
        devices: the devices' samples, in any order.
        part: who has which of them.
        test: samples of the devices' task to measure on.
        module: maps inputs (n, ...) to logits (n, classes).
        tuned_kind: the variables that the devices train and upload, such as `nnx.LoRAParam`; by
            default all that the server trains.
        training: ``criterion`` and ``of_kind`` of `models.trainable`.

    Raises:
        ValueError: if inputs differ in shape, or the outputs do not fit the labels.
    """
    from jaxedge.training.models.networks import check_fits, of_kind_among, trainable

    _check_alike(general, devices)
    weights, loss, outputs = trainable(module, **training)
    classes = max(general.num_classes, devices.num_classes)
    check_fits(outputs, weights, jnp.asarray(general.x[:1]), classes)
    return Task(
        general=general,
        devices=devices.take(part.order),
        offsets=part.offsets,
        test=test,
        weights=jax.tree.map(jnp.asarray, weights),
        loss=loss,
        outputs=outputs,
        tuned=None if tuned_kind is None else of_kind_among(weights, tuned_kind),
    )


def load_task(spec: TaskSpec, devices: int) -> Task:
    """Read, cut, shift and spread the data over ``devices`` devices, and build the model.

    Raises:
        ValueError: naming what is wrong with a file, an option, or how they fit together.
    """
    from jaxedge.training.models.networks import ADAPTERS, model

    for name in ("general_share", "test_share"):
        value = getattr(spec, name)
        if not 0 < value < 1:
            raise ValueError(f"{name} = {value!r}: must be a number between 0 and 1")
    check_whole("seed", spec.seed, 0)
    general, own = _cut(spec, devices)
    _check_alike(general, own)
    own = shift(own, spec.shift, spec.strength, seed=spec.seed)
    if spec.partition == "natural":
        part = partition(own, "natural", devices, seed=spec.seed)
        part, test = _held_out(own, part, spec)
    else:
        own, test = split(own, (1 - spec.test_share, spec.test_share), spec.seed + 1)
        part = partition(own, spec.partition, devices, seed=spec.seed, **spec.partition_options)
    classes = max(general.num_classes, own.num_classes)
    height, width, channels = _image_shape(general)
    module = model(spec.model, (height, width, channels), classes, seed=spec.seed)
    tuned = ADAPTERS if spec.adapters_only else None
    return task(general, own, part, test, module, tuned_kind=tuned)


def _cut(spec: TaskSpec, devices: int) -> tuple[Dataset, Dataset]:
    """The general data, and the devices' data before their shift."""
    source = load_data(spec.data)
    if spec.task_data is not None:
        return source, load_data(spec.task_data)
    if spec.partition != "natural":
        general, own = split(source, (spec.general_share, 1 - spec.general_share), spec.seed)
        return general, own
    part = partition(source, "natural", devices, seed=spec.seed)
    others = np.setdiff1d(np.arange(len(source)), part.order)
    if not len(others):
        raise ValueError(
            f"{source.name}: all its clients are devices and no general data is left: take fewer "
            "devices, or give the devices' data apart (task_data)"
        )
    own = dataclasses.replace(source.take(part.order), offsets=part.offsets)
    return source.take(others), own


def _held_out(own: Dataset, part: Partition, spec: TaskSpec) -> tuple[Partition, Dataset]:
    """A share of every client's samples apart, at least one sample left to train on."""
    rng = np.random.default_rng(spec.seed + 1)
    kept, held = [], []
    for k in range(len(part.sizes)):
        mine = rng.permutation(part.of(k))
        cut = int(spec.test_share * len(mine))
        held.append(mine[:cut])
        kept.append(mine[cut:])
    tested = np.concatenate(held)
    if not len(tested):
        raise ValueError(f"test_share = {spec.test_share}: clients have too few samples for it")
    offsets = np.cumsum([0, *(len(mine) for mine in kept)])
    return Partition(order=np.concatenate(kept), offsets=offsets), own.take(tested)


def _check_alike(general: Dataset, devices: Dataset) -> None:
    if general.x.shape[1:] != devices.x.shape[1:]:
        raise ValueError(
            f"{general.name} has inputs of shape {general.x.shape[1:]} and {devices.name} of "
            f"{devices.x.shape[1:]}: both stages must see the same"
        )


def _image_shape(data: Dataset) -> tuple[int, int, int]:
    """Height, width and channels; flat inputs are images of one row."""
    shape = data.x.shape[1:]
    if len(shape) == 1:
        return 1, shape[0], 1
    if len(shape) != 3:
        raise ValueError(
            f"{data.name}: inputs have shape {shape}: the named models take (height, width, "
            "channels) or flat inputs"
        )
    return int(shape[0]), int(shape[1]), int(shape[2])
