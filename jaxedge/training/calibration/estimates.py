"""From measurements on a path to constants with intervals of 95 %.

Values are of the data at hand, which is what is trained on; an interval covers those data as draws
from their owners' laws, and the choice of points on the path, both in normal approximation:

    se^2 = (se of the mean over samples)^2 + (standard deviation over points)^2 / points.

Points count as independent, which is too wide where a constant drifts along the path. Means over
the path do for the two-stage bound, as its proof sums over rounds; with ``worst`` the largest
value met is taken, as the assumptions word it, and its interval is of the samples alone.
The initial gap and the PL constant are bracketed instead, between two values of F*.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from jaxedge.training.calibration.points import Measured, Owners

_Z = 1.959963984540054
"""Normal quantile of 97.5 %."""
_LEAST = 1e-9
"""Of the value: lower end of an interval that would reach 0, which scenarios do not take."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """A constant: () or, of devices, (K,)."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    unit: str
    how: str
    """One line."""


def _estimate(value: ArrayLike, low: ArrayLike, high: ArrayLike, unit: str, how: str) -> Estimate:
    plain = [np.asarray(number, np.float64) for number in (value, low, high)]
    return Estimate(value=plain[0], low=plain[1], high=plain[2], unit=unit, how=how)


def _over(points: Sequence[Measured], worst: bool) -> str:
    return f"largest of {len(points)} points" if worst else f"mean over {len(points)} points"


def variance(points: Sequence[Measured], owner: str, *, worst: bool) -> Estimate:
    """Variance of one sample's gradient, s_c = mean of |grad l_i - grad F_c|^2, of each owner.

    Args:
        points: of the owner's stage.
        owner: "server" (value of shape ()) or "device" ((K,), of the weights that they train).
        worst: the largest along the path instead of the mean.
    """
    found = [
        point.server_deviation if owner == "server" else point.tuned_deviation for point in points
    ]
    means = np.stack([each.means for each in found])
    sizes = np.diff(found[0].offsets)
    if worst:
        at = means.argmax(axis=0)
        value = means.max(axis=0)
        spread = np.stack([each.errors for each in found])[at, np.arange(len(sizes))]
    else:
        value = means.mean(axis=0)
        # Samples are the same at all points: averaged first, so that this is counted once.
        samples = np.mean([each.values for each in found], axis=0)
        spread = Owners(values=samples, offsets=found[0].offsets).errors
        spread = spread + means.var(axis=0, ddof=1) / len(points)
    # In logarithms, as variances are positive and skewed; n/(n - 1) as the means were fitted.
    relative = _Z * np.sqrt(spread) / np.where(value > 0, value, 1)
    low, high = value * np.exp(-relative), value * np.exp(relative) * sizes / (sizes - 1)
    if owner == "server":
        value, low, high = value[0], low[0], high[0]
    counted = f"{sizes.min()}-{sizes.max()}" if sizes.min() < sizes.max() else f"{sizes[0]}"
    how = f"{_over(points, worst)}, {counted} samples' gradients"
    return _estimate(value, low, high, "(loss/weight)^2", how)


def discrepancy(points: Sequence[Measured], weight: np.ndarray, *, worst: bool) -> Estimate:
    """d2 = |grad F - grad F0|^2 along pre-training.

    The square of a difference of sample means is above that of the laws by the variance of the
    difference, on average; the interval's lower end is without it.

    Args:
        points: of pre-training.
        weight: (K,) w_k.
        worst: the largest along the path instead of the mean.
    """
    values = np.array([point.discrepancy for point in points])
    noise = np.array(
        [_noise(point.device_deviation, point.server_deviation, weight) for point in points]
    )
    # Var |d|^2 = 4 Var <grad F - grad F0, d> + 2 tr Sigma^2.
    slopes = [
        np.square(weight) @ point.device_slope.errors + point.server_slope.errors[0]
        for point in points
    ]
    error = np.sqrt(4 * np.array(slopes) + 2 * np.array([point.noise_squared for point in points]))
    if worst:
        at = values.argmax()
        value, above, error_of = values[at], noise[at], error[at]
    else:
        value, above = values.mean(), noise.mean()
        # Errors are of the same samples at all points: they do not average out.
        error_of = np.hypot(error.mean(), values.std(ddof=1) / np.sqrt(len(points)))
    low, high = value - above - _Z * error_of, value + _Z * error_of
    how = f"{_over(points, worst)} of pre-training, |grad F - grad F0|^2"
    return _estimate(value, max(low, 0), high, "(loss/weight)^2", how)


