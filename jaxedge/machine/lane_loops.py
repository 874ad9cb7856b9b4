"""Loops and branches whose elements carry the batch as last axis."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxedge.machine.lane_values import Lanes, Value, spread


def while_loop(lanes: Lanes, params: dict[str, Any], values: list[Value]) -> list[Value] | None:
    """A while loop that every element leaves at its own time."""
    first, second = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    tested, constants, start = values[:first], values[first:second], values[second:]

    def step(state: list[Value]) -> list[Value]:
        return lanes.run(params["body_jaxpr"], [*constants, *state])

    def goes(state: list[Value]) -> Value:
        return lanes.run(params["cond_jaxpr"], [*tested, *state])[0]

    flags = lanes.fixed(step, start)
    found: list[bool] = []
    jax.eval_shape(
        lambda xs: found.append(goes(list(zip(xs, flags, strict=True)))[1]),
        lanes.arrays(start, flags),
    )
    each = found[0]
    flags = [True] * len(flags) if each else flags

    def named(arrays: list[Array]) -> list[Value]:
        return list(zip(arrays, flags, strict=True))

    def body(arrays: list[Array]) -> list[Array]:
        new = lanes.arrays(step(named(arrays)), flags)
        if not each:
            return new
        moves = goes(named(arrays))[0]
        return [lanes.chosen(moves, a, b) for a, b in zip(new, arrays, strict=True)]

    out = jax.lax.while_loop(
        lambda arrays: jnp.any(goes(named(arrays))[0]), body, lanes.arrays(start, flags)
    )
    return named(out)


def _scan_parts(params: dict[str, Any], values: list[Value]) -> list[list[Value]]:
    """Constants, state and rows of a scan, as either form of its parameters tells them."""
    if "ft_in" in params:
        return [list(part) for part in params["ft_in"].update(values).unpack()]
    first, second = params["num_consts"], params["num_consts"] + params["num_carry"]
    return [values[:first], values[first:second], values[second:]]


def scan(lanes: Lanes, params: dict[str, Any], values: list[Value]) -> list[Value] | None:
    """A scan over rows, of which those that are batches carry it last."""
    constants, start, rows = _scan_parts(params, values)
    count = len(start)

    def step(state: list[Value], row: list[Any]) -> list[Value]:
        seen = [(x, batched) for x, (_, batched) in zip(row, rows, strict=True)]
        return lanes.run(params["jaxpr"], [*constants, *state, *seen])

    flags = lanes.fixed(lambda state: step(state, [x[0] for x, _ in rows])[:count], start)

    def body(arrays: list[Array], row: list[Array]) -> tuple[list[Array], list[Array]]:
        out = step(list(zip(arrays, flags, strict=True)), row)
        ys = [spread(v, lanes.size) for v in out[count:]]
        return lanes.arrays(out[:count], flags), ys

    how = {key: params[key] for key in ("length", "reverse", "unroll")}
    end, ys = jax.lax.scan(
        body, lanes.arrays(start, flags), [jnp.asarray(x) for x, _ in rows], **how
    )
    return [*zip(end, flags, strict=True), *((y, True) for y in ys)]


def cond(lanes: Lanes, params: dict[str, Any], values: list[Value]) -> list[Value] | None:
    """A branch: all of them where elements differ, else the one taken."""
    (index, batched), given = values[0], values[1:]

    def branch(jaxpr: Any, xs: list[Any]) -> list[Array]:
        inputs = [(x, flag) for x, (_, flag) in zip(xs, given, strict=True)]
        return [spread(v, lanes.size) for v in lanes.run(jaxpr, inputs)]

    arrays = [x for x, _ in given]
    if not batched:
        out = jax.lax.switch(index, [partial(branch, b) for b in params["branches"]], arrays)
        return [(x, True) for x in out]
    found, *others = (branch(b, arrays) for b in params["branches"])
    for i, other in enumerate(others, 1):
        taken = index.astype(int) == i
        found = [lanes.chosen(taken, a, b) for a, b in zip(other, found, strict=True)]
    return [(x, True) for x in found]
