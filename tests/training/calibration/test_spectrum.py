"""One pilot on problems whose end loss is known exactly, and what is refused."""

import dataclasses
import json

import numpy as np
import pytest

from jaxedge import presets
from jaxedge.scenario.scenario import Spectrum
from jaxedge.training.calibration.constants import calibrate
from jaxedge.training.calibration.observations import Designs, end_losses
from jaxedge.training.calibration.pilot import PilotPlan, PilotRefused, run_pilot
from jaxedge.training.calibration.spectrum import calibrate_spectrum, check_told
from tests.training.calibration.quadratic_tasks import quadratic_task

RNG = np.random.default_rng(12)
SIZES = np.array([60, 40, 80])
WEIGHT = np.array([0.5, 0.2, 0.3])
RATES = {"server_learning_rate": 0.05, "device_learning_rate": 0.1}
CURVATURE = np.geomspace(0.01, 6.0, 10)
PLAN = PilotPlan(rounds=300)
VARIANCE = np.array([1.0, 3.0, 0.5])
"""Of the devices' samples, as told to the calibration; the data are made to it."""


def scenario(**learning):
    found = presets.get("small")
    changed = {"device_weight": WEIGHT, **RATES, **learning}
    return dataclasses.replace(found, learning=dataclasses.replace(found.learning, **changed))


def random_task():
    """Quadratics of one Hessian: start, shift and the samples' spread are drawn."""
    spread = 0.3 * RNG.uniform(0.5, 1.5, 10) / np.sqrt(CURVATURE)
    centre = 0.4 * RNG.normal(size=10) / np.sqrt(CURVATURE)
    server = centre + spread * RNG.normal(size=(300, 10))
    levels = np.repeat(np.sqrt(VARIANCE), SIZES)[:, None]
    devices = levels * spread * RNG.normal(size=(SIZES.sum(), 10))
    start = 1.5 * RNG.choice([-1, 1], 10) / np.sqrt(CURVATURE) * RNG.uniform(0.5, 1.5, 10)
    return quadratic_task(CURVATURE, server, devices, SIZES, start)


def true_spectrum(task):
    """Start, shift and noise of the task, mode by mode; exact as all Hessians commute."""
    own = np.split(task.devices.x, np.cumsum(SIZES)[:-1])
    centre = WEIGHT @ np.stack([x.mean(axis=0) for x in own])
    start = np.concatenate(task.weights) - centre
    shift = task.general.x.mean(axis=0) - centre
    around = WEIGHT @ np.stack([((x - centre) ** 2).mean(axis=0) for x in own])
    half = CURVATURE / 2
    return Spectrum(
        curvature=CURVATURE,
        start=half * start**2,
        cross=half * start * shift,
        shift=half * shift**2,
        server_noise=CURVATURE**2 * task.general.x.var(axis=0),
        device_noise=CURVATURE**2 * np.stack([x.var(axis=0) for x in own]),
        floor=half @ around,
        warmup=0.0,
    )


def alone(spectrum):
    names = [item.name for item in dataclasses.fields(Spectrum)]
    return Spectrum(**{name: np.asarray(getattr(spectrum, name))[None] for name in names})


def drawn_designs(most, count=80):
    return Designs(
        pretraining_rounds=RNG.integers(0, most, count) * 1.0,
        finetuning_rounds=RNG.integers(0, most, count) * 1.0,
        server_batch=RNG.integers(2, 30, count) * 1.0,
        device_batch=RNG.integers(1, 20, (count, 3)) * 1.0,
    )


@pytest.fixture(scope="module")
def task():
    return random_task()


@pytest.fixture(scope="module")
def found(task):
    return calibrate_spectrum(task, scenario(), PLAN, device_variance=VARIANCE)


def test_the_predicted_loss_of_a_quadratic_is_the_true_one(task, found):
    """Within the pilot's noise, at designs as long as its longest legs."""
    designs = drawn_designs(300)
    told = found.forecast(designs)
    true = end_losses(scenario().learning, alone(true_spectrum(task)), designs)[0]
    assert np.median(np.abs(told.loss / true - 1)) < found.fit.error
    assert ((told.low <= true) & (true <= told.high)).mean() >= 0.95
    assert found.fit.error < 0.05


def test_the_noise_is_the_true_one(task, found):
    true = true_spectrum(task)
    assert found.spectrum.server_noise.sum() == pytest.approx(true.server_noise.sum(), rel=0.3)
    levels = found.spectrum.device_noise.sum(axis=1)
    np.testing.assert_allclose(levels / levels[0], VARIANCE, rtol=1e-6)
    assert WEIGHT**2 @ levels == pytest.approx(WEIGHT**2 @ true.device_noise.sum(axis=1), rel=0.3)


