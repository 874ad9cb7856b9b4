"""The end loss's spectrum from one pilot: its legs, noise along the modes, fit and promises."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxedge.scenario.scenario import Scenario, Spectrum
from jaxedge.scenario.validation import validate
from jaxedge.training.calibration.decay_fit import DecayFit, Fit
from jaxedge.training.calibration.noise_spectrum import NoiseMeter, curvature_grid
from jaxedge.training.calibration.observations import Designs
from jaxedge.training.calibration.pilot import (
    SAMPLES,
    Leg,
    Pilot,
    PilotPlan,
    PilotRefused,
    run_pilot,
)
from jaxedge.training.calibration.prediction import REACH, Forecast, redrawn
from jaxedge.training.models.tasks import Task

_TRACE = 1e-9
"""Of the gradients' size, about twice the largest curvature times F: less noise is rounding."""
_LEAST_TOLD = 0.5
"""Of the losses' variance that a fit has to tell."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpectrumCalibration:
    """A spectrum, the pilot that it was measured by, and predictions."""

    pilot: Pilot
    fit: Fit
    """The fit taken, of all within the discrepancy."""
    forecast: Forecast
    """Predicted losses of designs, with intervals."""

    @property
    def spectrum(self) -> Spectrum:
        """As ``learning.spectrum`` of a scenario takes it."""
        return self.fit.spectrum

    @property
    def how(self) -> str:
        """One line."""
        rounds = sum(leg.rounds for leg in self.pilot.legs)
        return (
            f"a pilot of {rounds:,} rounds, {self.pilot.energy:.4g} J and {self.pilot.delay:.4g} s "
            f"of this scenario at full clocks and powers; its losses are told within "
            f"{self.fit.error:.2%}, and beyond {REACH * self.forecast.longest:,.0f} rounds "
            "predictions are extrapolated"
        )

    def as_scenario(self, scenario: Scenario) -> Scenario:
        """The scenario with the spectrum in it.

        Raises:
            ValueError: if its learning rates are not those that the pilot ran at.
        """
        for name in ("server_learning_rate", "device_learning_rate"):
            own, given = (
                float(np.asarray(getattr(learning, name)))
                for learning in (self.forecast.learning, scenario.learning)
            )
            if not np.isclose(own, given, rtol=1e-6):
                raise ValueError(
                    f"learning.{name} = {given:g}: the pilot ran at {own:g}, and its spectrum "
                    "holds for that alone; run a pilot at the new rate"
                )
        learning = dataclasses.replace(scenario.learning, spectrum=self.spectrum)
        return validate(dataclasses.replace(scenario, learning=learning))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: what was spent, how well the fit tells the losses, and the legs."""
        held = self.fit.penalties
        return {
            "how": self.how,
            "energy": self.pilot.energy,
            "delay": self.pilot.delay,
            "error": self.fit.error,
            "noise_multiples": list(self.fit.multiples),
            "floor": self.spectrum.floor,
            "warmup": held.warmup,
            "ridge": held.ridge,
            "turn": held.turn,
            "longest": self.forecast.longest,
            "legs": [
                {
                    "label": leg.label,
                    "pretraining_rounds": leg.pretraining_rounds.tolist(),
                    "finetuning_rounds": leg.finetuning_rounds.tolist(),
                    "loss": leg.loss.tolist(),
                }
                for leg in self.pilot.legs
            ],
        }


def calibrate_spectrum(
    task: Task,
    scenario: Scenario,
    plan: PilotPlan | None = None,
    *,
    device_variance: ArrayLike | None = None,
    samples: int = SAMPLES,
    progress: Callable[[str, float | None], None] | None = None,
) -> SpectrumCalibration:
    """Measure a task's spectrum by a pilot at the scenario's learning rates.

    Args:
        task: data and model.
        scenario: gives rates and the devices' weights; what the pilot spends is counted by it.
        plan: the pilot's rounds, batches and seed.
        device_variance: (K,) variance of a sample's gradient at each device, whose ratios tell
            the devices' noise apart; alike by default.
        samples: of each device at most that F is measured on.
        progress: called with (text, fraction).

    Raises:
        PilotRefused: if the pilot diverges or says nothing; it keeps what was measured.
        ValueError: if the scenario is not valid.
    """
    plan, valid = PilotPlan() if plan is None else plan, validate(scenario)
    pilot = run_pilot(task, valid, plan, samples=samples, progress=progress)
    if progress is not None:
        progress("noise and fit of the pilot", None)
    noise = _noise(task, valid, pilot, plan.seed, device_variance)
    legs, learning = pilot.legs, dataclasses.replace(valid.learning, spectrum=None)
    loss = np.concatenate([leg.loss for leg in legs])
    if (loss <= 0).any():
        raise PilotRefused(
            f"a loss of {loss.min():.6g} was met in the pilot: the fit is of relative residuals "
            "and needs losses above 0; add a constant to the loss",
            legs,
        )
    decay = DecayFit(Designs.of(legs), loss, learning, noise)
    fits = decay.admissible(plan.rounds)
    check_told(fits[0], loss, legs)
    return SpectrumCalibration(
        pilot=pilot,
        fit=fits[0],
        forecast=Forecast(
            learning=dataclasses.replace(learning, spectrum=fits[0].spectrum),
            draws=redrawn(decay, fits, [len(leg.loss) for leg in legs], seed=plan.seed),
            error=fits[0].error,
            longest=pilot.longest(*_rates(valid)),
        ),
    )


def _rates(scenario: Scenario) -> tuple[float, float]:
    learning = scenario.learning
    rates = learning.server_learning_rate, learning.device_learning_rate
    return float(np.asarray(rates[0])), float(np.asarray(rates[1]))


def _noise(
    task: Task, scenario: Scenario, pilot: Pilot, seed: int, device_variance: ArrayLike | None
) -> Spectrum:
    """Both noises along the modes, the mean of two points; start and shift are still 0."""
    weight = np.asarray(scenario.learning.device_weight, np.float64)
    grid = curvature_grid(*_rates(scenario))
    meter = NoiseMeter(task, weight, seed=seed)
    found = [meter(weights, grid) for weights in (pilot.handed_over, pilot.tuned)]
    server, devices = np.mean(found, axis=0)
    for owner, noise in (("the server", server), ("the devices", devices)):
        if noise.sum() <= _TRACE * grid[-1] * pilot.legs[0].loss[0]:
            raise PilotRefused(
                f"the gradients of {owner}'s samples do not differ: there is no noise that "
                "batches could lower; give the pilot data that are spread",
                pilot.legs,
            )
    own = np.ones_like(weight) if device_variance is None else np.asarray(device_variance)
    levels = own * np.sum(weight**2) / (weight**2 @ own)
    zero = np.zeros(len(grid))
    return Spectrum(
        curvature=grid,
        start=zero,
        cross=zero,
        shift=zero,
        server_noise=server,
        device_noise=levels[:, None] * devices[None],
        floor=0.0,
        warmup=0.0,
    )


def check_told(fit: Fit, loss: np.ndarray, legs: tuple[Leg, ...]) -> None:
    """Make sure that a fit tells more of the losses' variance than it leaves.

    Raises:
        PilotRefused: where it does not.
    """
    spread = float(np.std(loss) / np.mean(loss))
    if fit.error**2 > (1 - _LEAST_TOLD) * spread**2:
        raise PilotRefused(
            f"the pilot's losses vary by {spread:.2%} and the best fit misses them by "
            f"{fit.error:.2%}: too short or too noisy to say anything; raise its rounds or batches",
            legs,
        )
