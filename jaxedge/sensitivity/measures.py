"""Global sensitivity measures of a function on the unit cube, with confidence intervals.

The d arguments are independent and uniform on (0, 1): any continuous distributions are, seen
through their quantile functions, and Sobol indices do not change thereby. SciPy and SALib are
imported here only, when a measure is asked for.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

CONFIDENCE = 0.95
"""Level of the intervals."""
_RESAMPLES = 400
"""Of the bootstrap."""
_LEVELS = 4
"""Of the grid that Morris' trajectories walk on."""

Function = Callable[[np.ndarray], np.ndarray]
"""Shares (B, d) -> values (B,)."""
WithGradient = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""Shares (B, d) -> values (B,), gradients (B, d) in the arguments' units, d argument/d share."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measure:
    """One number for each of d parameters, with its confidence interval."""

    estimate: np.ndarray
    """(d,)"""
    low: np.ndarray
    """(d,), nan where no interval is given."""
    high: np.ndarray
    """(d,), nan where no interval is given."""


def sobol(function: Function, count: int, samples: int, seed: int) -> dict[str, Measure]:
    """First and total order Sobol indices by `scipy.stats.sobol_indices`.

    S_i = V[E(f|u_i)]/V[f] and T_i = 1 - V[E(f|u without u_i)]/V[f], with N(d + 2) evaluations in
    one call. The intervals are percentiles of a bootstrap over the N base samples, which takes
    their low-discrepancy points for independent ones: they are rather too wide.

    Raises:
        ValueError: if there is one parameter only, or ``samples`` is not a power of two.
    """
    if count < 2:
        raise ValueError("Sobol indices of one parameter are 1: give at least two ranges")
    check_power_of_two(samples)
    base = _low_discrepancy(2 * count, samples, seed)
    first, second = base[:, :count], base[:, count:]
    mixed = np.tile(first, (count, 1, 1))
    for i in range(count):
        mixed[i, :, i] = second[:, i]
    values = function(np.concatenate([first[None], second[None], mixed]).reshape(-1, count))
    parts = values.reshape(count + 2, samples)
    resampled = [_sobol_of(parts[:, rows]) for rows in _rows(samples, seed)]
    return {
        name: _percentiles(estimate, np.array([one[i] for one in resampled]))
        for i, (name, estimate) in enumerate(
            zip(("total_order", "first_order"), _sobol_of(parts), strict=True)
        )
    }


def _sobol_of(parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(total, first) order indices from the values (d + 2, N) at A, B and A with columns of B."""
    from scipy.stats import sobol_indices

    func = {"f_A": parts[:1], "f_B": parts[1:2], "f_AB": parts[2:, None]}
    found = sobol_indices(func=func, n=parts.shape[1])
    return np.asarray(found.total_order), np.asarray(found.first_order)


def derivative(function: WithGradient, count: int, samples: int, seed: int) -> dict[str, Measure]:
    """Derivative-based measures: mean squared gradients, and what they say of the total indices.

    ``mean_squared_gradient`` is E[(df/dx_i)^2] in the argument's own unit. ``total_order_bound`` is
    E[(df/du_i)^2]/(pi^2 V[f]): no total index is above its true value, by Poincare's inequality
    (Sobol and Kucherenko 2009), as u_i is uniform on (0, 1). Intervals are percentiles of a
    bootstrap over the samples.

    Raises:
        ValueError: if ``samples`` is not a power of two.
    """
    check_power_of_two(samples)
    values, gradients, slopes = function(_low_discrepancy(count, samples, seed))
    own, unit = gradients**2, (gradients * slopes) ** 2
    centred = values - values.mean()
    moments = np.column_stack([centred, centred**2, own, unit])
    counts = np.random.default_rng(seed).multinomial(
        samples, np.full(samples, 1.0 / samples), size=_RESAMPLES
    )
    found, resampled = moments.mean(axis=0), counts @ moments / samples
    return {
        "total_order_bound": _percentiles(_poincare(found, count)[0], _poincare(resampled, count)),
        "mean_squared_gradient": _percentiles(found[2 : 2 + count], resampled[:, 2 : 2 + count]),
    }


def _poincare(moments: np.ndarray, count: int) -> np.ndarray:
    """(R, d) bounds from rows of E f, E f^2, E (df/dx_i)^2 and E (df/du_i)^2; 0 of constants."""
    rows = np.atleast_2d(moments)
    variance = (rows[:, 1] - rows[:, 0] ** 2)[:, None]
    squares = rows[:, 2 + count :]
    return np.divide(squares, math.pi**2 * variance, np.zeros_like(squares), where=variance > 0)


def morris(function: Function, count: int, trajectories: int, seed: int) -> dict[str, Measure]:
    """Morris' elementary effects by SALib: changes of f per whole range of each parameter.

    ``mu_star`` is the mean of their absolute values, ``mu`` their mean, and ``sigma`` their
    standard deviation, which interactions and curvature raise; only mu_star has an interval.

    Raises:
        ValueError: if SALib is absent, or there are fewer than 2 trajectories.
    """
    sampling, analysis = _salib()
    if trajectories < 2:
        raise ValueError(f"samples = {trajectories}: Morris needs at least 2 trajectories")
    names = [f"u{i}" for i in range(count)]
    problem = {"num_vars": count, "names": names, "bounds": [[0.0, 1.0]] * count}
    shares = sampling.sample(problem, trajectories, num_levels=_LEVELS, seed=seed)
    values = function(shares)
    told = analysis.analyze(
        problem, shares, values, conf_level=CONFIDENCE, num_levels=_LEVELS, seed=seed
    )
    effect, margin = np.asarray(told["mu_star"]), np.asarray(told["mu_star_conf"])
    return {
        "mu_star": Measure(
            estimate=effect, low=np.maximum(effect - margin, 0), high=effect + margin
        ),
        "mu": _without_interval(told["mu"]),
        "sigma": _without_interval(told["sigma"]),
    }


def _salib() -> tuple[Any, Any]:
    try:
        from SALib.analyze import morris as analysis
        from SALib.sample import morris as sampling
    except ImportError:
        raise ValueError(
            "the method 'morris' needs SALib, which is not installed: pip install 'jaxedge[global]'"
        ) from None
    return sampling, analysis


def check_power_of_two(samples: int) -> None:
    """Raise ValueError unless low-discrepancy points of this number are balanced."""
    if samples < 2 or samples & (samples - 1):
        near = 2 ** max(round(math.log2(max(samples, 2))), 1)
        raise ValueError(f"samples = {samples}: must be a power of two, such as {near}")


def _low_discrepancy(columns: int, samples: int, seed: int) -> np.ndarray:
    """(N, columns) scrambled Sobol points."""
    from scipy.stats import qmc

    drawn = qmc.Sobol(columns, bits=64, seed=np.random.default_rng(seed)).random(samples)
    return np.asarray(drawn)


def _rows(samples: int, seed: int) -> np.ndarray:
    """(R, N) rows drawn with replacement."""
    drawn = np.random.default_rng(seed).integers(samples, size=(_RESAMPLES, samples))
    return np.asarray(drawn)


def _percentiles(estimate: np.ndarray, resampled: np.ndarray) -> Measure:
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(resampled, [tail, 1.0 - tail], axis=0)
    return Measure(estimate=estimate, low=low, high=high)


def _without_interval(estimate: Any) -> Measure:
    values = np.asarray(estimate)
    nothing = np.full(values.shape, np.nan)
    return Measure(estimate=values, low=nothing, high=nothing)
