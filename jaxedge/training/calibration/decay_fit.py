"""Start and shift of a task from a pilot's losses, by penalised nonnegative least squares.

At curvatures h_j the end loss is linear in what is left of start and shift (A_j, B_j, C_j), in the
floor and in two multiples of the measured noise. Each atom of the fit is a Gamma density over log h
with an angle phi,

    (A_j, B_j, C_j) = g_j (cos^2 phi, cos phi sin phi, sin^2 phi),    g_j ~ (h_j/s)^a exp(-h_j/s),

of rank one and positive semidefinite, and so is a nonnegative mixture of atoms. With relative
residuals the weights x >= 0 minimise

    |(model - F)/F|^2 + ridge |x|^2 + turn sum_a sin^2(phi_a) x_a^2
        + 100 ridge floor^2 + (noise multiples - 1)^2/30,     x and floor in units of F(w0):

no floor and no shift unless the data ask for them. By Morozov's discrepancy principle, of all fits
within 1.1 times the least residual the one with the strongest penalties is taken, then the least
warm-up (Morozov, Methods for Solving Incorrectly Posed Problems, 1984).
"""

from __future__ import annotations

import dataclasses
import itertools
from functools import cached_property
from typing import Any

import numpy as np

from jaxedge.scenario.scenario import Learning, Spectrum
from jaxedge.training.calibration.observations import Designs, loss_columns

SHAPES = (0.5, 1.0, 2.0, 4.0)
"""a of the Gamma densities."""
SCALES = 12
"""Means a s of the densities, log-spaced over the curvatures."""
ANGLES = np.pi / 12 * np.arange(-5, 7)
"""phi, every 15 degrees; 0 is a start without shift."""
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)
TURNS = (1e-3, 1e-2, 1e-1, 1.0)
WARMUPS = (0.0, 0.05, 0.1, 0.2, 0.4)
"""As shares of the pilot's longest leg."""
DISCREPANCY = 1.1
"""Residuals within it of the least count as the data's noise."""
_FLOOR = 100.0
_NOISE_PRIOR = 0.03
_TRACE = 1e-9
"""Of F(w0): modes with less start and shift have none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Penalties:
    """What a fit is held back by."""

    warmup: float
    """m, rounds at the devices' rate."""
    ridge: float
    turn: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fit:
    """A spectrum and how well it tells the losses."""

    spectrum: Spectrum
    penalties: Penalties
    multiples: tuple[float, float]
    """Of the server's and the devices' measured noise."""
    residuals: np.ndarray
    """(n,) (F - model)/F."""

    @property
    def error(self) -> float:
        """Root mean square of the relative residuals."""
        return float(np.sqrt(np.mean(np.square(self.residuals))))


