"""Convolutions as XLA has them, or as matrix products of unfolded images (im2col).

Side by side, devices have kernels of their own: XLA makes one grouped convolution of theirs, which
is slow on CPUs, while matrix products become batched ones (Chellapilla et al., 2006). With few
outputs these are thin and unfolding takes most of the time: then a product's row is the patch of
a block of 2 x 2 pixels. Pooling is here too, as XLA's own has a slow gradient.
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
_FEW = 32
"""Outputs of a pixel below which blocks are worth their larger kernel."""
_METHOD: ContextVar[str] = ContextVar("convolution", default="direct")


def check_convolution(method: str) -> None:
    """Make sure that a method exists.

    Raises:
        ValueError: if it does not.
    """
    if method not in CONVOLUTIONS:
        raise ValueError(f"convolution = {method!r}: must be one of {', '.join(CONVOLUTIONS)}")


def with_convolution(method: str, function: Callable[..., Result]) -> Callable[..., Result]:
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
    taps = kernel.shape[:-2]
    spread = tuple(dilation or (1,) * len(taps))
    reach = [(size - 1) * gap + 1 for size, gap in zip(taps, spread, strict=True)]
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(x.shape[1:-1], reach, strides, padding)
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    if kernel.shape[-1] < _FEW and {*strides, *spread} == {1}:
        return _by_blocks(x, kernel)
    return _product(x, kernel, strides, spread)


def _product(x: Array, kernel: Array, strides: Any, spread: tuple[int, ...]) -> Array:
    taps = kernel.shape[:-2]
    # Axis by axis, later axes copy long runs where all taps at once would copy single pixels.
    for axis in range(len(taps), 0, -1):
        size, gap, step = taps[axis - 1], spread[axis - 1], strides[axis - 1]
        span = x.shape[axis] - (size - 1) * gap
        pieces = [
            jax.lax.slice_in_dim(x, start, start + span, step, axis)
            for start in range(0, size * gap, gap)
        ]
        x = jnp.concatenate(pieces, axis=-1)
    product = x.reshape(-1, x.shape[-1]) @ kernel.reshape(-1, kernel.shape[-1])
    return product.reshape(*x.shape[:-1], kernel.shape[-1])


def _by_blocks(x: Array, kernel: Array) -> Array:
    """Stride 1 as stride 2 with a shifted copy of the kernel for each pixel of a block."""
    taps, outputs = kernel.shape[:-2], kernel.shape[-1]
    axes = len(taps)
    sizes = [size - tap + 1 for size, tap in zip(x.shape[1:-1], taps, strict=True)]
    x = jnp.pad(x, ((0, 0), *((0, size % 2) for size in sizes), (0, 0)))
    shifted = [
        jnp.pad(kernel, (*((i, 1 - i) for i in pixel), (0, 0), (0, 0)))
        for pixel in itertools.product((0, 1), repeat=axes)
    ]
    y = _product(x, jnp.concatenate(shifted, axis=-1), (2,) * axes, (1,) * axes)
    blocks = y.shape[1:-1]
    y = y.reshape(len(x), *blocks, *(2,) * axes, outputs)
    order = [place for i in range(axes) for place in (1 + i, 1 + axes + i)]
    y = y.transpose(0, *order, 1 + 2 * axes).reshape(len(x), *(2 * n for n in blocks), outputs)
    return y[:, *map(slice, sizes)]


def max_pool(x: Array) -> Array:
    """(n, h // 2, w // 2, c) largest values of 2 x 2 pixels of (n, h, w, c), odd edges left out.

    The gradient of a maximum, shared by equal pixels, is far faster on CPUs than that of XLA's
    window reduction.
    """
    n, height, width, channels = x.shape
    blocks = x[:, : height // 2 * 2, : width // 2 * 2]
    return blocks.reshape(n, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))
