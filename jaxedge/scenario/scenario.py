"""The scenario: everything a two-stage design depends on and does not decide.

Axis letters: K is the number of devices, J that of a spectrum's modes. Every quantity is in SI
units and linear (never dB). Fields hold arrays or numbers; a leading batch axis may stand before
the documented shape, which is how ``jax.vmap`` sees a batch of scenarios. What stands beside a
field (shape, unit, domain, meaning) is the one source that validation, files, templates and the
JSON Schema read.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import field
from typing import Any, cast

import jax
from jax.typing import ArrayLike


@dataclasses.dataclass(frozen=True, kw_only=True)
class Field:
    """One quantity of a scenario: where it stands, its unit, its domain and its meaning."""

    unit: str
    """SI unit; "1" for pure numbers, "W/W" for power ratios."""
    meaning: str
    """One line."""
    per_device: bool = False
    """One for each device."""
    per_mode: bool = False
    """One for each mode of the spectrum."""
    least: float = 0.0
    """Lower end of the domain."""
    above: bool = True
    """True if the value must be above ``least``, False if it may equal it."""
    integer: bool = False
    """Whole numbers only."""
    section: str = ""
    """One of "learning", "learning.spectrum", "server", "devices", or "" at the top level."""
    name: str = ""
    """Attribute name within the section, and key in files."""
    default: float | None = None
    """Value of an optional field left out; None is then settled by validation."""
    required: bool = True

    @property
    def path(self) -> str:
        """Dotted path from the scenario, e.g. "devices.max_clock"."""
        return f"{self.section}.{self.name}" if self.section else self.name

    @property
    def shape(self) -> str:
        """The shape in words: "()", "(K,)", "(J,)" or "(K, J)"."""
        axes = ["K"] * self.per_device + ["J"] * self.per_mode
        return f"({', '.join(axes)}{',' * (len(axes) == 1)})"

    @property
    def ndim(self) -> int:
        """How many axes one scenario's array has."""
        return self.per_device + self.per_mode

    @property
    def layout(self) -> str:
        """What is accepted, in words."""
        if self.per_mode:
            rows = ", or a list of K such lists" if self.per_device else ""
            return f"a list of J numbers{rows}"
        return "one number or a flat list of K numbers" if self.per_device else "one number"

    @property
    def domain(self) -> str:
        """The accepted values in words."""
        kind = "whole number" if self.integer else "finite number"
        if self.least == -math.inf:
            return f"a {kind}"
        return f"a {kind} {'>' if self.above else '>='} {self.least:g}"


def _single(unit: str, meaning: str, **domain: Any) -> dict[str, Field]:
    return {"field": Field(unit=unit, meaning=meaning, **domain)}


def _each(unit: str, meaning: str, **domain: Any) -> dict[str, Field]:
    return {"field": Field(unit=unit, meaning=meaning, per_device=True, **domain)}


def _modes(meaning: str, **domain: Any) -> dict[str, Field]:
    return {"field": Field(unit="1", meaning=meaning, per_mode=True, **domain)}


