"""Arrays of which some carry the batch as last axis, and the running of a jaxpr on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend import core

Value = tuple[Any, bool]
"""An array, and whether its last axis is the batch."""

_CALLS = ("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "remat", "checkpoint")
_SAME = frozenset(
    [
        "abs",
        "add",
        "add_any",
        "and",
        "argmax",
        "argmin",
        "asin",
        "atan",
        "atan2",
        "cbrt",
        "ceil",
        "clamp",
        "concatenate",
        "convert_element_type",
        "copy",
        "copy_p",
        "cos",
        "cosh",
        "cummax",
        "cummin",
        "cumsum",
        "div",
        "eq",
        "erf",
        "exp",
        "exp2",
        "expm1",
        "floor",
        "ge",
        "gt",
        "integer_pow",
        "is_finite",
        "le",
        "log",
        "log1p",
        "logistic",
        "lt",
        "max",
        "min",
        "mul",
        "ne",
        "neg",
        "nextafter",
        "not",
        "or",
        "pow",
        "real",
        "reduce_and",
        "reduce_max",
        "reduce_min",
        "reduce_or",
        "reduce_prod",
        "reduce_sum",
        "rem",
        "round",
        "rsqrt",
        "sign",
        "sin",
        "sinh",
        "split",
        "sqrt",
        "square",
        "squeeze",
        "stack",
        "stop_gradient",
        "sub",
        "tan",
        "tanh",
        "unstack",
        "xor",
    ]
)
"""Whose parameters do not change when an axis is added at the end."""


def spread(value: Value, size: int) -> Array:
    """The array with a batch axis at the end."""
    x, batched = value
    if batched:
        return jnp.asarray(x)
    x = jnp.asarray(x)
    return jax.lax.broadcast_in_dim(x, (*x.shape, size), tuple(range(x.ndim)))


Rule = Callable[["Lanes", dict[str, Any], list[Value]], list[Value] | None]
"""(lanes, parameters of the operation, operands) -> results, None where it does not apply."""


class Lanes:
    """Carries out a jaxpr on batches of one size."""

    def __init__(self, size: int, rules: Mapping[str, Rule]) -> None:
        self.size, self.rules = size, rules

    def run(self, jaxpr: Any, values: Sequence[Value]) -> list[Value]:
        """The outputs of a jaxpr, open (without constants) or closed."""
        known: dict[Any, Value] = {}
        inner = getattr(jaxpr, "jaxpr", jaxpr)
        for variable, constant in zip(inner.constvars, getattr(jaxpr, "consts", ()), strict=True):
            known[variable] = (constant, False)
        known.update(zip(inner.invars, values, strict=True))

        def read(atom: Any) -> Value:
            return (atom.val, False) if isinstance(atom, core.Literal) else known[atom]

        for equation in inner.eqns:
            found = self._apply(equation, [read(atom) for atom in equation.invars])
            known.update(zip(equation.outvars, found, strict=True))
        return [read(atom) for atom in inner.outvars]

    def _apply(self, equation: Any, values: list[Value]) -> list[Value]:
        name, params = equation.primitive.name, equation.params
        if name in _CALLS:
            inner = next(params[key] for key in ("jaxpr", "call_jaxpr") if key in params)
            return self.run(inner, values)
        if not any(batched for _, batched in values):
            return self._bind(equation, [x for x, _ in values], batched=False)
        if name in _SAME:
            return self._bind(equation, self.alike(values))
        rule = self.rules.get(name)
        found = rule(self, params, values) if rule else None
        return self._mapped(equation, values) if found is None else found

    def alike(self, values: list[Value]) -> list[Array]:
        """Arrays with a batch axis, numbers among them spread to the shape of the others."""
        arrays = [spread(v, self.size) for v in values]
        widest = max(arrays, key=lambda x: x.ndim)
        ones = (1,) * (widest.ndim - 1)
        return [
            x
            if x.ndim == widest.ndim
            else jnp.broadcast_to(jnp.reshape(x, (*ones, self.size)), widest.shape)
            for x in arrays
        ]

    def _bind(self, equation: Any, args: list[Any], batched: bool = True) -> list[Value]:
        params = equation.primitive.get_bind_params(equation.params)
        out = equation.primitive.bind(*args, **params)
        return [(x, batched) for x in (out if equation.primitive.multiple_results else [out])]

    def _mapped(self, equation: Any, values: list[Value]) -> list[Value]:
        """Any operation, by vmap."""
        axes = [-1 if batched else None for _, batched in values]

        def one(*args: Any) -> list[Any]:
            return [x for x, _ in self._bind(equation, list(args))]

        out = jax.vmap(one, in_axes=axes, out_axes=-1)(*(x for x, _ in values))
        return [(x, True) for x in out]

    def fixed(self, step: Callable[[list[Value]], list[Value]], start: list[Value]) -> list[bool]:
        """Which entries of a loop's state are batches, found as a fixed point."""
        wider = [batched for _, batched in start]
        flags: list[bool] | None = None
        found: list[bool] = []

        def trace(arrays: list[Any], flags: list[bool]) -> list[Any]:
            out = step(list(zip(arrays, flags, strict=True)))
            found[:] = [batched for _, batched in out]
            return [x for x, _ in out]

        while flags is None or wider != flags:
            flags = wider
            jax.eval_shape(partial(trace, flags=flags), self.arrays(start, flags))
            wider = [a or b for a, b in zip(flags, found, strict=True)]
        return flags

    def arrays(self, values: list[Value], flags: Sequence[bool]) -> list[Array]:
        """Arrays with a batch axis where the flag says so."""
        return [
            spread(v, self.size) if flag else jnp.asarray(v[0])
            for v, flag in zip(values, flags, strict=True)
        ]

    def chosen(self, which: Array, new: Array, old: Array) -> Array:
        """New where ``which`` (B,), else old; both with the batch last."""
        shape = (1,) * (new.ndim - 1) + (self.size,)
        return jnp.where(jnp.reshape(which, shape), new, old)
