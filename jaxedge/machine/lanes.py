"""Batches along the last axis of everything: `jax.vmap` for functions of small arrays, on CPUs.

`jax.vmap` puts the batch first, so that XLA's innermost loops run over axes of a few entries. Here
each primitive operation of a function of one element is carried out with the batch last: innermost
loops run over the batch and fill vectors. Operations without a rule of their own fall back on vmap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from jaxedge.machine import lane_loops
from jaxedge.machine.lane_values import Lanes, Rule, Value, spread

_Tree = TypeVar("_Tree")


def map_lanes(fn: Callable[..., _Tree], width: int | None = None) -> Callable[..., _Tree]:
    """A function of batches with a leading axis from a function of one element, as by `jax.vmap`.

    Args:
        fn: of pytrees of arrays, to pytrees of arrays; it must not be differentiated afterwards.
        width: elements that are carried out side by side where it divides the batch, so that they
            stay in cache and few wait for the slowest; all of them without.

    Returns:
        The function of batches; inside, the batch is the last axis of every array.
    """

    def mapped(*batches: Any) -> _Tree:
        size = jax.tree.leaves(batches)[0].shape[0]
        if width is None or size <= width or size % width:
            return _side_by_side(fn, batches)
        parts = jax.tree.map(
            lambda x: jnp.reshape(x, (size // width, width, *x.shape[1:])), batches
        )
        out = jax.lax.map(lambda part: _side_by_side(fn, part), parts)
        joined: _Tree = jax.tree.map(lambda x: jnp.reshape(x, (size, *x.shape[2:])), out)
        return joined

    return mapped


def _side_by_side(fn: Callable[..., _Tree], batches: tuple[Any, ...]) -> _Tree:
    leaves, tree = jax.tree.flatten(batches)
    size = leaves[0].shape[0]
    one = [jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for x in leaves]

    def flat(*xs: Any) -> _Tree:
        return fn(*jax.tree.unflatten(tree, xs))

    jaxpr, shape = jax.make_jaxpr(flat, return_shape=True)(*one)
    values = [(jnp.moveaxis(jnp.asarray(x), 0, -1), True) for x in leaves]
    out = [jnp.moveaxis(spread(x, size), -1, 0) for x in Lanes(size, _RULES).run(jaxpr, values)]
    done: _Tree = jax.tree.unflatten(jax.tree.structure(shape), out)
    return done


def _broadcast(lanes: Lanes, params: dict[str, Any], values: list[Value]) -> list[Value] | None:
    x, shape = values[0][0], params["shape"]
    axes = (*params["broadcast_dimensions"], len(shape))
    return [(jax.lax.broadcast_in_dim(x, (*shape, lanes.size), axes), True)]


def _reshape(lanes: Lanes, params: dict[str, Any], values: list[Value]) -> list[Value] | None:
    return [(jax.lax.reshape(values[0][0], (*params["new_sizes"], lanes.size)), True)]


def _transpose(lanes: Lanes, params: dict[str, Any], values: list[Value]) -> list[Value] | None:
    order = params["permutation"]
    return [(jax.lax.transpose(values[0][0], (*order, len(order))), True)]


def _slice(lanes: Lanes, params: dict[str, Any], values: list[Value]) -> list[Value] | None:
    strides = params["strides"] or (1,) * len(params["start_indices"])
    return [
        (
            jax.lax.slice(
                values[0][0],
                (*params["start_indices"], 0),
                (*params["limit_indices"], lanes.size),
                (*strides, 1),
            ),
            True,
        )
    ]


def _pad(lanes: Lanes, params: dict[str, Any], values: list[Value]) -> list[Value] | None:
    (x, batched), (filling, batched_filling) = values
    if batched_filling or not batched:
        return None
    return [(jax.lax.pad(x, filling, (*params["padding_config"], (0, 0, 0))), True)]


def _select(lanes: Lanes, params: dict[str, Any], values: list[Value]) -> list[Value] | None:
    which, *cases = lanes.alike(values)
    return [(jax.lax.select_n(which, *cases), True)]


_RULES: dict[str, Rule] = {
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "pad": _pad,
    "select_n": _select,
    "while": lane_loops.while_loop,
    "scan": lane_loops.scan,
    "cond": lane_loops.cond,
}
