"""Validation where data enters: every field checked, every complaint in words.

A scenario that passes is finite, in its domain and normalised: NumPy float64, device fields of
shape (K,), the downlink gain filled in, the weights summing to 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxedge.scenario.field_checks import as_numbers, check_domain, describe_at
from jaxedge.scenario.scenario import FIELDS, SECTIONS, SPECTRUM_FIELDS, Scenario, Spectrum
from jaxedge.scenario.spectrum_checks import check_spectrum, mode_count

MAX_DEVICES = 100_000
"""More devices than this is taken for a mistake."""

WEIGHT_TOLERANCE = 1e-6
"""How far the sum of the weights may be from 1 before it is taken for a mistake."""

_RATE_SLACK = 1e-9
"""Relative slack on learning rates <= 1/L, so that a rounded 1/L passes."""

RELATIONS = (
    ("learning.server_learning_rate", "learning.smoothness"),
    ("learning.device_learning_rate", "learning.smoothness"),
    ("learning.pl_constant", "learning.smoothness"),
    ("server.min_batch", "server.max_batch"),
    ("devices.min_batch", "devices.max_batch"),
    ("min_pretraining_rounds", "min_finetuning_rounds"),
    ("learning.device_weight",),
)
"""Paths of fields that must fulfil something together: what two must, device by device, is monotone
in each."""

_BY_PATH = {item.path: item for item in (*FIELDS, *SPECTRUM_FIELDS)}

Values = dict[str, np.ndarray]
"""Dotted path -> float64 array."""


def validate(scenario: Scenario) -> Scenario:
    """Check one scenario and return it normalised.

    Returns: float64 fields; single fields of shape (), device fields of shape (K,), where K is the
    one length above 1 among the device arrays; ``devices.downlink_gain`` filled from the gain;
    weights summing to 1.

    Raises:
        ValueError: naming the field, its value, its unit and what would be accepted.
    """
    return _validated(scenario, batched=False)


def validate_batch(scenarios: Scenario) -> Scenario:
    """Check scenarios stacked along leading axes (...,), as :func:`validate` does for one.

    A single field has shape (...,) or (), a device field (..., K), (K,) or (); all are broadcast.

    Raises:
        ValueError: as :func:`validate`, naming the element at fault too.
    """
    return _validated(scenarios, batched=True)


def batch_shape(scenarios: Scenario) -> tuple[int, int]:
    """(B, K) of checked scenarios with one leading axis.

    Raises:
        ValueError: where they have another number of leading axes, or hold no scenario.
    """
    lead = np.shape(scenarios.energy_budget)
    if len(lead) != 1:
        raise ValueError(f"the scenarios have leading axes {lead}: must be one, (B,)")
    if not lead[0]:
        raise ValueError("the batch holds no scenario: its leading axis has length 0, must be >= 1")
    return lead[0], np.shape(scenarios.devices.gain)[-1]


def _validated(scenario: Scenario, *, batched: bool) -> Scenario:
    values = _collect(scenario)
    lead = _leading_shape(values, batched=batched)
    devices, modes = _device_count(values), mode_count(values)
    for path, value in values.items():
        item = _BY_PATH[path]
        check_domain(item, value)
        own = (devices,) * item.per_device + (modes,) * item.per_mode
        values[path] = np.array(np.broadcast_to(value, (*lead, *own)))
    with np.errstate(over="ignore"):  # absurd magnitudes become inf, and fail their relation
        _check_relations(values)
    values["learning.device_weight"] = _normalised(values["learning.device_weight"])
    return _assemble(values)


def _normalised(weight: np.ndarray) -> np.ndarray:
    """Divide by the sum, unless only rounding is left: validating twice changes nothing."""
    total = weight.sum(axis=-1, keepdims=True)
    rounding = 1e-15 * weight.shape[-1]
    return np.where(np.abs(total - 1) > rounding, weight / total, weight)


def _collect(scenario: Scenario) -> Values:
    if not isinstance(scenario, Scenario):
        raise ValueError(f"expected a Scenario, got {type(scenario).__name__}")
    for section, kind in SECTIONS.items():
        part = getattr(scenario, section)
        if not isinstance(part, kind):
            raise ValueError(f"{section} must be a {kind.__name__}, got {type(part).__name__}")
    values: Values = {}
    for item in FIELDS:
        value = getattr(getattr(scenario, item.section, scenario), item.name)
        if value is None and not item.required and item.default is None:
            continue
        values[item.path] = as_numbers(item, value)
    _collect_spectrum(scenario.learning.spectrum, values)
    values.setdefault("devices.downlink_gain", values["devices.gain"])
    return values


def _collect_spectrum(spectrum: object, values: Values) -> None:
    if spectrum is None:
        return
    if not isinstance(spectrum, Spectrum):
        found = type(spectrum).__name__
        raise ValueError(f"learning.spectrum must be a Spectrum or None, got {found}")
    for item in SPECTRUM_FIELDS:
        values[item.path] = as_numbers(item, getattr(spectrum, item.name))


def _leading_shape(values: Values, *, batched: bool) -> tuple[int, ...]:
    shapes = {}
    for path, value in values.items():
        item = _BY_PATH[path]
        lead = value.shape[: max(value.ndim - item.ndim, 0)]
        if lead and not batched:
            raise ValueError(
                f"{path} has shape {value.shape}: must be {item.layout}, "
                f"each {item.domain} in {item.unit} ({item.meaning})"
            )
        shapes[path] = lead
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError:
        listed = ", ".join(f"{path} {shape}" for path, shape in shapes.items() if shape)
        raise ValueError(f"leading batch shapes do not agree: {listed}") from None


def _device_count(values: Values) -> int:
    lengths = {
        path: value.shape[-_BY_PATH[path].ndim]
        for path, value in values.items()
        if _BY_PATH[path].per_device and value.ndim >= _BY_PATH[path].ndim
    }
    for path, length in lengths.items():
        if length == 0:
            raise ValueError(f"{path} is an empty list: give one number, or one per device")
    many = {path: length for path, length in lengths.items() if length > 1}
    if len(set(many.values())) > 1:
        listed = ", ".join(f"{path} has {length}" for path, length in many.items())
        raise ValueError(
            f"device lists differ in length: {listed}; give each K values, or one for all devices"
        )
    devices = max(many.values(), default=1)
    if devices > MAX_DEVICES:
        raise ValueError(
            f"{next(iter(many))} has {devices} values: at most {MAX_DEVICES} devices are accepted; "
            "group devices that are alike"
        )
    return devices


def _check_relations(values: Values) -> None:
    """Check `RELATIONS`; all values are broadcast already."""
    limit = 1.0 / values["learning.smoothness"]
    for stage in ("server", "device"):
        path = f"learning.{stage}_learning_rate"
        remedy = "must be at most 1/learning.smoothness = {}; lower the rate"
        _at_most(values, path, limit * (1 + _RATE_SLACK), limit, remedy)
    if "learning.pl_constant" in values:
        limit = values["learning.smoothness"]
        remedy = "must be at most learning.smoothness = {} (mu <= L); lower it, or leave it out"
        _at_most(values, "learning.pl_constant", limit * (1 + _RATE_SLACK), limit, remedy)
    for section in ("server", "devices"):
        limit = values[f"{section}.max_batch"]
        remedy = f"must be at most {section}.max_batch = {{}}; lower it, or raise the maximum"
        _at_most(values, f"{section}.min_batch", limit, limit, remedy)
    _check_weights(values["learning.device_weight"])
    if "learning.spectrum.floor" in values:
        check_spectrum(values)
    else:  # the end loss is the start's where nothing is done
        _check_rounds(values)


def _at_most(values: Values, path: str, limit: np.ndarray, shown: np.ndarray, remedy: str) -> None:
    bad = values[path] > limit
    if np.any(bad):
        at = np.argwhere(bad)[0]
        words = remedy.format(f"{float(shown[tuple(at)]):.10g}")
        raise ValueError(f"{describe_at(_BY_PATH[path], values[path], at)} {words}")


def _check_weights(weight: np.ndarray) -> None:
    total = np.atleast_1d(weight.sum(axis=-1))
    bad = np.abs(total - 1) > WEIGHT_TOLERANCE
    if np.any(bad):
        at = np.argwhere(bad)[0]
        batch = f"scenario {', '.join(map(str, at))}: " if weight.ndim > 1 else ""
        found = float(total[tuple(at)])
        raise ValueError(
            f"{batch}learning.device_weight sums to {found!r} over {weight.shape[-1]} devices: "
            "must sum to 1 (no unit, within 1e-6); divide every weight by their sum"
        )


def _check_rounds(values: Values) -> None:
    both = values["min_pretraining_rounds"] + values["min_finetuning_rounds"]
    if np.any(both == 0):
        raise ValueError(
            "min_pretraining_rounds = 0 round and min_finetuning_rounds = 0 round: at least one "
            "must be a whole number >= 1, or a design could do nothing"
        )


def _assemble(values: Mapping[str, np.ndarray]) -> Scenario:
    """Build the scenario; () fields become NumPy float64 scalars."""
    parts: dict[str, dict[str, Any]] = {"": {}, **{section: {} for section in SECTIONS}}
    for path, value in values.items():
        item = _BY_PATH[path]
        parts.setdefault(item.section, {})[item.name] = value[()]
    if "learning.spectrum" in parts:
        parts["learning"]["spectrum"] = Spectrum(**parts.pop("learning.spectrum"))
    sections = {section: kind(**parts[section]) for section, kind in SECTIONS.items()}
    return Scenario(**sections, **parts[""])
