"""Trees are masked and joined leaf by leaf, on the host and inside compiled functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.machine.trees import concatenate, put, select, take


def tree(*sizes, fill=1.0):
    return {"a": np.full((3,), fill), "b": (np.full((3, *sizes), fill),)}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("other", [np.nan, tree(2, 4, fill=7.0)])
def test_a_mask_of_elements_chooses_in_every_leaf(compiled, other):
    mask, fallback = np.array([True, False, True]), 7.0 if isinstance(other, dict) else np.nan

    def chosen(mask, values):
        return select(mask, values, other)

    found = (jax.jit(chosen) if compiled else chosen)(mask, tree(2, 4))
    for leaf in jax.tree.leaves(found):
        np.testing.assert_array_equal(np.asarray(leaf)[[0, 2]], 1.0)
        np.testing.assert_array_equal(np.asarray(leaf)[1], fallback)
        assert isinstance(leaf, jax.Array if compiled else np.ndarray)


def test_host_arrays_keep_their_precision():
    values = {"x": np.array([1 + 1e-12, 2.0])}
    assert select(np.array([True, False]), values, np.nan)["x"][0] == 1 + 1e-12


def test_one_mask_chooses_whole_trees():
    first, second = tree(2), tree(2, fill=2.0)
    for mask in (True, False):
        found = select(jnp.asarray(mask), first, second)
        wanted = first if mask else second
        jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_joined_batches_come_apart_again():
    first, second = tree(2), tree(2, fill=2.0)
    both = concatenate([first, second])
    assert both["a"].shape == (6,)
    jax.tree.map(np.testing.assert_array_equal, take(both, np.arange(3, 6)), second)
    back = put(both, np.arange(3, 6), first)
    jax.tree.map(np.testing.assert_array_equal, back, concatenate([first, first]))
