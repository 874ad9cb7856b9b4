"""Calibration: the bound's constants measured on one's own model and data, with intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxedge.scenario.intervals import at_ends, intervals_text
from jaxedge.scenario.scenario import Scenario
from jaxedge.scenario.text import to_toml, to_tree
from jaxedge.scenario.validation import validate
from jaxedge.training.calibration import estimates
from jaxedge.training.calibration.estimates import Estimate
from jaxedge.training.calibration.path import Trial, path
from jaxedge.training.calibration.pilot import PilotPlan
from jaxedge.training.calibration.points import Measured, Meter
from jaxedge.training.calibration.spectrum import SpectrumCalibration, calibrate_spectrum
from jaxedge.training.models.tasks import Task
from jaxedge.words.choices import check_whole

SAMPLES = 4096
"""Of each owner at most that are measured on."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """Constants with intervals, and the scenario that holds them."""

    constants: dict[str, Estimate]
    """By the names of the fields of `scenario.Learning`."""
    left_out: dict[str, str]
    """Constants that could not be measured, and why."""
    notes: list[str]
    """What was changed in the scenario besides, one line each."""
    scenario: Scenario
    """The base with the constants' values, the model's bits and batches that the data fill."""
    points: list[Measured]
    """What was measured, in the order of the trial run."""
    spectrum: SpectrumCalibration | None = None
    """The end loss's spectrum, which the scenario holds too; None without a pilot that told it."""

    @property
    def optimistic(self) -> Scenario:
        """The scenario with all constants at the ends of their intervals where bounds are least."""
        return at_ends(self.scenario, self.intervals)[0]

    @property
    def pessimistic(self) -> Scenario:
        """The scenario with all constants at the other ends: none within give a larger bound."""
        return at_ends(self.scenario, self.intervals)[1]

    @property
    def intervals(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Low and high ends by constant."""
        return {name: (found.low, found.high) for name, found in self.constants.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: ``constants``, ``left_out``, ``notes``, ``path`` and ``scenario``."""
        return {
            "constants": {
                name: {
                    "value": estimate.value.tolist(),
                    "low": estimate.low.tolist(),
                    "high": estimate.high.tolist(),
                    "unit": estimate.unit,
                    "how": estimate.how,
                }
                for name, estimate in self.constants.items()
            },
            "left_out": dict(self.left_out),
            "notes": list(self.notes),
            "path": [
                {
                    "round": point.rounds,
                    "loss": point.loss,
                    "gradient_norm_squared": point.gradient_norm_squared,
                    "discrepancy": point.discrepancy,
                    "curvature": point.curvature,
                    "server_variance": float(point.server_deviation.means[0]),
                    "device_variance": point.tuned_deviation.means.tolist(),
                }
                for point in self.points
            ],
            "spectrum": None if self.spectrum is None else self.spectrum.to_dict(),
            "scenario": to_tree(self.scenario),
        }

    def to_toml(self) -> str:
        """The scenario as a file, its intervals of 95 % in a table that `plan --within` reads."""
        lines = [
            "# Constants measured by `jaxedge calibrate`; [intervals] of 95 % stand at the end:"
        ]
        for name, estimate in self.constants.items():
            lines += [f"#   {name}, {estimate.unit}: {estimate.how}"]
        if self.spectrum is not None:
            lines += [f"#   spectrum: {self.spectrum.how}"]
        lines += [f"#   {name} is left out: {reason}" for name, reason in self.left_out.items()]
        lines += [f"# {note}" for note in self.notes]
        scenario = to_toml(self.scenario)
        return "\n".join(lines) + f"\n\n{scenario}\n{intervals_text(self.intervals)}"


def calibrate(
    task: Task,
    scenario: Scenario,
    trial: Trial | None = None,
    *,
    pilot: PilotPlan | None = None,
    lower_loss: float = 0.0,
    worst: bool = False,
    samples: int = SAMPLES,
    bits_per_weight: int = 32,
    progress: Callable[[str, float | None], None] | None = None,
) -> Calibration:
    """Measure the constants of the bounds along a trial run through both stages.

    Args:
        task: data and model; its devices' weighted loss is F, the server's F0.
        scenario: gives learning rates, the devices' weights, and all that is not measured.
        trial: the trial run; by default what the pilot runs anyway, its first leg and the
            fine-tuning from its end.
        pilot: measures the end loss's spectrum too; what it refuses is told in ``left_out``.
        lower_loss: what F is never below, such as 0 for cross entropy.
        worst: variances and discrepancy as the largest along the path, not the mean over it.
        samples: of each owner at most that are measured on; all by default, up to 4,096.
        bits_per_weight: of an upload or broadcast of what the devices train.
        progress: called with (text, fraction).

    Raises:
        ValueError: if devices differ in number, one has fewer than two samples, the trial run
            diverges, a loss is not finite, or an option is not valid.
    """
    from jaxedge.training.models.networks import upload_bits

    valid = validate(scenario)
    if trial is None:
        trial = Trial() if pilot is None else pilot.trial
    _check(task, valid, lower_loss, samples, bits_per_weight)
    weight = np.asarray(valid.learning.device_weight)
    meter = Meter(task, weight, samples=samples, seed=trial.seed)
    points: list[Measured] = []
    for point in path(task, valid, trial):
        if progress is not None:
            share = len(points) / (2 * trial.intervals + 1)
            progress(f"calibrating, round {point.rounds:,} of the trial run", share)
        points.append(meter(point))
        estimates.check_above(points[-1], lower_loss)
    first, second = points[: trial.intervals + 1], points[trial.intervals :]
    constants = {
        "initial_gap": estimates.initial_gap(points, lower_loss),
        "smoothness": estimates.smoothness(points, weight),
        "discrepancy": estimates.discrepancy(first, weight, worst=worst),
        "server_variance": estimates.variance(first, "server", worst=worst),
        "device_variance": estimates.variance(second, "device", worst=worst),
    }
    lowest = min(point.loss for point in points)
    left_out = {}
    fitted = estimates.pl_constant(first, lower_loss, lowest, constants["smoothness"])
    if isinstance(fitted, str):
        left_out["pl_constant"] = fitted
    else:
        constants["pl_constant"] = fitted
    bits = upload_bits(task.tuned_of(task.weights), bits_per_weight)
    calibrated, notes = _calibrated(task, valid, constants, bits)
    spectrum = None
    if pilot is not None:
        try:
            spectrum = calibrate_spectrum(
                task,
                dataclasses.replace(valid, upload_bits=bits, download_bits=bits),
                pilot,
                device_variance=constants["device_variance"].value,
                samples=samples,
                progress=progress,
            )
            calibrated = spectrum.as_scenario(calibrated)
        except ValueError as refused:  # what has been measured is not lost by it
            left_out["spectrum"] = str(refused)
    return Calibration(
        constants=constants,
        left_out=left_out,
        notes=notes,
        scenario=calibrated,
        points=points,
        spectrum=spectrum,
    )


def _check(
    task: Task, scenario: Scenario, lower_loss: float, samples: int, bits_per_weight: int
) -> None:
    devices = np.size(scenario.devices.gain)
    if len(task.sizes) != devices:
        raise ValueError(
            f"the scenario has {devices} devices and the data are of {len(task.sizes)}: must be "
            "the same"
        )
    owners = [("the server", len(task.general))]
    owners += [(f"device {k}", size) for k, size in enumerate(task.sizes.tolist())]
    for name, size in owners:
        if size < 2:
            raise ValueError(
                f"{name} has {size} sample{'' if size == 1 else 's'}: the variance of its "
                "gradients cannot be estimated from fewer than 2"
            )
    if not np.isfinite(lower_loss):
        raise ValueError(f"lower_loss = {lower_loss!r}: must be a finite number")
    for name, value, least in (("samples", samples, 2), ("bits_per_weight", bits_per_weight, 1)):
        check_whole(name, value, least)


def _calibrated(
    task: Task, scenario: Scenario, constants: dict[str, Estimate], bits: int
) -> tuple[Scenario, list[str]]:
    """The scenario, and what else had to change in it."""
    notes = []
    values: dict[str, Any] = {name: found.value for name, found in constants.items()}
    learning = dataclasses.replace(scenario.learning, **{"pl_constant": None, **values})
    # At the upper end of the interval, so that the whole of it is admissible.
    fastest = 1 / float(constants["smoothness"].high)
    for name in ("server_learning_rate", "device_learning_rate"):
        rate = float(np.asarray(getattr(learning, name)))
        if rate > fastest:
            lowered: dict[str, Any] = {name: fastest}
            learning = dataclasses.replace(learning, **lowered)
            notes.append(f"{name} is lowered from {rate:g} to 1/smoothness = {fastest:.5g}")
    most = {"server": np.asarray(len(task.general)), "devices": task.sizes}
    limited = {}
    for name, sizes in most.items():
        stage = getattr(scenario, name)
        limit = np.minimum(stage.max_batch, sizes)
        limited[name] = dataclasses.replace(stage, max_batch=limit)
        if (limit < stage.max_batch).any():
            notes.append(f"{name}.max_batch is lowered to the samples there are")
    changed = dataclasses.replace(
        scenario, learning=learning, upload_bits=bits, download_bits=bits, **limited
    )
    return validate(changed), notes
