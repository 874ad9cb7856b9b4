"""Functions on the unit cube whose Sobol indices are known in closed form."""

from __future__ import annotations

import math

import numpy as np

FACTORS = np.array([0.0, 1.0, 4.5, 9.0])


def ishigami(shares: np.ndarray, a: float = 7.0, b: float = 0.1) -> np.ndarray:
    """Sin x1 (1 + b x3^4) + a sin^2 x2 with x = pi (2 u - 1); (B, 3) -> (B,)."""
    x = math.pi * (2 * shares - 1)
    return np.asarray(np.sin(x[:, 0]) * (1 + b * x[:, 2] ** 4) + a * np.sin(x[:, 1]) ** 2)


def ishigami_indices(a: float = 7.0, b: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """First and total order indices, (3,) each."""
    first = np.array([0.5 * (1 + b * math.pi**4 / 5) ** 2, a**2 / 8, 0.0])
    both = b**2 * math.pi**8 * 8 / 225  # of arguments 1 and 3 together
    variance = first.sum() + both
    return first / variance, (first + both * np.array([1, 0, 1])) / variance


def product(shares: np.ndarray) -> np.ndarray:
    """Sobol's g-function, prod_i (|4 u_i - 2| + a_i)/(1 + a_i) with a = FACTORS; (B, 4) -> (B,)."""
    return np.asarray(np.prod((np.abs(4 * shares - 2) + FACTORS) / (1 + FACTORS), axis=1))


def product_indices() -> tuple[np.ndarray, np.ndarray]:
    """First and total order indices, (4,) each."""
    parts = 1 / (3 * (1 + FACTORS) ** 2)
    variance = np.prod(1 + parts) - 1
    return parts / variance, parts * np.prod(1 + parts) / (1 + parts) / variance


KNOWN = {
    "Ishigami": (ishigami, ishigami_indices()),
    "g-function": (product, product_indices()),
}
"""Name -> function and its (first, total) order indices."""
