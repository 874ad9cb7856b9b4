"""Batches along the last axis give what `jax.vmap` gives, operation by operation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.machine.lanes import map_lanes

SIZE = 5


def _loop(x, y):
    """Elements leave the loop at different times."""
    return jax.lax.while_loop(
        lambda s: s[0] < 10 + y[0], lambda s: (s[0] * 1.5 + 0.1, s[1] + 1), (jnp.sum(x**2), 0)
    )


def _rows(x, y):
    total, each = jax.lax.scan(lambda c, row: (c + row * y[0], c), jnp.zeros(2), x)
    back = jax.lax.fori_loop(0, 3, lambda i, c: c + x[i, 0] * c, 1.0)
    counted = jax.lax.scan(lambda c, _: (c + 1, c), 0, None, length=3)
    return total, each, back, counted


def _branches(x, y):
    chosen = jax.lax.cond(y[0] > 0, lambda z: z + 1, lambda z: 2 * z, x)
    fixed = jax.lax.cond(True, lambda z: z - 1, lambda z: z, x)
    switched = jax.lax.switch(jnp.argmax(y), [lambda z: z, lambda z: -z, lambda z: z**2], y)
    return chosen, fixed, switched, jnp.where(y[0] > 0, x, 0.0)


def _places(x, y):
    i = jnp.argmin(y)
    ones = jnp.ones((3, 2))
    return (
        y[i],
        x.at[i, 0].set(7.0),
        jnp.pad(y, 2),
        jnp.concatenate([y, jnp.zeros(2), x[:, 1]]),
        jnp.stack([x[0], y[:2]]),
        jnp.sort(y),
        x @ x.T,
        (x * ones).T.reshape(6)[1:6:2],
        jnp.eye(3) * y[None],
        jnp.max(x, axis=0) - jnp.min(x),
        jnp.any(x > 0, axis=1) & (y > 0),
    )


def _derivatives(x, y):
    def curve(z):
        return jnp.sum(jnp.exp(z) * jnp.cumsum(z) / jnp.sqrt(1 + z**2)) + jax.nn.relu(z[0])

    return jax.grad(curve)(y), jax.hessian(curve)(y), jax.vmap(jnp.sum)(x), jnp.asarray(3.0)


@pytest.mark.parametrize("fn", [_loop, _rows, _branches, _places, _derivatives])
def test_lanes_give_what_vmap_gives(fn):
    x = jax.random.normal(jax.random.key(0), (SIZE, 3, 2))
    y = jax.random.normal(jax.random.key(1), (SIZE, 3))
    expected, found = jax.jit(jax.vmap(fn))(x, y), jax.jit(map_lanes(fn))(x, y)
    assert jax.tree.structure(expected) == jax.tree.structure(found)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_an_element_that_is_not_a_number_disturbs_no_other():
    x = jnp.ones((SIZE, 3, 2)).at[1].set(jnp.nan)
    total, steps = jax.jit(map_lanes(_loop))(x, jnp.zeros((SIZE, 3)))
    assert np.isnan(total[1]) and steps[1] == 0
    np.testing.assert_array_equal(np.delete(total, 1), total[0])


def test_a_batch_is_split_where_more_lanes_are_given_than_asked_for():
    x, y = jnp.arange(12.0).reshape(4, 3, 1), jnp.ones((4, 3))
    found = jax.jit(map_lanes(lambda a, b: a[:, 0] + b, width=2))(x, y)
    np.testing.assert_array_equal(found, x[:, :, 0] + y)
