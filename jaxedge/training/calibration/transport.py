"""How far apart the two stages' data lie: a Wasserstein distance, by OTT-JAX.

The discrepancy of the bound is at most (zeta W1)^2 where a sample's gradient is zeta-Lipschitz in
the sample (docs/theory.md), with W1 in the same metric of samples:

    W1 = min over couplings P of sum_ij P_ij d(i, j),   d = |x_i - x_j| + label_cost [y_i != y_j]
"""

from __future__ import annotations

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxedge.training.models.tasks import Task
from jaxedge.words.choices import check_whole

SAMPLES = 1000
"""Of each stage at most that are compared: costs grow with their square."""
_SOFTNESS, _ERROR = 1e-2, 1e-2
"""Entropy's weight in Sinkhorn's iteration over the mean distance of two samples, and the error of
the coupling's sums at which it ends; the bracket tells what both cost."""
_SHUFFLES = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distance:
    """A Wasserstein distance of two data sets, with proof of how exactly it is known."""

    value: float
    """Cost of a coupling: the distance is at most this."""
    low: float
    """Value of the dual: the distance is at least this."""
    by_chance: float
    """What two such draws from both stages' data together are apart: none, in the limit."""
    label_cost: float
    """Distance of two labels that differ, in units of |x|."""
    samples: tuple[int, int]
    """Compared, of the server and of the devices."""


def check_importable() -> None:
    """Make sure that OTT-JAX is there.

    Raises:
        ValueError: naming the extra that brings it.
    """
    try:
        with warnings.catch_warnings():  # of what OTT-JAX itself imports
            warnings.filterwarnings("ignore", "JAXopt is no longer maintained", DeprecationWarning)
            import ott  # noqa: F401
    except ImportError:
        raise ValueError(
            "--wasserstein needs ott-jax, which is not installed: pip install 'jaxedge[transport]'"
        ) from None


def distance(
    task: Task,
    device_weight: np.ndarray,
    *,
    label_cost: float | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Distance:
    """W1 between the server's data and the devices', each device of its weight.

    Args:
        task: its data.
        device_weight: (K,) of the devices, with sum 1.
        label_cost: distance of two labels that differ; by default the mean of |x - x'|, so that
            another label is as far as another image.
        samples: of each stage at most, a random choice where there are more.
        seed: of random choices.

    Raises:
        ValueError: if an option is not valid, or OTT-JAX is not installed.
    """
    check_whole("samples", samples, 2)
    if label_cost is not None and not (np.isfinite(label_cost) and label_cost >= 0):
        raise ValueError(f"label_cost = {label_cost!r}: must be a finite number >= 0")
    rng = np.random.default_rng(seed)
    share = np.repeat(np.asarray(device_weight) / task.sizes, task.sizes)
    uniform = np.full(len(task.general), 1 / len(task.general))
    parts = [(task.general, uniform), (task.devices, share / share.sum())]
    x, y, masses = [], [], []
    for data, mass in parts:
        if len(data) > samples:
            index, mass = rng.choice(len(data), samples, p=mass), np.full(samples, 1 / samples)
        else:
            index = np.arange(len(data))
        x.append(data.x[index].reshape(len(index), -1))
        y.append(data.y[index])
        masses.append(mass)
    apart = _distances(np.concatenate(x))
    labels = np.concatenate(y)
    cost_of_label = float(apart.mean()) if label_cost is None else float(label_cost)
    apart = apart + cost_of_label * (labels[:, None] != labels[None])
    first = len(x[0])
    low, high = transport_cost(apart[:first, first:], *masses)
    chance = []
    for _ in range(_SHUFFLES):
        order = rng.permutation(len(apart))
        chance.append(transport_cost(apart[np.ix_(order[:first], order[first:])], *masses)[1])
    return Distance(
        value=high,
        low=low,
        by_chance=float(np.mean(chance)),
        label_cost=cost_of_label,
        samples=(first, len(x[1])),
    )


def _distances(x: np.ndarray) -> np.ndarray:
    """(n, n) Euclidean distances of rows."""
    x = x.astype(np.float64)
    squares = np.sum(x * x, axis=1)
    return np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * x @ x.T, 0))


def transport_cost(cost: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """A bracket of the optimal transport cost min <P, cost> over couplings P of a and b.

    Sinkhorn's potentials are made feasible by a c-transform, which gives the lower end, and its
    coupling by the rounding of Altschuler, Weed and Rigollet (2017), which gives the upper one.

    Args:
        cost: (n, m) >= 0.
        a: (n,) masses with sum 1.
        b: (m,) masses with sum 1.

    Returns:
        (low, high), equal up to Sinkhorn's softness, and valid also where Sinkhorn fails.
    """
    check_importable()
    scale = max(float(cost.mean()), np.finfo(float).tiny)
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):  # OTT-JAX relies on promotion
        given = (jnp.asarray(cost / scale), jnp.asarray(a), jnp.asarray(b))
        potential, coupling = map(np.nan_to_num, jax.device_get(_sinkhorn(*given)))
    potential = potential * scale
    g = np.min(cost - potential[:, None], axis=0)
    f = np.min(cost - g[None], axis=1)
    low = max(float(f @ a + g @ b), 0.0)
    rows = np.minimum(a / np.maximum(coupling.sum(axis=1), np.finfo(float).tiny), 1)
    coupling = coupling * rows[:, None]
    columns = np.minimum(b / np.maximum(coupling.sum(axis=0), np.finfo(float).tiny), 1)
    coupling = coupling * columns[None]
    lacking = a - coupling.sum(axis=1), b - coupling.sum(axis=0)
    missing = max(float(lacking[0].sum()), np.finfo(float).tiny)
    rest = float(lacking[0] @ cost @ lacking[1]) / missing
    return low, float(np.sum(coupling * cost)) + rest


@jax.jit
def _sinkhorn(cost: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """Potential (n,) and coupling (n, m) of the entropic problem at costs of mean 1."""
    from ott.geometry.geometry import Geometry
    from ott.problems.linear.linear_problem import LinearProblem
    from ott.solvers.linear.sinkhorn import Sinkhorn

    geometry = Geometry(cost_matrix=cost, epsilon=_SOFTNESS)
    found = Sinkhorn(threshold=_ERROR, max_iterations=2000)(LinearProblem(geometry, a, b))
    return found.f, found.matrix
