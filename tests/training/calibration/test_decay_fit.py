"""Fits tell losses that are known exactly, and are held back where the data say nothing."""

import dataclasses

import numpy as np
import pytest

from jaxedge import presets
from jaxedge.bounds.end_loss import end_loss
from jaxedge.scenario.scenario import Spectrum
from jaxedge.training.calibration.decay_fit import DISCREPANCY, DecayFit, Penalties
from jaxedge.training.calibration.noise_spectrum import curvature_grid
from jaxedge.training.calibration.observations import Designs, end_losses, loss_columns
from jaxedge.training.calibration.prediction import Forecast, redrawn
from tests.short_runs import design

RNG = np.random.default_rng(4)
RATES = 0.05, 0.1
GRID = curvature_grid(*RATES)
K = 3
WEAK = Penalties(warmup=0.0, ridge=1e-7, turn=1e-7)


def scenario(spectrum=None):
    found = presets.get("small")
    learning = dataclasses.replace(
        found.learning,
        server_learning_rate=RATES[0],
        device_learning_rate=RATES[1],
        device_weight=np.array([0.5, 0.2, 0.3]),
        spectrum=spectrum,
    )
    return dataclasses.replace(found, learning=learning)


def learning():
    return scenario().learning


def spectrum_of(start, cross, shift, floor=0.0, warmup=0.0):
    flat = np.full(len(GRID), 2.0) * (GRID > 0.01)
    return Spectrum(
        curvature=GRID,
        start=start,
        cross=cross,
        shift=shift,
        server_noise=flat,
        device_noise=np.array([[1.0], [0.5], [2.0]]) * flat[None],
        floor=floor,
        warmup=warmup,
    )


def true_spectrum(angle=0.3, floor=0.0, warmup=0.0):
    """Two humps, turned by an angle: within what the atoms span."""
    humps = 1.5 * (GRID / 0.3) ** 2 * np.exp(-GRID / 0.3) + (GRID / 3) * np.exp(-GRID / 3)
    c, s = np.cos(angle), np.sin(angle)
    return spectrum_of(humps * c * c, humps * c * s, humps * s * s, floor, warmup)


def drawn_designs(count):
    return Designs(
        pretraining_rounds=RNG.integers(0, 500, count) * 1.0,
        finetuning_rounds=RNG.integers(0, 500, count) * 1.0,
        server_batch=RNG.integers(1, 30, count) * 1.0,
        device_batch=RNG.integers(1, 20, (count, K)) * 1.0,
    )


def pilot_designs():
    """The start first, then both stages alone and branches, at two batches each."""
    rows = [(0, 0, 16, 8)]
    rows += [(n, 0, b, 8) for b in (16, 2) for n in range(10, 401, 10)]
    rows += [(m, n, 16, 8) for m in (0, 100, 400) for n in range(10, 401, 10)]
    rows += [(0, n, 16, 1) for n in range(10, 134, 10)]
    m, n, server, devices = np.array(rows, float).T
    return Designs(
        pretraining_rounds=m,
        finetuning_rounds=n,
        server_batch=server,
        device_batch=np.tile(devices[:, None], (1, K)),
    )


def alone(spectrum):
    return dataclasses.replace(
        spectrum, **{item.name: np.asarray(getattr(spectrum, item.name))[None] for item in FIELDS}
    )


FIELDS = dataclasses.fields(Spectrum)


def losses(spectrum, designs):
    return end_losses(learning(), alone(spectrum), designs)[0]


def test_losses_are_those_of_the_end_loss():
    true, designs = true_spectrum(floor=0.2, warmup=30.0), drawn_designs(5)
    found = losses(true, designs)
    for i in range(5):
        one = design(
            designs.pretraining_rounds[i], designs.finetuning_rounds[i], designs.device_batch[i]
        )
        server = dataclasses.replace(one.server, batch=designs.server_batch[i])
        expected = end_loss(scenario(true), dataclasses.replace(one, server=server))
        assert found[i] == pytest.approx(float(expected), rel=1e-5)


def test_columns_make_up_the_loss():
    """G is linear in start, cross, shift, floor and multiples of the noise."""
    true, designs = true_spectrum(floor=0.2, warmup=30.0), drawn_designs(20)
    columns = loss_columns(learning(), true, designs)
    total = columns["floor"] * true.floor + columns["server_noise"] + columns["device_noise"]
    for name in ("start", "cross", "shift"):
        total = total + columns[name] @ getattr(true, name)
    np.testing.assert_allclose(total, losses(true, designs), rtol=1e-12)
    assert columns["floor"] == pytest.approx(1)


def fitted(true, penalties=WEAK, noise=0.0):
    designs = pilot_designs()
    loss = losses(true, designs)
    loss = loss * (1 + noise * np.random.default_rng(0).normal(size=len(loss)))
    return DecayFit(designs, loss, learning(), spectrum_of(*np.zeros((3, len(GRID)))))


