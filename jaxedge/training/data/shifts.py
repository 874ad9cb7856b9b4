"""How the devices' task departs from the server's general data, with one dial from 0 to 1."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from jaxedge.training.data.datasets import Dataset
from jaxedge.words.choices import choice

_MOST_DEGREES = 90.0
_MOST_BLUR = 1 / 8
"""Standard deviation of the strongest blur, as a share of the image's width."""
_MOST_NOISE = 0.5
"""Standard deviation of the strongest noise, of pixels in [0, 1]."""


def rotate(data: Dataset, strength: float, seed: int) -> Dataset:
    """Every image turned by strength * 90 degrees about its centre."""
    del seed  # the same turn for all
    from scipy import ndimage

    turned = ndimage.rotate(
        _images(data), _MOST_DEGREES * strength, axes=(1, 2), reshape=False, order=1
    )
    return dataclasses.replace(data, x=np.clip(turned, 0, 1).astype(np.float32))


def blur(data: Dataset, strength: float, seed: int) -> Dataset:
    """Images through a Gaussian blur, with Gaussian noise added, both growing with strength."""
    from scipy import ndimage

    x = _images(data)
    width = _MOST_BLUR * strength * x.shape[2]
    soft = ndimage.gaussian_filter(x, (0, width, width, 0)) if strength else x
    noise = np.random.default_rng(seed).normal(size=x.shape)
    noisy = np.clip(soft + _MOST_NOISE * strength * noise, 0, 1)
    return dataclasses.replace(data, x=noisy.astype(np.float32) if strength else x)


def drop_classes(data: Dataset, strength: float, seed: int) -> Dataset:
    """A random subset of the classes: all at strength 0, one at strength 1; labels are kept."""
    left = max(round(data.num_classes * (1 - strength)), 1)
    kept = np.random.default_rng(seed).permutation(data.num_classes)[:left]
    return data.take(_found(np.isin(data.y, kept), "the classes kept"))


def thin_classes(data: Dataset, strength: float, seed: int) -> Dataset:
    """Label shift: classes thinned to shares falling from 1 to 1 - strength in a random order."""
    rng = np.random.default_rng(seed)
    shares = np.empty(data.num_classes)
    shares[rng.permutation(data.num_classes)] = np.linspace(1, 1 - strength, data.num_classes)
    return data.take(_found(rng.random(len(data)) < shares[data.y], "the thinned classes"))


SHIFTS: dict[str, Callable[[Dataset, float, int], Dataset]] = {
    "rotation": rotate,
    "blur": blur,
    "classes": drop_classes,
    "labels": thin_classes,
}
"""By name; another data set altogether is a shift that needs no function."""


def shift(data: Dataset, kind: str, strength: float, *, seed: int = 0) -> Dataset:
    """The data after a shift of the given strength; at 0 it is the data itself.

    Raises:
        ValueError: if the shift is unknown, the strength is outside [0, 1], the inputs are no
            images where the shift needs them, or no sample would be left.
    """
    apply = SHIFTS[choice("shift", str(kind), SHIFTS)]
    if not 0 <= strength <= 1:
        raise ValueError(f"strength = {strength!r}: must be a number from 0 to 1")
    return apply(data, float(strength), seed)


def _images(data: Dataset) -> np.ndarray:
    if data.x.ndim != 4:
        raise ValueError(
            f"{data.name}: inputs have shape {data.x.shape}: this shift needs images, "
            "(n, height, width, channels)"
        )
    return data.x


def _found(which: np.ndarray, what: str) -> np.ndarray:
    index = np.flatnonzero(which)
    if not index.size:
        raise ValueError(f"no sample is left of {what}: lower the strength or change the seed")
    return index