def test_the_scenario_takes_the_spectrum_at_the_pilots_rates_alone(found):
    carried = found.as_scenario(scenario())
    np.testing.assert_array_equal(carried.learning.spectrum.start, found.spectrum.start)
    with pytest.raises(ValueError, match=r"device_learning_rate = 0\.02: the pilot ran at 0\.1"):
        found.as_scenario(scenario(device_learning_rate=0.02))


def test_what_was_measured_and_spent_is_told_in_plain_json(found):
    told = json.loads(json.dumps(found.to_dict()))
    assert told["energy"] == found.pilot.energy > 0
    assert told["error"] == found.fit.error
    assert [leg["loss"][0] for leg in told["legs"]] == [leg.loss[0] for leg in found.pilot.legs]


def test_constants_and_spectrum_come_from_one_run(task):
    """At the same draws: the trial run is the pilot's first leg and the fine-tuning from there."""
    plan = PilotPlan(rounds=40, seed=2)
    found = calibrate(task, scenario(), pilot=plan)
    assert [point.rounds for point in found.points[::5]] == [0, 40, 53]
    assert found.points[5].loss == pytest.approx(found.spectrum.pilot.legs[0].loss[-1], rel=1e-6)
    assert found.points[10].loss == pytest.approx(found.spectrum.pilot.legs[2].loss[-1], rel=1e-6)
    np.testing.assert_array_equal(
        found.scenario.learning.spectrum.start, found.spectrum.spectrum.start
    )
    levels = found.spectrum.spectrum.device_noise.sum(axis=1)
    variance = found.constants["device_variance"].value
    np.testing.assert_allclose(levels / levels[0], variance / variance[0], rtol=1e-6)
    assert found.spectrum.how in found.to_toml()
    # Rounds are charged with the model's own bits: ten weights of 32 bits, up and down.
    charged = dataclasses.replace(scenario(), upload_bits=320, download_bits=320)
    again = run_pilot(task, charged, plan)
    assert (found.spectrum.pilot.energy, found.spectrum.pilot.delay) == (again.energy, again.delay)


def test_a_refused_pilot_loses_no_constant(task):
    """Its reason stands where those of other constants do; here rates are above 1/smoothness."""
    fast = scenario(device_learning_rate=0.17, smoothness=5.0)
    found = calibrate(task, fast, pilot=PilotPlan(rounds=40))
    assert "the pilot ran at 0.17" in found.left_out["spectrum"]
    assert found.scenario.learning.spectrum is None
    assert found.constants["smoothness"].value == pytest.approx(CURVATURE[-1], rel=1e-3)
    low = dataclasses.replace(task, loss=lambda w, x, y: task.loss(w, x, y) - 100)
    refused = calibrate(low, scenario(), pilot=PilotPlan(rounds=40), lower_loss=-1000.0)
    assert "needs losses above 0" in refused.left_out["spectrum"]
    assert refused.spectrum is None


def moved(task, **data):
    """The task with other samples."""
    changed = {name: dataclasses.replace(getattr(task, name), x=x) for name, x in data.items()}
    return dataclasses.replace(task, **changed)


def test_data_without_spread_are_refused(task):
    flat = moved(task, general=np.zeros_like(task.general.x))
    with pytest.raises(PilotRefused, match="gradients of the server's samples do not differ") as e:
        calibrate_spectrum(flat, scenario(), PilotPlan(rounds=40))
    assert len(e.value.legs) == 6


def test_a_fit_that_leaves_most_of_what_the_losses_vary_by_is_refused(found):
    loss = np.concatenate([leg.loss for leg in found.pilot.legs])
    spread = np.std(loss) / np.mean(loss)
    poor, fair = (
        dataclasses.replace(found.fit, residuals=np.full(len(loss), share * spread))
        for share in (0.73, 0.69)
    )
    check_told(fair, loss, found.pilot.legs)
    with pytest.raises(PilotRefused, match="too short or too noisy to say anything"):
        check_told(poor, loss, found.pilot.legs)


def test_losses_below_zero_are_refused(task):
    low = dataclasses.replace(task, loss=lambda w, x, y: task.loss(w, x, y) - 100)
    with pytest.raises(PilotRefused, match="needs losses above 0"):
        calibrate_spectrum(low, scenario(), PilotPlan(rounds=40))
