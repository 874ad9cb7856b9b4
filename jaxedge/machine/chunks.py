"""Batches of any size through compiled functions: chunks that stay in cache, on all cores.

A chunk is small enough for a core's cache, and there are few sizes, so that little is compiled.
Two chunks at a time run on the cores of a CPU, in threads: XLA releases the interpreter. Where JAX
sees several devices, a chunk is split over them by `jax.shard_map`. Arrays come from the host and
go back there, so that a device holds chunks only, whatever the batch.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any, Generic, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jaxedge.machine.precision import double_precision

_CELLS, _CELLS_ELSEWHERE = 1 << 12, 1 << 22
"""Elements times width of a chunk: what a core's cache holds, and what fills an accelerator."""
_LEAST, _MOST, _MOST_ELSEWHERE = 8, 512, 1 << 18
_SMALL = 32
"""Elements of the small chunks that a batch ends with."""
_NARROW = 16
"""Width up to which all chunks are alike."""
_AXIS = "batch"

_Tree = TypeVar("_Tree")


@dataclasses.dataclass(frozen=True)
class BatchLast(Generic[_Tree]):
    """A function of trailing batch axes, called with leading ones.

    With the devices before the batch, XLA's innermost loops run over the batch: they fill vectors,
    which loops over a few devices do not. The axes are moved on the host: moved inside a compiled
    function, XLA would undo it and run the whole function in the other order.
    """

    fn: Callable[..., _Tree]
    """Compiled."""

    def __call__(self, *batches: Any) -> _Tree:
        """The function's answer with the batch axis in front again."""
        moved = jax.tree.map(lambda x: np.moveaxis(x, 0, -1), batches)
        with jax.numpy_rank_promotion("allow"):  # () and (K,) are (B,) and (K, B) there
            out = self.fn(*moved)
        if not isinstance(jax.tree.leaves(out)[0], jax.core.Tracer):
            out = jax.tree.map(np.asarray, out)
        back: _Tree = jax.tree.map(lambda x: np.moveaxis(x, -1, 0), out)
        return back


def in_chunks(fn: Callable[..., _Tree], *batches: Any) -> _Tree:
    """Apply a compiled batch function to the chunks of a batch.

    Args:
        fn: of batches with a leading axis; each element's answer must not depend on the others.
        batches: host arrays with a common leading axis (B, ...), B >= 1.

    Returns:
        Host arrays with that axis, whatever the chunks were.
    """
    batches = jax.tree.map(np.asarray, batches)
    size = len(jax.tree.leaves(batches)[0])
    spans = _chunks(size, _width(batches))
    devices = _devices()
    whole: list[_Tree] = []

    def apply(span: tuple[int, int]) -> _Tree:
        start, length = span
        split = devices > 1 and length % devices == 0
        return (_sharded(_Key.of(fn)) if split else fn)(*_padded(batches, start, length))

    def store(span: tuple[int, int], out: _Tree) -> None:
        start, stop = span[0], min(sum(span), size)
        if not whole:
            whole.append(jax.tree.map(lambda x: np.empty((size, *x.shape[1:]), x.dtype), out))
        jax.tree.map(lambda to, x: _assign(to, start, stop, x), whole[0], out)

    # The first of each length compiles; the rest need not wait for each other.
    lengths = [length for _, length in spans]
    first = {lengths.index(length) for length in set(lengths)}
    for i in sorted(first):
        store(spans[i], apply(spans[i]))
    rest = [span for i, span in enumerate(spans) if i not in first]
    _side_by_side(lambda span: store(span, apply(span)), rest)
    return whole[0]


def cores() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on every system
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _side_by_side(work: Callable[[Any], None], items: list[Any]) -> None:
    """Work on the items, on one CPU in as many threads as there are cores."""
    alone = _platform() == "cpu" and _devices() == 1
    threads = min(len(items), cores() if alone else 1)
    if threads < 2:
        for item in items:
            work(item)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(with_settings(work), items):
            pass


