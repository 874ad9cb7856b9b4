"""How the devices' steps of a round are computed: side by side, one by one, on several GPUs.

All strategies give sum_k w_k f_k to float precision, in another order of additions each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxedge.words.choices import check_whole

Tree = TypeVar("Tree")

STRATEGIES = ("vmap", "scan", "loop", "chunked", "sharded", "pooled")
"""vmap: all devices side by side; scan: one after the other in a compiled loop; loop: the same
unrolled, so that XLA may run some at once; chunked: some side by side, chunk after chunk; sharded:
split over the processors that JAX sees; pooled: one gradient of the weighted mean loss of all
devices' samples, which is the same where each device takes one step from shared weights."""
AUTO = "auto"
"""Asks for the fastest."""
_AXIS = "devices"


@dataclasses.dataclass(frozen=True)
class Strategy:
    """How the terms of all devices are computed."""

    name: str = "vmap"
    """One of `STRATEGIES`."""
    chunk: int = 4
    """Devices side by side where they are computed in chunks."""

    def __post_init__(self) -> None:
        if self.name not in STRATEGIES:
            raise ValueError(f"strategy = {self.name!r}: must be one of {', '.join(STRATEGIES)}")
        check_whole("chunk", self.chunk, unit="devices")

    def check(self, local_steps: int) -> None:
        """Make sure that rounds of so many local steps can be computed like this.

        Raises:
            ValueError: if they cannot.
        """
        if self.name == "pooled" and local_steps != 1:
            raise ValueError(
                f"strategy = 'pooled' with local_steps = {local_steps}: pooled samples give the "
                "sum of gradients at shared weights, which is a round of one local step; take "
                "another strategy"
            )


SIDE_BY_SIDE, ONE_BY_ONE = Strategy("vmap"), Strategy("scan")


def weighted_sum(
    function: Callable[[Any], Tree], each: Any, weights: Array, strategy: Strategy = SIDE_BY_SIDE
) -> Tree:
    """sum_k w_k function(each_k), computed by a strategy other than "pooled".

    Args:
        function: of one device.
        each: what it is given, with a leading axis (K, ...).
        weights: (K,) w_k.
        strategy: how.
    """
    count, terms = len(weights), (weights, each)

    def term(item: tuple[Array, Any]) -> Tree:
        return jax.tree.map(lambda t: item[0].astype(t.dtype) * t, function(item[1]))

    match strategy.name:
        case "vmap":
            return _side_by_side(term, terms)
        case "scan":
            return _one_by_one(term, terms)
        case "loop":
            parts = [term(jax.tree.map(lambda t, k=k: t[k], terms)) for k in range(count)]
            return jax.tree.map(lambda *t: sum(t[1:], t[0]), *parts)
        case "chunked":
            chunk = min(strategy.chunk, count)
            padded = _padded(terms, chunk)
            cut = jax.tree.map(lambda t: t.reshape(-1, chunk, *t.shape[1:]), padded)
            return _one_by_one(lambda some: _side_by_side(term, some), cut)
        case "sharded":
            return _over_processors(term, terms)
    raise ValueError(f"strategy = {strategy.name!r}: sums no terms of devices")


def _side_by_side(term: Callable[[Any], Tree], terms: Any) -> Tree:
    return jax.tree.map(lambda t: t.sum(axis=0), jax.vmap(term)(terms))


def _one_by_one(term: Callable[[Any], Tree], terms: Any) -> Tree:
    def add(total: Tree, item: Any) -> tuple[Tree, None]:
        return jax.tree.map(jnp.add, total, term(item)), None

    first = jax.tree.map(lambda t: t[0], terms)
    zero = jax.tree.map(lambda t: jnp.zeros(t.shape, t.dtype), jax.eval_shape(term, first))
    return jax.lax.scan(add, zero, terms)[0]


def _padded(terms: tuple[Array, Any], multiple: int) -> tuple[Array, Any]:
    """The last device repeated without weight, up to a multiple."""
    count = len(terms[0])
    # By position: joined to a repeated end, terms came out wrong over processors in JAX 0.9.2.
    place = np.arange(-(-count // multiple) * multiple)
    weights, each = jax.tree.map(lambda t: t[np.minimum(place, count - 1)], terms)
    return jnp.where(place < count, weights, 0), each


def on_all_processors(tree: Tree) -> Tree:
    """The arrays with a copy at every processor, which "sharded" makes at each call otherwise."""
    everywhere = NamedSharding(_processors(), PartitionSpec())
    copied: Tree = jax.device_put(tree, everywhere)
    return copied


def _processors() -> Mesh:
    return Mesh(np.array(jax.devices()), (_AXIS,))


def _over_processors(term: Callable[[Any], Tree], terms: tuple[Array, Any]) -> Tree:
    processors = jax.devices()
    # Accelerators are filled by many devices side by side, a core's cache by one.
    within = _one_by_one if processors[0].platform == "cpu" else _side_by_side

    def part(some: Any) -> Tree:
        return jax.tree.map(lambda t: jax.lax.psum(t, _AXIS), within(term, some))

    return jax.shard_map(
        part,
        mesh=_processors(),
        in_specs=PartitionSpec(_AXIS),
        out_specs=PartitionSpec(),
        check_vma=False,
    )(_padded(terms, len(processors)))
