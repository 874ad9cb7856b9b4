"""Pytrees of arrays with a common leading axis: taken, put, joined and chosen leaf by leaf."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

_Tree = TypeVar("_Tree")


def take(tree: _Tree, index: np.ndarray) -> _Tree:
    """Elements of a batch by position."""
    taken: _Tree = jax.tree.map(lambda x: np.asarray(x)[index], tree)
    return taken


def put(tree: _Tree, index: np.ndarray, values: _Tree) -> _Tree:
    """A batch with the elements at ``index`` replaced."""

    def replaced(x: Any, new: Any) -> np.ndarray:
        out = np.array(x)
        out[index] = new
        return out

    done: _Tree = jax.tree.map(replaced, tree, values)
    return done


def concatenate(trees: Sequence[_Tree]) -> _Tree:
    """One batch of the elements of all, on the host."""
    joined: _Tree = jax.tree.map(lambda *xs: np.concatenate(xs), *trees)
    return joined


def select(mask: ArrayLike, tree: _Tree, other: Any) -> _Tree:
    """``tree`` where ``mask`` holds, ``other`` elsewhere.

    Args:
        mask: of a shape with which that of every leaf begins: () for whole leaves, or (B,).
        tree: arrays.
        other: a tree alike, or one number for all.

    Returns:
        JAX arrays where ``mask`` is one, else host arrays.
    """
    lib = jnp if isinstance(mask, jax.Array) else np
    others = jax.tree.map(lambda _: other, tree) if isinstance(other, int | float) else other

    def chosen(x: Any, y: Any) -> Any:
        inner = range(np.ndim(mask), np.ndim(x)) if np.ndim(mask) else ()
        return lib.where(lib.expand_dims(mask, tuple(inner)), x, y)

    found: _Tree = jax.tree.map(chosen, tree, others)
    return found