def _noise(devices: Owners, server: Owners, weight: np.ndarray) -> float:
    """Variance of grad F - grad F0 as an estimate of the laws' difference."""
    each = [owners.means / (np.diff(owners.offsets) - 1) for owners in (devices, server)]
    return float(np.square(weight) @ each[0] + each[1][0])


def smoothness(points: Sequence[Measured], weight: np.ndarray) -> Estimate:
    """L, the largest eigenvalue of F's Hessian at any point of both stages.

    Raises:
        ValueError: if no curvature is positive.
    """
    values = np.array([point.curvature for point in points])
    at = int(values.argmax())
    value = values[at]
    if value <= 0:
        raise ValueError(
            f"smoothness: the largest eigenvalue of the Hessian is {value:.3g} at all points: must "
            "be > 0 somewhere; the loss has no curvature that a bound could use"
        )
    error = float(np.sqrt(np.square(weight) @ points[at].bend.errors))
    low = max(value - _Z * error, _LEAST * value)
    high = value + points[at].residual + _Z * error
    how = f"largest of {len(points)} points, Lanczos on {len(points[at].bend.values)} samples"
    return _estimate(value, low, high, "loss/weight^2", how)


def check_above(point: Measured, lower_loss: float) -> None:
    """Make sure that F is above ``lower_loss``.

    Raises:
        ValueError: where it is not.
    """
    if point.loss <= lower_loss:
        raise ValueError(
            f"lower_loss = {lower_loss!r}: must be below every loss, but {point.loss:.6g} was met "
            f"after {point.rounds} rounds"
        )


def initial_gap(points: Sequence[Measured], lower_loss: float) -> Estimate:
    """F(w0) - F*, where F* lies between ``lower_loss`` and the lowest F met; the former counts.

    Args:
        points: all, the start first.
        lower_loss: below F at all of them, which `check_above` makes sure of.
    """
    losses = np.array([point.loss for point in points])
    gap = losses[0] - lower_loss
    low = max(losses[0] - losses.min(), _LEAST * gap)
    how = f"F(w0) = {losses[0]:.4g}; F* from {lower_loss:.4g} to {losses.min():.4g}, lowest met"
    return _estimate(gap, low, gap, "loss", how)


def pl_constant(
    points: Sequence[Measured], lower_loss: float, lowest: float, smoothness: Estimate
) -> Estimate | str:
    """PL constant mu = min of |grad F|^2/(2 (F - F*)) on pre-training, or why there is none.

    Args:
        points: of pre-training.
        lower_loss: at most F*; gives the value, which is on the safe side.
        lowest: F met anywhere, at least F*; gives the upper end.
        smoothness: mu is at most L.
    """
    losses = np.array([point.loss for point in points])
    halves = np.array([point.gradient_norm_squared for point in points]) / 2
    if losses[-1] >= losses[0]:
        return f"pre-training did not lower F ({losses[0]:.4g} to {losses[-1]:.4g})"
    value = float((halves / (losses - lower_loss)).min())
    if value <= 0:
        return "the gradient vanished above the lowest loss"
    above = losses > lowest
    high = float((halves[above] / (losses[above] - lowest)).min())
    cap = float(smoothness.low)
    how = f"lower envelope of |grad F|^2/(2 (F - F*)) at {len(points)} points of pre-training"
    return _estimate(
        min(value, cap), min(value, cap), min(max(high, value), cap), "loss/weight^2", how
    )
