"""Along which curvatures gradients are noisy: their variance in the eigenspaces of F's Hessian.

With Sigma the covariance of one sample's gradient and H v_i = h_i v_i, what is wanted is the
measure sum_i v_i' Sigma v_i delta(h - h_i). For a random sign e_i of every sample,

    z = sum_i e_i (g_i - mean g)/sqrt(n),      E z z' = Sigma,

and k steps of Lanczos from z give the Gauss quadrature of z' f(H) z: nodes are the Ritz values,
weights |z|^2 s_1^2 with s_1 the first entries of the tridiagonal matrix' eigenvectors (Golub and
Meurant, Matrices, Moments and Quadrature, 2010). All samples count in every draw, and no single
sample's gradient is held. The mean over draws is unbiased for all f that are polynomials of degree
2 k - 1 at most.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from jaxedge.training.calibration.samples import thin
from jaxedge.training.data.samples import Samples
from jaxedge.training.models.tasks import Task
from jaxedge.training.rounds.measuring import (
    owners_of,
    task_gradient,
    weighted_loss_and_gradient,
)

STEPS = 15
"""Of Lanczos."""
DRAWS = 16
"""Of random signs."""
SAMPLES = 2048
"""Of the devices together, and of the server, that gradients and curvature are measured on."""


def curvature_grid(*rates: float, count: int = 30) -> np.ndarray:
    """(J,) curvatures, log-spaced from 2.5e-5 to 0.95 over the larger learning rate.

    Below, nothing moves in thousands of rounds; above, rounds would overshoot.
    """
    return np.geomspace(2.5e-5, 0.95, count) / max(rates)


class NoiseMeter:
    """A compiled program that measures both stages' noise spectra at given weights."""

    def __init__(
        self,
        task: Task,
        device_weight: np.ndarray,
        *,
        seed: int,
        samples: int = SAMPLES,
        draws: int = DRAWS,
    ) -> None:
        """Choose the samples.

        Args:
            task: data and loss.
            device_weight: (K,) w_k.
            seed: of that choice, and of the signs.
            samples: of the server, and of the devices together, at most.
            draws: of signs.
        """
        each = max(samples // len(task.sizes), 2)
        server = thin(task.server_samples, samples, seed)
        devices = thin(task.device_samples, each, seed + 1)
        share = jnp.asarray(device_weight)
        loss = task.loss

        def gradient(weights: Any) -> Any:
            return task_gradient(loss, weights, devices, share)

        def nodes(weights: Any, key: Array) -> tuple[Array, Array]:
            """Tridiagonal matrices (2, draws, k, 2) of both stages and |z|^2 (2, draws)."""

            def product(vector: Array) -> Array:
                tangent = ravel_pytree(weights)[1](vector)
                return ravel_pytree(jax.jvp(gradient, (weights,), (tangent,))[1])[0]

            def drawn(data: Samples, share: Array, own: Any, key: Array) -> Any:
                signs = _signs(data, share, key)
                noise = own(weighted_loss_and_gradient(loss, weights, data, signs)[1])
                start = ravel_pytree(noise)[0]
                return tridiagonal(product, start, min(STEPS, start.size)), start @ start

            stages = ((server, jnp.ones(1), lambda g: g), (devices, share, partial(_tuned, task)))
            found = [
                jax.lax.map(partial(drawn, *stage), jax.random.split(one, draws))
                for stage, one in zip(stages, jax.random.split(key), strict=True)
            ]
            return jax.tree.map(lambda *both: jnp.stack(both), *found)

        self._nodes = jax.jit(nodes)
        self._key, self._count = jax.random.fold_in(jax.random.key(seed), 4), 0

    def __call__(self, weights: Any, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Variances c0_j and the devices' c_j along the modes near each curvature of a grid.

        Signs are drawn anew at every call.

        The devices' are those of sum_k w_k^2 Sigma_k / sum_k w_k^2.

        Args:
            weights: where.
            grid: (J,) increasing.

        Returns:
            Two arrays (J,).
        """
        key = jax.random.fold_in(self._key, self._count)
        self._count += 1
        matrices, sizes = jax.device_get(self._nodes(weights, key))
        found = [_binned(*each, grid) for each in zip(matrices, sizes, strict=True)]
        return found[0], found[1]


def _signs(data: Samples, share: Array, key: Array) -> Array:
    """(n,) shares of the samples' gradients in z, summing to 0 at each owner."""
    owner, owners = owners_of(data), len(share)
    sizes = jnp.diff(data.offsets)
    signs = jax.random.rademacher(key, (len(data.y),), jnp.float32)
    centred = signs - (jax.ops.segment_sum(signs, owner, owners) / sizes)[owner]
    scale = share / jnp.linalg.norm(share) / jnp.sqrt(sizes)
    return centred * scale[owner]


def _tuned(task: Task, gradient: Any) -> Any:
    """A gradient without the leaves that the devices leave as they are."""
    zero = jax.tree.map(jnp.zeros_like, gradient)
    return task.with_tuned(zero, task.tuned_of(gradient))


def tridiagonal(product: Callable[[Array], Array], start: Array, steps: int) -> Array:
    """(steps, 2) diagonal and what stands beside it after Lanczos with full orthogonalisation.

    Where the Krylov space is exhausted all later entries are 0: nodes of weight 0.

    Args:
        product: v (n,) -> H v (n,).
        start: (n,) not 0.
        steps: at most n.
    """
    least = 100 * jnp.finfo(start.dtype).eps

    def unit(vector: Array, scale: Array) -> tuple[Array, Array]:
        norm = jnp.linalg.norm(vector)
        kept = norm > least * scale
        return jnp.where(kept, vector / jnp.where(kept, norm, 1), 0), jnp.where(kept, norm, 0)

    def step(carry: tuple[Array, Array], row: Array) -> tuple[Any, Array]:
        basis, vector = carry
        basis = basis.at[row].set(vector)
        image = product(vector)
        first = basis @ image
        rest = image - first @ basis
        rest = rest - (basis @ rest) @ basis
        after, beside = unit(rest, jnp.linalg.norm(image))
        return (basis, after), jnp.stack([first[row], beside])

    basis = jnp.zeros((steps, start.size), start.dtype)
    begin = unit(start, jnp.zeros((), start.dtype))[0]
    return jax.lax.scan(step, (basis, begin), jnp.arange(steps))[1]


def _binned(matrices: np.ndarray, sizes: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """(J,) mean over draws of the Ritz weights, each shared by the two nearest curvatures.

    Shares are linear in log h; what lies beyond an end, negative curvatures too, goes to the end.
    """
    values, weights = ritz(matrices, sizes)
    place = np.interp(np.log(np.maximum(values, grid[0])), np.log(grid), np.arange(len(grid)))
    low = np.minimum(place.astype(int), len(grid) - 2)
    upper = place - low
    total = np.zeros(len(grid))
    np.add.at(total, low, weights * (1 - upper))
    np.add.at(total, low + 1, weights * upper)
    return total / len(sizes)


def ritz(matrices: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights (draws, k) of tridiagonal matrices (draws, k, 2) from |z|^2 (draws,)."""
    diagonal, beside = matrices[..., 0], matrices[..., :-1, 1]
    place = np.arange(diagonal.shape[-1])
    full = np.zeros((*diagonal.shape, len(place)))
    full[:, place, place] = diagonal
    full[:, place[:-1], place[1:]] = full[:, place[1:], place[:-1]] = beside
    values, vectors = np.linalg.eigh(full)
    return values, sizes[:, None] * np.square(vectors[:, 0])