class DecayFit:
    """Fits to one pilot's losses."""

    def __init__(
        self, designs: Designs, loss: np.ndarray, learning: Learning, noise: Spectrum
    ) -> None:
        """Prepare the atoms.

        Args:
            designs: n measured ones.
            loss: (n,) F > 0, the first at the start.
            learning: rates and the devices' weights.
            noise: curvature and both noises, as measured; the rest does not matter.
        """
        self.designs, self.loss, self.learning, self.noise = designs, loss, learning, noise
        self._matrices: dict[float, np.ndarray] = {}

    @cached_property
    def densities(self) -> np.ndarray:
        """(J, shapes x scales) of sum 1."""
        h = np.asarray(self.noise.curvature)
        found = []
        for shape, mean in itertools.product(SHAPES, np.geomspace(h[0], h[-1], SCALES)):
            logs = shape * (np.log(h / mean) - h / mean)
            density = np.exp(logs - logs.max())
            found.append(density / density.sum())
        return np.stack(found, axis=1)

    def matrix(self, warmup: float) -> np.ndarray:
        """(n, 3 + atoms) floor, both noises and the atoms, over F."""
        if warmup not in self._matrices:
            noise = dataclasses.replace(self.noise, warmup=warmup)
            by = loss_columns(self.learning, noise, self.designs)
            atoms = [
                (c * c * by["start"] + c * s * by["cross"] + s * s * by["shift"]) @ self.densities
                for c, s in zip(np.cos(ANGLES), np.sin(ANGLES), strict=True)
            ]
            unit = self.loss[0]
            columns = [by["floor"] * unit, by["server_noise"], by["device_noise"]]
            whole = np.concatenate([np.stack(columns, axis=1), *(unit * a for a in atoms)], axis=1)
            self._matrices[warmup] = whole / self.loss[:, None]
        return self._matrices[warmup]

    def fit(self, penalties: Penalties, target: np.ndarray | None = None) -> Fit:
        """The fit under some penalties.

        Args:
            penalties: of the fit.
            target: (n,) losses over those measured, 1 by default.
        """
        matrix = self.matrix(penalties.warmup)
        target = np.ones(len(matrix)) if target is None else target
        sines = np.repeat(np.square(np.sin(ANGLES)), self.densities.shape[1])
        weights = penalties.ridge + penalties.turn * sines
        first = [_FLOOR * penalties.ridge, _NOISE_PRIOR, _NOISE_PRIOR]
        found = _nonnegative(matrix, target, np.concatenate([first, weights]), np.s_[1:3])
        return Fit(
            spectrum=self._spectrum(found, penalties.warmup),
            penalties=penalties,
            multiples=(float(found[1]), float(found[2])),
            residuals=target - matrix @ found,
        )

    def _spectrum(self, found: np.ndarray, warmup: float) -> Spectrum:
        """The mixture of atoms; traces of them are left out."""
        unit, shares = self.loss[0], found[3:].reshape(len(ANGLES), -1) @ self.densities.T
        c, s = np.cos(ANGLES), np.sin(ANGLES)
        start, cross, shift = (unit * (each @ shares) for each in (c * c, c * s, s * s))
        kept = start + shift > _TRACE * unit
        return dataclasses.replace(
            self.noise,
            start=np.where(kept, start, 0.0),
            cross=np.where(kept, cross, 0.0),
            shift=np.where(kept, shift, 0.0),
            server_noise=found[1] * np.asarray(self.noise.server_noise),
            device_noise=found[2] * np.asarray(self.noise.device_noise),
            floor=float(found[0] * unit),
            warmup=warmup,
        )

    def admissible(self, longest: int) -> list[Fit]:
        """All fits within the discrepancy, the one to take first.

        Args:
            longest: rounds of the pilot's longest leg.
        """
        every = [
            self.fit(Penalties(warmup=share * longest, ridge=ridge, turn=turn))
            for share, ridge, turn in itertools.product(WARMUPS, RIDGES, TURNS)
        ]
        most = DISCREPANCY * min(fit.error for fit in every)
        return sorted((fit for fit in every if fit.error <= most), key=_strength, reverse=True)


def _strength(fit: Fit) -> tuple[float, float, float]:
    held = fit.penalties
    # Rounded, as products of powers of ten that should be equal differ in their last digits.
    return round(float(np.log10(held.ridge * held.turn)), 6), held.ridge, -held.warmup


def _nonnegative(
    matrix: np.ndarray, target: np.ndarray, penalty: np.ndarray, near_one: Any
) -> np.ndarray:
    """X >= 0 of least |A x - b|^2 + sum_i p_i (x_i - a_i)^2, a = 1 in some places and else 0.

    As a square problem: with R'R = A'A + diag p, it is |R x - R^-T (A'b + p a)|^2.
    """
    from scipy.linalg import solve_triangular
    from scipy.optimize import nnls

    prior = np.zeros_like(penalty)
    prior[near_one] = penalty[near_one]
    root = np.linalg.cholesky(matrix.T @ matrix + np.diag(penalty)).T
    right = solve_triangular(root, matrix.T @ target + prior, trans="T")
    found: np.ndarray = nnls(root, right, maxiter=50 * len(penalty))[0]
    return found
