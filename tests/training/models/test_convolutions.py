"""Unfolded convolutions are convolutions, for images and gradients alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.training.models.convolutions import (
    convolution,
    max_pool,
    unfolded_convolution,
    with_convolution,
)
from jaxedge.training.models.networks import model, trainable

ORDER = ("NHWC", "HWIO", "NHWC")
RNG = np.random.default_rng(3)


@pytest.mark.parametrize("strides", [(1, 1), (2, 1), (3, 2)])
@pytest.mark.parametrize("padding", ["SAME", "VALID", ((2, 0), (1, 3))])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1)])
@pytest.mark.parametrize("outputs", [4, 32])
def test_products_of_unfolded_images_are_the_convolution(strides, padding, dilation, outputs):
    """With few outputs and stride 1, blocks of 2 x 2 pixels are; here both sides may be odd."""
    x, kernel = RNG.normal(size=(2, 8, 7, 3)), RNG.normal(size=(3, 2, 3, outputs))

    def direct(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, strides, padding, rhs_dilation=dilation, dimension_numbers=ORDER
        )

    def unfolded(x, kernel):
        return unfolded_convolution(x, kernel, strides, padding, dilation)

    one, back = jax.vjp(direct, x, kernel)
    two, back_too = jax.vjp(unfolded, x, kernel)
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-12)
    towards = RNG.normal(size=one.shape)
    for a, b in zip(back(towards), back_too(towards), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("outputs", "columns"), [(16, 6 * 6 * 2), (32, 5 * 5 * 2)])
def test_few_outputs_are_computed_by_blocks(outputs, columns):
    """A patch of a block of 5 x 5 taps has 6 x 6 pixels, and all four outputs come of it."""
    x, kernel = jnp.zeros((1, 8, 8, 2)), jnp.zeros((5, 5, 2, outputs))
    unfolded = primitives(lambda *a: unfolded_convolution(*a, (1, 1), "SAME"), x, kernel)
    rows, wide = (16, 4 * outputs) if outputs < 32 else (64, outputs)
    assert f"f64[{rows},{columns}]" in unfolded
    assert f"f64[{rows},{wide}] = dot_general" in unfolded


@pytest.mark.parametrize(("length", "strides"), [(9, 1), (9, 2), (6, 1)])
def test_sequences_are_convolved_too(length, strides):
    x, kernel = RNG.normal(size=(2, length, 3)), RNG.normal(size=(3, 3, 5))
    expected = jax.lax.conv_general_dilated(
        x, kernel, (strides,), "SAME", dimension_numbers=("NHC", "HIO", "NHC")
    )
    found = unfolded_convolution(x, kernel, (strides,), "SAME")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def primitives(function, *args):
    return str(jax.make_jaxpr(function)(*args))


@pytest.mark.every_python
@pytest.mark.parametrize("name", ["lenet5", "vit"])
def test_models_compute_their_convolutions_as_told(name):
    with jax.numpy_rank_promotion("allow"):
        weights, loss, _ = trainable(model(name, (8, 8, 1), 10))
        x, y = jnp.asarray(RNG.random((2, 8, 8, 1)), "float32"), jnp.array([0, 1])
        assert "conv_general_dilated" in primitives(loss, weights, x, y)
        unfolded = with_convolution("im2col", loss)
        assert "conv_general_dilated" not in primitives(unfolded, weights, x, y)
        if name == "lenet5":
            one, two = loss(weights, x, y), unfolded(weights, x, y)
            np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
        assert "conv_general_dilated" in primitives(loss, weights, x, y)


@pytest.mark.parametrize("more", [{"feature_group_count": 2}, {"lhs_dilation": (2, 1)}])
def test_what_cannot_be_unfolded_is_computed_directly(more):
    groups = more.get("feature_group_count", 1)
    x, kernel = RNG.normal(size=(1, 5, 5, 4)), RNG.normal(size=(3, 3, 4 // groups, 2))

    def run(x, kernel):
        return convolution(x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=ORDER, **more)

    found = with_convolution("im2col", run)(x, kernel)
    np.testing.assert_array_equal(found, run(x, kernel))


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="convolution = 'fft': must be one of direct, im2col"):
        with_convolution("fft", lambda: None)


def test_equal_pixels_share_the_gradient_of_their_pool():
    """Which is a subgradient: not negative, nothing to smaller pixels, one in all."""
    x = jnp.array([[3.0, 1.0, 2.0], [3.0, 0.0, 5.0], [9.0, 9.0, 9.0]])[None, :, :, None]
    slope = jax.grad(lambda x: max_pool(x).sum())(x)[0, :, :, 0]
    np.testing.assert_array_equal(slope, [[0.5, 0, 0], [0.5, 0, 0], [0, 0, 0]])
