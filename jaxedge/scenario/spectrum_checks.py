"""What the fields of a spectrum must fulfil together."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jaxedge.scenario.field_checks import describe_at
from jaxedge.scenario.scenario import SPECTRUM_FIELDS

_ITEMS = {item.name: item for item in SPECTRUM_FIELDS}
_SLACK = 1e-9
"""Relative slack of B² <= A C, so that rounded atoms of rank one pass."""

Values = Mapping[str, np.ndarray]


def mode_count(values: Values) -> int:
    """J, the length of all lists of a spectrum; 0 where there is none.

    Raises:
        ValueError: where the lists differ in length, are empty, or are no lists.
    """
    lengths = {}
    for item in (item for item in _ITEMS.values() if item.per_mode and item.path in values):
        value = values[item.path]
        if not value.ndim or not value.shape[-1]:
            raise ValueError(
                f"{item.path} has shape {value.shape}: must be {item.layout}, one for each mode "
                f"({item.meaning})"
            )
        lengths[item.path] = value.shape[-1]
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{path} has {length}" for path, length in lengths.items())
        raise ValueError(
            f"the lists of learning.spectrum differ in length: {listed}; give one number for each "
            "curvature"
        )
    return next(iter(lengths.values()), 0)


def check_spectrum(values: Values) -> None:
    """Check the spectrum of broadcast values that lie in their domains.

    Raises:
        ValueError: naming the element, its value and what would be accepted.
    """
    curvature, start, cross, shift = (
        values[_ITEMS[name].path] for name in ("curvature", "start", "cross", "shift")
    )
    below = np.diff(curvature, axis=-1, prepend=0) <= 0
    _refuse("curvature", values, below, "must be greater than the one before: sort the modes")
    for stage in ("server", "device"):
        path = f"learning.{stage}_learning_rate"
        steep = values[path][..., None] * curvature >= 1
        remedy = f"must be below 1/{path}: that stage would not descend; lower the rate"
        _refuse("curvature", values, steep, remedy)
    indefinite = cross**2 > start * shift * (1 + _SLACK)
    remedy = "must fulfil cross² <= start shift, mode by mode (B² <= A C, positive semidefinite)"
    _refuse("cross", values, indefinite, remedy)


def _refuse(name: str, values: Values, bad: np.ndarray, remedy: str) -> None:
    item = _ITEMS[name]
    if np.any(bad):
        raise ValueError(f"{describe_at(item, values[item.path], np.argwhere(bad)[0])} {remedy}")
