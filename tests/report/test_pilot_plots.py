"""The figure of a pilot shows its losses, their fit and a design's predicted loss."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxedge.report.pilot_plots import plot_pilot
from jaxedge.scenario.scenario import Spectrum
from jaxedge.training.calibration.decay_fit import Fit, Penalties
from jaxedge.training.calibration.pilot import Leg, Pilot
from jaxedge.training.calibration.prediction import Forecast
from jaxedge.training.calibration.spectrum import SpectrumCalibration
from tests.short_runs import design, scenario


def leg(first, second, loss):
    return Leg(
        pretraining_rounds=np.array(first),
        finetuning_rounds=np.array(second),
        server_batch=16,
        device_batch=np.array([8, 8, 8]),
        loss=np.array(loss),
    )


LEGS = (leg([0, 10, 20], [0, 0, 0], [2.0, 1.5, 1.2]), leg([20, 20], [0, 10], [1.2, 0.8]))
RESIDUALS = np.array([0.0, 0.1, -0.1, 0.05, 0.0])


@pytest.fixture(scope="module")
def found():
    spectrum = Spectrum(
        curvature=np.array([0.1, 1.0]),
        start=np.array([1.0, 0.8]),
        cross=np.zeros(2),
        shift=np.zeros(2),
        server_noise=np.ones(2),
        device_noise=np.ones((3, 2)),
        floor=0.2,
        warmup=0.0,
    )
    held = Penalties(warmup=0.0, ridge=0.1, turn=0.1)
    return SpectrumCalibration(
        pilot=Pilot(legs=LEGS, handed_over=None, tuned=None, energy=5.0, delay=3.0),
        fit=Fit(spectrum=spectrum, penalties=held, multiples=(1.0, 1.0), residuals=RESIDUALS),
        forecast=Forecast(
            learning=dataclasses.replace(scenario().learning, spectrum=spectrum),
            draws=jax.tree.map(lambda x: np.stack([np.asarray(x)] * 2), spectrum),
            error=0.01,
            longest=10.0,
        ),
    )


def test_measured_losses_are_dots_and_their_fits_lines(found, tmp_path):
    figure = plot_pilot(found, tmp_path / "pilot.png")
    assert (tmp_path / "pilot.png").read_bytes().startswith(b"\x89PNG")
    (axes,) = figure.axes
    dots, lines = axes.get_lines()[0:4:2], axes.get_lines()[1:4:2]
    for one, seen, fit, left in zip(LEGS, dots, lines, np.split(RESIDUALS, [3]), strict=True):
        np.testing.assert_array_equal(seen.get_ydata(), one.loss)
        np.testing.assert_allclose(fit.get_ydata(), one.loss * (1 - left))
    assert dots[1].get_xdata().tolist() == [20, 30]


def test_a_designs_loss_is_dashed_where_it_is_extrapolated(found):
    figure = plot_pilot(found, design=design(25, 15))
    assert len(figure.axes) == 2
    lines = figure.axes[1].get_lines()
    rounds, loss = (np.concatenate([x.get_data()[i] for x in lines[:4]]) for i in (0, 1))
    solid = np.concatenate([x.get_data()[0] * 0 + (x.get_linestyle() == "-") for x in lines[:4]])
    shown = np.isfinite(loss)
    assert (solid[shown] == (rounds[shown] <= 30)).all()
    assert rounds[shown].max() == 40
    assert lines[4].get_xdata()[0] == 31
    (text,) = figure.axes[1].texts
    assert text.get_text().strip() == "extrapolated"
