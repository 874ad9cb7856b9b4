"""Convolutions as XLA has them, or as matrix products of unfolded images (im2col).

Side by side, devices have kernels of their own: XLA makes one grouped convolution of theirs, which
is slow on CPUs, while matrix products become batched ones (Chellapilla et al., 2006).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

Result = TypeVar("Result")

CONVOLUTIONS = ("direct", "im2col")
"""How a convolution may be computed."""
_METHOD: ContextVar[str] = ContextVar("convolution", default="direct")


def check_convolution(method: str) -> None:
    """Make sure that a method exists.

    Raises:
        ValueError: if it does not.
    """
    if method not in CONVOLUTIONS:
        raise ValueError(f"convolution = {method!r}: must be one of {', '.join(CONVOLUTIONS)}")


def computed_as(method: str, function: Callable[..., Result]) -> Callable[..., Result]:
    """The function with what calls `convolution` computed by a method while it is traced."""
    check_convolution(method)

    def run(*args: Any) -> Result:
        token = _METHOD.set(method)
        try:
            return function(*args)
        finally:
            _METHOD.reset(token)

    return run


def convolution(
    x: Array,
    kernel: Array,
    strides: Any,
    padding: Any,
    *,
    lhs_dilation: Any = None,
    rhs_dilation: Any = None,
    feature_group_count: int = 1,
    **rest: Any,
) -> Array:
    """`jax.lax.conv_general_dilated` by the method at work; give it to `flax.nnx.Conv`.

    Dilated inputs and grouped features are always computed directly.
    """
    whole = feature_group_count == 1 and set(lhs_dilation or (1,)) == {1}
    if _METHOD.get() == "im2col" and whole:
        return unfolded_convolution(x, kernel, strides, padding, rhs_dilation)
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        feature_group_count=feature_group_count,
        **rest,
    )


def unfolded_convolution(
    x: Array, kernel: Array, strides: Any, padding: Any, dilation: Any = None
) -> Array:
    """A convolution as the product of unfolded images and the kernel's matrix.

    y[n, p, o] = sum over taps t and channels c of x[n, p strides + t dilation, c] kernel[t, c, o]

    Args:
        x: (n, ..., c) images, channels last, padded as asked for.
        kernel: (taps ..., c, o).
        strides: of each spatial axis.
        padding: "SAME", "VALID", or (before, after) of each spatial axis.
        dilation: of each spatial axis of the kernel, by default 1.

    Returns:
        (n, ..., o)
    """
    taps, (inputs, outputs) = kernel.shape[:-2], kernel.shape[-2:]
    spread = tuple(dilation or (1,) * len(taps))
    reach = [(size - 1) * gap + 1 for size, gap in zip(taps, spread, strict=True)]
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(x.shape[1:-1], reach, strides, padding)
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    spans = [
        (size - far) // step * step + 1
        for size, far, step in zip(x.shape[1:-1], reach, strides, strict=True)
    ]
    pieces = []
    for tap in itertools.product(*map(range, taps)):
        starts = [i * gap for i, gap in zip(tap, spread, strict=True)]
        window = [
            slice(start, start + span, step)
            for start, span, step in zip(starts, spans, strides, strict=True)
        ]
        pieces.append(x[:, *window])
    unfolded = jnp.concatenate(pieces, axis=-1)
    product = unfolded.reshape(-1, len(pieces) * inputs) @ kernel.reshape(-1, outputs)
    return product.reshape(*unfolded.shape[:-1], outputs)