def with_settings(work: Callable[..., _Tree]) -> Callable[..., _Tree]:
    """The function with this thread's precision and device, for other threads to call."""
    double, device = double_precision(), _default_device()

    def run(*args: Any) -> _Tree:
        with jax.enable_x64(double), jax.default_device(device):
            return work(*args)

    return run


def _default_device() -> Any:
    """The device or platform that was chosen in this thread, or None."""
    return jax.config.jax_default_device  # type: ignore[attr-defined]


def _platform() -> str:
    """Of the device that this thread computes on."""
    device = _default_device()
    if device is None:
        return jax.default_backend()
    return device if isinstance(device, str) else str(device.platform)


def _devices() -> int:
    """Devices to share a batch: one where it was chosen."""
    return jax.device_count() if _default_device() is None else 1


def _padded(batches: _Tree, start: int, length: int) -> _Tree:
    """A chunk, its last element repeated where the batch ends."""

    def part(x: np.ndarray) -> np.ndarray:
        some = x[start : start + length]
        short = length - len(some)
        return np.concatenate([some, np.repeat(some[-1:], short, axis=0)]) if short else some

    chunk: _Tree = jax.tree.map(part, batches)
    return chunk


def _assign(to: np.ndarray, start: int, stop: int, values: Any) -> None:
    to[start:stop] = np.asarray(values)[: stop - start]


def _width(batches: Any) -> int:
    """Numbers of the widest array for each element: K as a rule."""
    return max(_NARROW, *(int(np.prod(np.shape(x)[1:])) for x in jax.tree.leaves(batches)))


def _large(width: int) -> int:
    """Elements of a large chunk: a power of two."""
    devices = _devices()
    host = _platform() == "cpu"
    cells, most = (_CELLS, _MOST) if host else (_CELLS_ELSEWHERE, _MOST_ELSEWHERE)
    fitting = min(max(cells // max(width, 1), _LEAST), most)
    return devices * (1 << (fitting.bit_length() - 1))


def _chunks(size: int, width: int) -> list[tuple[int, int]]:
    """(start, padded length) of the chunks of a batch."""
    large = _large(width)
    small = min(_SMALL, large)
    chunks, start = [], 0
    while start < size:
        length = large if size - start > max(large // 4, small) else small
        chunks.append((start, length))
        start += length
    return chunks


def chunk_lengths(batches: Any) -> set[int]:
    """The padded lengths of the chunks of a batch."""
    size = len(jax.tree.leaves(batches)[0])
    return {length for _, length in _chunks(size, _width(batches))}


@dataclasses.dataclass(frozen=True)
class _Key:
    """A function and what `functools.partial` holds of its arguments."""

    fn: Callable[..., Any]
    args: tuple[Any, ...] = ()
    keywords: tuple[tuple[str, Any], ...] = ()

    @staticmethod
    def of(fn: Callable[..., Any]) -> _Key:
        if isinstance(fn, partial):
            return _Key(fn.func, fn.args, tuple(sorted(fn.keywords.items())))
        return _Key(fn)


@cache
def _sharded(key: _Key) -> Callable[..., Any]:
    """The function with each device at work on its part of the batch."""
    if isinstance(key.fn, BatchLast):
        return BatchLast(_over_devices(key.fn.fn, last=True))
    return _over_devices(partial(key.fn, *key.args, **dict(key.keywords)), last=False)


def _over_devices(fn: Callable[..., Any], *, last: bool) -> Callable[..., Any]:
    mesh = Mesh(np.array(jax.devices()), (_AXIS,))

    def specs(tree: Any) -> Any:
        def spec(x: Any) -> PartitionSpec:
            return PartitionSpec(*[None] * (len(x.shape) - 1), _AXIS)

        return jax.tree.map(spec if last else lambda _: PartitionSpec(_AXIS), tree)

    @jax.jit
    def run(*batches: Any) -> Any:
        out = specs(jax.eval_shape(fn, *batches))
        return jax.shard_map(
            fn, mesh=mesh, in_specs=specs(batches), out_specs=out, check_vma=False
        )(*batches)

    return run