def test_a_mixture_of_atoms_is_found_again():
    """Losses without noise and almost without penalties: other designs are told to 1e-3."""
    true = true_spectrum(angle=np.pi / 12, floor=0.1)
    fit = fitted(true).fit(WEAK)
    assert fit.error < 1e-4
    assert fit.multiples == pytest.approx((1, 1), abs=0.01)
    others = drawn_designs(50)
    np.testing.assert_allclose(losses(fit.spectrum, others), losses(true, others), rtol=1e-3)


def test_fits_are_psd_and_their_residuals_those_of_their_spectrum():
    decay = fitted(true_spectrum(angle=-0.4, warmup=20.0), noise=0.01)
    fit = decay.fit(Penalties(warmup=20.0, ridge=1e-4, turn=1e-3))
    found = fit.spectrum
    assert (found.cross**2 <= found.start * found.shift * (1 + 1e-9)).all()
    assert (found.start >= 0).all()
    residuals = 1 - losses(found, decay.designs) / decay.loss
    np.testing.assert_allclose(fit.residuals, residuals, atol=1e-8)
    assert fit.error == pytest.approx(np.sqrt(np.mean(residuals**2)), rel=1e-5)


def test_no_shift_and_no_floor_unless_the_data_ask():
    decay = fitted(true_spectrum(angle=0.0), noise=0.01)
    weak, strong = (
        decay.fit(Penalties(warmup=0, ridge=r, turn=t)) for r, t in ((1e-7, 1e-7), (1e-2, 1))
    )
    assert strong.error < DISCREPANCY * weak.error
    assert strong.spectrum.shift.sum() < 0.2 * weak.spectrum.shift.sum()
    assert strong.spectrum.floor <= weak.spectrum.floor


@pytest.fixture(scope="module")
def noisy():
    """Losses with a warm-up and a noise of 1 %, their fits and the truth."""
    true = true_spectrum(angle=0.4, warmup=80.0)
    decay = fitted(true, noise=0.01)
    return true, decay, decay.admissible(400)


def test_the_strongest_penalties_within_the_discrepancy_come_first(noisy):
    _, decay, fits = noisy
    least = min(fit.error for fit in fits)
    assert max(fit.error for fit in fits) <= DISCREPANCY * least
    strength = np.log10([fit.penalties.ridge * fit.penalties.turn for fit in fits])
    assert (np.diff(strength) < 1e-9).all()
    same = [f.penalties for f in fits if f.penalties.ridge == fits[0].penalties.ridge]
    same = [held.warmup for held in same if held.turn == fits[0].penalties.turn]
    assert same[0] == min(same)
    # Without a warm-up these losses cannot be told to a percent.
    assert decay.fit(dataclasses.replace(WEAK)).error > DISCREPANCY * least
    assert all(fit.penalties.warmup > 0 for fit in fits)


def test_noise_is_not_fitted_and_the_truth_lies_within_the_intervals(noisy):
    true, decay, fits = noisy
    assert fits[0].error == pytest.approx(0.01, rel=0.2)
    forecast = Forecast(
        learning=dataclasses.replace(learning(), spectrum=fits[0].spectrum),
        draws=redrawn(decay, fits, [len(decay.loss)], seed=0, draws=20),
        error=fits[0].error,
        longest=400.0,
    )
    others = drawn_designs(100)
    told, truth = forecast(others), losses(true, others)
    assert np.median(np.abs(told.loss / truth - 1)) < 0.01
    assert ((told.low <= truth) & (truth <= told.high)).mean() > 0.95
    assert np.median((told.high - told.low) / told.loss) < 0.1
    assert not told.extrapolated.any()


def test_what_lies_beyond_three_times_the_pilot_is_marked(noisy):
    """Rounds count at the devices' rate, which is twice the server's."""
    _, decay, fits = noisy
    forecast = Forecast(
        learning=dataclasses.replace(learning(), spectrum=fits[0].spectrum),
        draws=redrawn(decay, fits[:1], [len(decay.loss)], seed=0, draws=2),
        error=fits[0].error,
        longest=100.0,
    )
    ends = np.array([[600.0, 0.0], [602.0, 0.0], [0.0, 300.0], [0.0, 301.0], [300.0, 151.0]])
    designs = dataclasses.replace(
        drawn_designs(5), pretraining_rounds=ends[:, 0], finetuning_rounds=ends[:, 1]
    )
    assert forecast(designs).extrapolated.tolist() == [False, True, False, True, True]
    along, curve = forecast.curve(design(400, 200, [4, 4, 4]), count=11)
    assert along.pretraining_rounds[[0, 10, -1]].tolist() == [0, 400, 400]
    assert along.finetuning_rounds[[0, 10, -1]].tolist() == [0, 0, 200]
    assert curve.extrapolated[-1]
    assert not curve.extrapolated[10]
    assert curve.loss[-1] == pytest.approx(
        float(end_loss(scenario(fits[0].spectrum), design(400, 200, [4, 4, 4]))), rel=1e-5
    )