_MAY_BE_ZERO: dict[str, Any] = {"above": False}
_COUNT: dict[str, Any] = {"above": False, "least": 1.0, "integer": True}
_COUNT_OR_ZERO: dict[str, Any] = {"above": False, "integer": True}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Spectrum:
    """What the end loss knows of a task: J modes, each with a curvature h_j of the loss."""

    curvature: ArrayLike = field(metadata=_modes("h_j, increasing; eta h_j < 1 in both stages"))
    start: ArrayLike = field(
        metadata=_modes("A_j, loss of the start in the modes near h_j", **_MAY_BE_ZERO)
    )
    cross: ArrayLike = field(
        metadata=_modes("B_j, loss of start times shift, B_j^2 <= A_j C_j", least=-math.inf)
    )
    shift: ArrayLike = field(
        metadata=_modes("C_j, loss of the pre-trained optimum in these modes", **_MAY_BE_ZERO)
    )
    server_noise: ArrayLike = field(
        metadata=_modes("c0_j, variance of a sample's gradient there", **_MAY_BE_ZERO)
    )
    device_noise: ArrayLike = field(
        metadata=_modes(
            "ck_j, variance of a sample's gradient there, of each device or of all alike",
            per_device=True,
            **_MAY_BE_ZERO,
        )
    )
    floor: ArrayLike = field(metadata=_single("1", "F*, loss of the optimum", **_MAY_BE_ZERO))
    warmup: ArrayLike = field(
        default=0,
        metadata=_single(
            "round", "m, how long curvature takes to grow, at the devices' rate", **_MAY_BE_ZERO
        ),
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Learning:
    """Constants of the learning task that the convergence bounds use."""

    initial_gap: ArrayLike = field(
        metadata=_single("1", "F(w0) - F*, the loss still to be gained at the start")
    )
    smoothness: ArrayLike = field(metadata=_single("1", "L, Lipschitz constant of the gradient"))
    discrepancy: ArrayLike = field(
        metadata=_single(
            "1", "sup |grad F - grad F0|^2, how far the stages' losses differ", **_MAY_BE_ZERO
        )
    )
    server_learning_rate: ArrayLike = field(
        metadata=_single("1", "eta0, pre-training step, at most 1/smoothness")
    )
    device_learning_rate: ArrayLike = field(
        metadata=_single("1", "eta, fine-tuning step, at most 1/smoothness")
    )
    server_variance: ArrayLike = field(
        metadata=_single("1", "s0, variance of one sample's gradient at the server", **_MAY_BE_ZERO)
    )
    device_variance: ArrayLike = field(
        metadata=_each("1", "s_k, variance of one sample's gradient at each device", **_MAY_BE_ZERO)
    )
    device_weight: ArrayLike = field(
        metadata=_each("1", "w_k, aggregation weights, summing to 1", **_MAY_BE_ZERO)
    )
    pl_constant: ArrayLike | None = field(
        default=None,
        metadata=_single(
            "1",
            "mu, Polyak-Lojasiewicz constant, at most smoothness; only for the fine-tuning bound",
        ),
    )
    spectrum: Spectrum | None = None
    """Only for the end loss."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Server:
    """The edge server: it computes the pre-training and broadcasts the model."""

    cycles_per_sample: ArrayLike = field(
        metadata=_single("cycle", "c0, computing work of one sample")
    )
    capacitance: ArrayLike = field(
        metadata=_single("J s^2/cycle^3", "kappa0, effective switched capacitance")
    )
    max_clock: ArrayLike = field(metadata=_single("Hz", "highest clock frequency"))
    min_batch: ArrayLike = field(
        default=1, metadata=_single("sample", "smallest mini-batch", **_COUNT)
    )
    max_batch: ArrayLike = field(metadata=_single("sample", "largest mini-batch", **_COUNT))
    bandwidth: ArrayLike = field(metadata=_single("Hz", "B0, bandwidth of the broadcast"))
    max_power: ArrayLike = field(metadata=_single("W", "highest transmit power of the broadcast"))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Devices:
    """The K wireless devices that fine-tune."""

    cycles_per_sample: ArrayLike = field(
        metadata=_each("cycle", "c_k, computing work of one sample")
    )
    capacitance: ArrayLike = field(
        metadata=_each("J s^2/cycle^3", "kappa_k, effective switched capacitance")
    )
    max_clock: ArrayLike = field(metadata=_each("Hz", "highest clock frequency"))
    min_batch: ArrayLike = field(
        default=1, metadata=_each("sample", "smallest mini-batch", **_COUNT)
    )
    max_batch: ArrayLike = field(metadata=_each("sample", "largest mini-batch", **_COUNT))
    bandwidth: ArrayLike = field(metadata=_each("Hz", "B_k, uplink share of each device (FDMA)"))
    gain: ArrayLike = field(metadata=_each("W/W", "h_k, uplink channel power gain"))
    downlink_gain: ArrayLike | None = field(
        default=None,
        metadata=_each("W/W", "g_k, downlink channel power gain; the uplink's if left out"),
    )
    max_power: ArrayLike = field(metadata=_each("W", "highest uplink transmit power"))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Scenario:
    """One planning problem: learning task, server, devices, channel and budgets."""

    learning: Learning
    server: Server
    devices: Devices
    noise_density: ArrayLike = field(metadata=_single("W/Hz", "N0, receiver noise density"))
    upload_bits: ArrayLike = field(
        metadata=_single("bit", "S_u, one device's upload in one fine-tuning round")
    )
    download_bits: ArrayLike = field(
        metadata=_single("bit", "S_d, one broadcast of the model in one fine-tuning round")
    )
    energy_budget: ArrayLike = field(
        metadata=_single("J", "E, energy of the whole system over both stages")
    )
    delay_budget: ArrayLike = field(metadata=_single("s", "T, time of both stages together"))
    min_pretraining_rounds: ArrayLike = field(
        default=1, metadata=_single("round", "least pre-training rounds", **_COUNT_OR_ZERO)
    )
    min_finetuning_rounds: ArrayLike = field(
        default=1, metadata=_single("round", "least fine-tuning rounds", **_COUNT_OR_ZERO)
    )


SECTIONS: dict[str, type[Any]] = {"learning": Learning, "server": Server, "devices": Devices}
"""Section name -> its class; the top level is the Scenario itself."""


def _fields_of(section: str, kind: type[Any]) -> tuple[Field, ...]:
    found = []
    for item in dataclasses.fields(kind):
        if "field" in item.metadata:
            required = item.default is dataclasses.MISSING
            default: Any = None if required else item.default
            beside = cast(Field, item.metadata["field"])
            found.append(
                dataclasses.replace(
                    beside, section=section, name=item.name, default=default, required=required
                )
            )
    return tuple(found)


FIELDS: tuple[Field, ...] = _fields_of("", Scenario) + tuple(
    item for section, kind in SECTIONS.items() for item in _fields_of(section, kind)
)
"""Every field that each scenario has, in the order of files: top level, learning, server,
devices."""

SPECTRUM_FIELDS: tuple[Field, ...] = _fields_of("learning.spectrum", Spectrum)
"""The fields of the optional ``learning.spectrum``."""
