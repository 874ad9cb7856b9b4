"""What is measured at one point of a trial run's path."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from jaxedge.training.calibration.lanczos import largest_eigenvalue
from jaxedge.training.calibration.path import Point
from jaxedge.training.calibration.samples import Moments, bends, moments, slopes, thin
from jaxedge.training.data.samples import Samples
from jaxedge.training.models.tasks import Task
from jaxedge.training.rounds.measuring import squared_norm, task_gradient

_PROBES = 8
"""Random directions in which a covariance is looked at."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Owners:
    """Something of every sample of C owners, one after the other."""

    values: np.ndarray
    """(n,) float64."""
    offsets: np.ndarray
    """(C + 1,)"""

    def parts(self) -> list[np.ndarray]:
        """The values of each owner."""
        return np.split(self.values, self.offsets[1:-1])

    @property
    def means(self) -> np.ndarray:
        """(C,) mean of each owner."""
        return np.array([part.mean() for part in self.parts()])

    @property
    def errors(self) -> np.ndarray:
        """(C,) variance of each mean as an estimate of the owner's law."""
        return np.array([part.var(ddof=1) / len(part) for part in self.parts()])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """F is the devices' weighted loss, F0 the server's; both over the samples measured on."""

    rounds: int
    loss: float
    """F"""
    gradient_norm_squared: float
    """|grad F|^2"""
    discrepancy: float
    """|grad F - grad F0|^2"""
    server_deviation: Owners
    """|grad l_i - grad F0|^2 of the server's samples."""
    device_deviation: Owners
    """|grad l_i - grad F_k|^2 of the devices' samples."""
    tuned_deviation: Owners
    """The same, of the weights alone that the devices train."""
    server_slope: Owners
    """<grad l_i, grad F - grad F0> of the server's samples."""
    device_slope: Owners
    """The same of the devices' samples."""
    noise_squared: float
    """Tr Sigma^2, estimated, of the covariance Sigma of grad F - grad F0 as a sample mean."""
    curvature: float
    """Largest eigenvalue of F's Hessian."""
    residual: float
    """An eigenvalue is within it."""
    bend: Owners
    """<v, H_i v> of the devices' samples, v the eigenvector."""


class Meter:
    """Compiled programs that measure points of one task's path."""

    def __init__(self, task: Task, device_weight: np.ndarray, *, samples: int, seed: int) -> None:
        """Choose the samples.

        Args:
            task: data and loss.
            device_weight: (K,) w_k.
            samples: of each owner at most.
            seed: of that choice, and of Lanczos' first vectors.
        """
        self._loss, self._tuned_of = task.loss, task.tuned_of
        self.weight = device_weight
        self.server = thin(task.server_samples, samples, seed)
        self.devices = thin(task.device_samples, samples, seed + 1)
        self._key = jax.random.fold_in(jax.random.key(seed), 3)
        self._share = jnp.asarray(device_weight)
        self._moments = {
            owners: jax.jit(self._moments_of(owners, share))
            for owners, share in (("server", jnp.ones(1)), ("devices", self._share))
        }
        self._slopes = jax.jit(self._slopes_of)
        self._probes = jax.jit(jax.vmap(self._slopes_of, in_axes=(None, 0, None)))
        self._product = jax.jit(self._product_of)
        self._bends = jax.jit(self._bends_of)

    def _data(self, owners: str) -> Samples:
        return self.server if owners == "server" else self.devices

    def _moments_of(self, owners: str, share: Array) -> Callable[[Any, Samples], Moments]:
        width = int(np.diff(np.asarray(self._data(owners).offsets)).max())

        def found(weights: Any, data: Samples) -> Moments:
            return moments(self._loss, weights, data, share, width, self._tuned_of)

        return found

    def _slopes_of(self, weights: Any, direction: Any, data: Samples) -> Array:
        return slopes(self._loss, weights, direction, data)

    def _bends_of(self, weights: Any, direction: Array, data: Samples) -> Array:
        return bends(self._loss, weights, ravel_pytree(weights)[1](direction), data)

    def _product_of(self, direction: Array, weights: Any, data: Samples) -> Array:
        """Hessian of F times a vector: the derivative of the gradient along it."""

        def gradient(w: Any) -> Any:
            return task_gradient(self._loss, w, data, self._share)

        tangent = ravel_pytree(weights)[1](direction)
        return ravel_pytree(jax.jvp(gradient, (weights,), (tangent,))[1])[0]

    def __call__(self, point: Point) -> Measured:
        """Measure one point.

        Raises:
            ValueError: if losses or gradients there are not finite.
        """
        weights = point.weights
        server = self._moments["server"](weights, self.server)
        devices = self._moments["devices"](weights, self.devices)
        losses = self._each("devices", devices.loss, padded=True)
        apart = jax.tree.map(jnp.subtract, devices.gradient, server.gradient)
        found = {
            "loss": float(self.weight @ losses.means),
            "gradient_norm_squared": float(squared_norm(devices.gradient)),
            "discrepancy": float(squared_norm(apart)),
        }
        server_loss = float(self._each("server", server.loss, padded=True).means[0])
        if not np.isfinite([*found.values(), server_loss]).all():
            raise ValueError(
                f"the loss or its gradient is not finite after {point.rounds} rounds of the trial "
                "run: check model and data, or lower the learning rates in the scenario"
            )
        vector = ravel_pytree(weights)[0]
        draw = jax.random.fold_in(self._key, point.rounds)
        top = largest_eigenvalue(
            lambda v: self._product(v, weights, self.devices),
            jax.random.normal(draw, vector.shape, vector.dtype),
        )
        return Measured(
            rounds=point.rounds,
            **found,
            server_deviation=self._each("server", server.deviation, padded=True),
            device_deviation=self._each("devices", devices.deviation, padded=True),
            tuned_deviation=self._each("devices", devices.tuned_deviation, padded=True),
            server_slope=self._each("server", self._slopes(weights, apart, self.server)),
            device_slope=self._each("devices", self._slopes(weights, apart, self.devices)),
            curvature=top.value,
            residual=top.residual,
            noise_squared=self._noise_squared(weights, jax.random.fold_in(draw, 1)),
            bend=self._each("devices", self._bends(weights, top.vector, self.devices)),
        )

    def _noise_squared(self, weights: Any, key: Array) -> float:
        """The mean of (z_i' Sigma z_j)^2 over pairs of independent standard normal z_i and z_j."""
        vector, unravel = ravel_pytree(weights)
        directions = jax.random.normal(key, (_PROBES, *vector.shape), vector.dtype)
        tangents = jax.vmap(unravel)(directions)
        total = np.zeros((_PROBES, _PROBES))
        for owners, share in (("server", np.ones(1)), ("devices", self.weight)):
            data = self._data(owners)
            found = np.asarray(self._probes(weights, tangents, data), np.float64)
            parts = np.split(found, np.asarray(data.offsets)[1:-1], axis=1)
            for part, own in zip(parts, share, strict=True):
                total += own**2 * np.cov(part) / part.shape[1]
        return float(np.square(total[np.triu_indices(_PROBES, 1)]).mean())

    def _each(self, owners: str, values: Array, *, padded: bool = False) -> Owners:
        offsets = np.asarray(self._data(owners).offsets)
        plain = np.asarray(values, np.float64)
        if padded:
            plain = np.concatenate(
                [row[:size] for row, size in zip(plain, np.diff(offsets), strict=True)]
            )
        return Owners(values=plain, offsets=offsets)
