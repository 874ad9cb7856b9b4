"""Calibration finds constants that are known, and its intervals hold them."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import presets
from jaxedge.bounds.two_stage import two_stage_bound
from jaxedge.scenario import files
from jaxedge.scenario.intervals import load_within
from jaxedge.training.calibration import estimates
from jaxedge.training.calibration.constants import calibrate
from jaxedge.training.calibration.path import Trial, path
from jaxedge.training.calibration.points import Measured, Owners
from jaxedge.training.data.datasets import Dataset
from jaxedge.training.models.tasks import Task
from jaxedge.training.rounds.stages import Span, Stage, finetune, pretrain
from tests.short_runs import design

RNG = np.random.default_rng(5)
SIZES = np.array([7, 12, 9])
WEIGHT = np.array([0.5, 0.2, 0.3])
TRIAL = Trial(pretraining_rounds=21, finetuning_rounds=9, intervals=3, server_batch=5)
CURVATURE = np.array([3.0, 2.0, 1.5, 0.5])


def base(**learning):
    """The preset of three devices, with weights of its own."""
    found = presets.get("small")
    changed = dataclasses.replace(found.learning, device_weight=WEIGHT, **learning)
    return dataclasses.replace(found, learning=changed)


def data(x, y=None):
    """Samples past the checks of `dataset`, in double precision."""
    y = np.zeros(len(x), np.int32) if y is None else y
    return Dataset(x=x, y=y, num_classes=3, name="made")


def task_of(server, devices, weights, loss, sizes=SIZES, tuned=None):
    return Task(
        general=server,
        devices=devices,
        offsets=np.cumsum([0, *sizes]),
        test=devices,
        weights=weights,
        loss=loss,
        outputs=lambda w, x: jnp.zeros((len(x), 3)),
        tuned=tuned,
    )


def of_devices(values):
    return np.split(values, np.cumsum(SIZES)[:-1])


# --- quadratics: constants are the same everywhere and known exactly ---


def quadratic_loss(weights, x, y):
    """Half of (w - x)' A (w - x), the weights in two leaves."""
    del y
    w = jnp.concatenate([weights["a"], weights["b"]])
    return 0.5 * jnp.sum(CURVATURE[None] * (w[None] - x) ** 2, axis=1)


@pytest.fixture(scope="module")
def quadratic():
    x = RNG.normal(size=(SIZES.sum(), 4)) + np.repeat(RNG.normal(size=(3, 4)), SIZES, axis=0)
    start = {"a": jnp.asarray([4.0, -3.0]), "b": jnp.asarray([2.0, 5.0])}
    return task_of(data(RNG.normal(size=(20, 4)) + 1), data(x), start, quadratic_loss)


def mean_of_devices(task):
    return WEIGHT @ np.stack([part.mean(axis=0) for part in of_devices(task.devices.x)])


def lowest_loss(task):
    """F*, the devices' weighted loss at their weighted mean."""
    at = mean_of_devices(task)
    each = [0.5 * (CURVATURE * (part - at) ** 2).sum(axis=1) for part in of_devices(task.devices.x)]
    return float(WEIGHT @ [part.mean() for part in each])


@pytest.fixture(scope="module")
def found(quadratic):
    return calibrate(quadratic, base(), TRIAL, lower_loss=lowest_loss(quadratic))


def variance_of(x):
    return np.square(CURVATURE * (x - x.mean(axis=0))).sum(axis=1).mean()


def test_constants_of_quadratics_are_exact(quadratic, found):
    start = np.array([4.0, -3.0, 2.0, 5.0])
    mean = mean_of_devices(quadratic)
    server = quadratic.general.x
    expected = {
        "smoothness": 3.0,
        "initial_gap": 0.5 * CURVATURE @ (start - mean) ** 2,
        "discrepancy": np.sum((CURVATURE * (mean - server.mean(axis=0))) ** 2),
        "server_variance": variance_of(server),
        "device_variance": [variance_of(part) for part in of_devices(quadratic.devices.x)],
    }
    for name, value in expected.items():
        estimate = found.constants[name]
        np.testing.assert_allclose(estimate.value, value, rtol=1e-9, err_msg=name)
        slack = 1e-12 * np.asarray(value)
        assert np.all(estimate.low <= value + slack), name
        assert np.all(value <= estimate.high + slack), name
        np.testing.assert_array_equal(getattr(found.scenario.learning, name), estimate.value)
    # Samples have one Hessian: nothing is left to chance.
    assert found.constants["smoothness"].high == pytest.approx(3.0, rel=1e-6)


def test_the_pl_constant_is_the_lower_envelope(quadratic, found):
    mean, ratios = mean_of_devices(quadratic), []
    for point in list(path(quadratic, base(), TRIAL))[:4]:
        apart = np.concatenate([point.weights["a"], point.weights["b"]]) - mean
        ratios.append(np.sum((CURVATURE * apart) ** 2) / (CURVATURE @ apart**2))
    estimate = found.constants["pl_constant"]
    assert estimate.value == pytest.approx(min(ratios), rel=1e-9)
    assert 0.5 < estimate.value < 3
    assert estimate.value <= estimate.high


def test_what_cannot_be_fitted_is_left_out_with_its_reason(found):
    first = found.points[:4]
    smooth = found.constants["smoothness"]
    assert "did not lower F" in estimates.pl_constant(first[::-1], 0.0, 0.1, smooth)
    flat = [*first[:-1], dataclasses.replace(first[-1], gradient_norm_squared=0.0)]
    assert "vanished" in estimates.pl_constant(flat, 0.0, 0.1, smooth)
    straight = [dataclasses.replace(point, curvature=0.0) for point in first]
    with pytest.raises(ValueError, match="smoothness: the largest eigenvalue of the Hessian is 0"):
        estimates.smoothness(straight, WEIGHT)
    with pytest.raises(ValueError, match=r"lower_loss = .*: must be below .* met after 21 rounds"):
        estimates.check_above(first[-1], first[-1].loss)


# --- logistic regression, against NumPy at every point ---


def logistic_loss(weights, x, y):
    logits = x @ weights["w"] + weights["b"][None]
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1)[:, 0]


@pytest.fixture(scope="module")
def logistic():
    x, y = RNG.normal(size=(SIZES.sum(), 2)), RNG.integers(0, 3, SIZES.sum()).astype(np.int32)
    server = data(RNG.normal(size=(15, 2)), RNG.integers(0, 3, 15).astype(np.int32))
    start = {"w": jnp.asarray(RNG.normal(size=(2, 3))), "b": jnp.zeros(3)}
    return task_of(server, data(x, y), start, logistic_loss)


SAME_RATES = {"server_learning_rate": 0.1, "device_learning_rate": 0.1}


@pytest.fixture(scope="module")
def measured(logistic):
    return calibrate(logistic, base(**SAME_RATES), TRIAL)


def plain(weights, x, y):
    """(n, 9) gradients and (9, 9) mean Hessian of softmax regression, written out."""
    inputs = np.c_[x, np.ones(len(x))]
    logits = inputs @ np.vstack([weights["w"], weights["b"]])
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    gradients = np.einsum("ni,nc->nic", inputs, shares - np.eye(3)[y]).reshape(len(x), -1)
    inner = np.einsum("nc,cd->ncd", shares, np.eye(3)) - np.einsum("nc,nd->ncd", shares, shares)
    hessians = np.einsum("ni,nj,ncd->nicjd", inputs, inputs, inner).reshape(len(x), 9, 9)
    return gradients, hessians


@pytest.fixture(scope="module")
def expected(logistic):
    """What is true at each point of the path."""
    server = logistic.general
    rows = []
    for point in path(logistic, base(**SAME_RATES), TRIAL):
        general, _ = plain(point.weights, server.x, server.y)
        own, hessians = plain(point.weights, logistic.devices.x, logistic.devices.y)
        parts = of_devices(own)
        mean = WEIGHT @ [part.mean(axis=0) for part in parts]
        hessian = sum(w * h.mean(axis=0) for w, h in zip(WEIGHT, of_devices(hessians), strict=True))
        apart = mean - general.mean(axis=0)
        covariance = np.cov(general.T) / len(general) + sum(
            w**2 * np.cov(part.T) / len(part) for w, part in zip(WEIGHT, parts, strict=True)
        )
        rows.append(
            {
                "norm": np.sum(mean**2),
                "discrepancy": np.sum(apart**2),
                "curvature": np.linalg.eigvalsh(hessian)[-1],
                "server": spread(general),
                "devices": np.array([spread(part) for part in parts]),
                "slope": parts[1] @ apart,
                "noise": np.sum(covariance**2),
            }
        )
    return rows


def spread(gradients):
    return np.square(gradients - gradients.mean(axis=0)).sum(axis=1).mean()


def test_every_point_is_measured_as_numpy_measures_it(measured, expected):
    assert [point.rounds for point in measured.points] == [0, 7, 14, 21, 24, 27, 30]
    for point, true in zip(measured.points, expected, strict=True):
        assert point.gradient_norm_squared == pytest.approx(true["norm"], rel=1e-9)
        assert point.discrepancy == pytest.approx(true["discrepancy"], rel=1e-9)
        assert point.curvature == pytest.approx(true["curvature"], rel=1e-7)
        assert point.server_deviation.means[0] == pytest.approx(true["server"], rel=1e-9)
        np.testing.assert_allclose(point.device_deviation.means, true["devices"], rtol=1e-9)
        np.testing.assert_allclose(point.device_slope.parts()[1], true["slope"], atol=1e-12)
        assert 0.3 < point.noise_squared / true["noise"] < 3  # 28 pairs of directions
        assert WEIGHT @ point.bend.means == pytest.approx(point.curvature, rel=1e-7)


@pytest.mark.parametrize("worst", [False, True])
def test_estimates_are_means_or_maxima_of_their_stage(measured, expected, worst):
    first, second = measured.points[:4], measured.points[3:]
    over = np.max if worst else np.mean
    server = estimates.variance(first, "server", worst=worst)
    device = estimates.variance(second, "device", worst=worst)
    apart = estimates.discrepancy(first, WEIGHT, worst=worst)
    true = {name: over([row[name] for row in expected[:4]]) for name in ("server", "discrepancy")}
    assert server.value == pytest.approx(true["server"], rel=1e-9)
    assert apart.value == pytest.approx(true["discrepancy"], rel=1e-9)
    each = over([row["devices"] for row in expected[3:]], axis=0)
    np.testing.assert_allclose(device.value, each, rtol=1e-9)
    for estimate in (server, device, apart):
        assert np.all(estimate.low < estimate.value)
        assert np.all(estimate.value < estimate.high)
    smooth = measured.constants["smoothness"]
    assert smooth.value == pytest.approx(max(row["curvature"] for row in expected), rel=1e-7)
    assert smooth.low < smooth.value < smooth.high


def test_the_path_is_that_of_both_stages(logistic, measured):
    learning = base(**SAME_RATES).learning
    key = jax.random.key(TRIAL.seed)
    first = Stage(
        data=logistic.server_samples,
        batch=jnp.array([5]),
        width=5,
        rate=0.1,
        key=jax.random.fold_in(key, 1),
    )
    handed, _ = pretrain(logistic_loss, logistic.weights, first, Span(end=21, length=21))
    second = Stage(
        data=logistic.device_samples,
        weights=jnp.asarray(learning.device_weight),
        batch=jnp.asarray([7, 8, 8]),  # all that the first device has
        width=8,
        rate=0.1,
        key=jax.random.fold_in(key, 2),
    )
    end, _ = finetune(logistic_loss, handed, second, Span(end=9, length=9))
    *_, last = path(logistic, base(**SAME_RATES), TRIAL)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), last.weights, end)
    again = calibrate(logistic, base(**SAME_RATES), TRIAL)
    assert again.to_dict() == measured.to_dict()


# --- intervals hold the laws' constants as often as they say ---


def drawn_points(rng, difference, spreads, sizes):
    """One point's measurements, of gradients from normal laws in four dimensions."""
    own = [
        rng.normal(size=(n, 4)) * s + difference for n, s in zip(sizes, spreads[1:], strict=True)
    ]
    server = rng.normal(size=(40, 4)) * spreads[0]
    apart = WEIGHT @ [part.mean(axis=0) for part in own] - server.mean(axis=0)
    covariance = np.cov(server.T) / 40 + sum(
        w**2 * np.cov(part.T) / len(part) for w, part in zip(WEIGHT, own, strict=True)
    )

    def owners(function, parts):
        values = np.concatenate([function(part) for part in parts])
        return Owners(values=values, offsets=np.cumsum([0, *(len(part) for part in parts)]))

    def deviation(part):
        return np.square(part - part.mean(axis=0)).sum(axis=1)

    return Measured(
        rounds=0,
        loss=1.0,
        gradient_norm_squared=1.0,
        discrepancy=float(apart @ apart),
        server_deviation=owners(deviation, [server]),
        device_deviation=owners(deviation, own),
        tuned_deviation=owners(deviation, own),
        server_slope=owners(lambda part: part @ apart, [server]),
        device_slope=owners(lambda part: part @ apart, own),
        noise_squared=float(np.sum(covariance**2)),
        curvature=1.0,
        residual=0.0,
        bend=owners(lambda part: rng.exponential(size=len(part)) * 2.0, own),
    )


@pytest.mark.parametrize("distance", [0.0, 0.3, 3.0])
def test_intervals_hold_what_is_true_of_the_laws(distance):
    rng = np.random.default_rng(8)
    spreads = np.array([1.0, 0.5, 2.0, 1.5])
    difference = distance * np.array([0.5, 0.5, -0.5, 0.5])
    truth = {
        "server": 4 * spreads[0] ** 2,
        "device": 4 * spreads[1:] ** 2,
        "discrepancy": distance**2,
        "bend": 2.0,
    }
    held = {name: [] for name in truth}
    for _ in range(400):
        points = [drawn_points(rng, difference, spreads, (30, 40, 50))]
        points[0] = dataclasses.replace(points[0], curvature=WEIGHT @ points[0].bend.means)
        asked = {
            "server": estimates.variance(points, "server", worst=True),
            "device": estimates.variance(points, "device", worst=True),
            "discrepancy": estimates.discrepancy(points, WEIGHT, worst=True),
            "bend": estimates.smoothness(points, WEIGHT),
        }
        for name, estimate in asked.items():
            held[name].append((estimate.low <= truth[name]) & (truth[name] <= estimate.high))
    for name, each in held.items():
        share = np.mean(each)
        assert share > 0.91, name
        if name != "discrepancy":  # at 0 its lower end is cut off, and rightly never misses
            assert share < 0.99, name


# --- the scenario ---


def test_the_scenario_is_written_and_read(measured, tmp_path):
    text = measured.to_toml()
    (tmp_path / "calibrated.toml").write_text(text)
    back = files.load(tmp_path / "calibrated.toml")
    jax.tree.map(np.testing.assert_array_equal, back, measured.scenario)
    ends = load_within(tmp_path / "calibrated.toml")
    for found, expected in zip(
        ends, (measured.optimistic, measured.scenario, measured.pessimistic), strict=True
    ):
        jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert all(f"#   {name}, {found.unit}: " in text for name, found in measured.constants.items())
    assert back.upload_bits == back.download_bits == 9 * 32
    assert back.server.max_batch == 15
    assert back.devices.max_batch.tolist() == SIZES.tolist()
    assert len(measured.notes) == 2
    assert back.energy_budget == base().energy_budget
    told = json.loads(json.dumps(measured.to_dict(), allow_nan=False))
    assert told["scenario"] == files.to_tree(back)
    assert len(told["path"]) == 7


def test_no_constants_within_give_a_bound_beyond_the_ends(measured):
    plan = design(10, 20, (1, 2, 3))
    ends = [measured.optimistic, measured.scenario, measured.pessimistic]
    low, middle, high = (float(two_stage_bound(item, plan)) for item in ends)
    assert low < middle < high
    rng = np.random.default_rng(0)
    for _ in range(20):
        learning = jax.tree.map(
            lambda a, b: a + rng.random(np.shape(a)) * (b - a), ends[0].learning, ends[2].learning
        )
        inside = dataclasses.replace(ends[0], learning=learning)
        assert low <= float(two_stage_bound(inside, plan)) <= high


def test_rates_are_lowered_samples_chosen_and_adapters_told_apart(quadratic):
    steep = base(server_learning_rate=0.5, device_learning_rate=0.3, smoothness=1.0)
    adapted = dataclasses.replace(quadratic, tuned=(False, True))
    found = calibrate(adapted, steep, TRIAL, samples=8, bits_per_weight=16)
    learning = found.scenario.learning
    assert learning.server_learning_rate == pytest.approx(1 / 3, rel=1e-6)
    assert learning.device_learning_rate == 0.3
    assert "server_learning_rate is lowered from 0.5 to 1/smoothness = 0.33333" in found.notes
    assert found.scenario.upload_bits == 2 * 16
    last = found.points[-1]
    assert np.diff(last.server_deviation.offsets).tolist() == [8]
    assert np.diff(last.device_deviation.offsets).tolist() == [7, 8, 8]
    assert found.constants["smoothness"].value == pytest.approx(3.0, rel=1e-6)
    own = of_devices(quadratic.devices.x)[0]  # all of the first device's samples are chosen
    variance = np.square(CURVATURE * (own - own.mean(axis=0)))[:, 2:].sum(axis=1).mean()
    assert found.constants["device_variance"].value[0] == pytest.approx(variance, rel=1e-9)
    assert learning.device_variance[0] < last.device_deviation.means[0]
    *_, handed, _, _, end = path(adapted, steep, TRIAL)
    np.testing.assert_array_equal(end.weights["a"], handed.weights["a"])
    assert not np.array_equal(end.weights["b"], handed.weights["b"])


# --- bad input ---


def nan_task(quadratic):
    return dataclasses.replace(
        quadratic, loss=lambda w, x, y: quadratic_loss(w, x, y) * jnp.where(x[:, 0] > 0, jnp.nan, 1)
    )


BAD = {
    "another number of devices": (
        lambda t: (dataclasses.replace(t, offsets=np.array([0, 10, 28])), base()),
        {},
        "the scenario has 3 devices and the data are of 2",
    ),
    "one sample": (
        lambda t: (dataclasses.replace(t, offsets=np.array([0, 12, 13, 28])), base()),
        {},
        "device 1 has 1 sample: the variance of its gradients cannot be estimated from fewer",
    ),
    "no samples": (
        lambda t: (dataclasses.replace(t, offsets=np.array([0, 12, 12, 28])), base()),
        {},
        "device 1 has 0 samples",
    ),
    "a server with one": (
        lambda t: (dataclasses.replace(t, general=data(np.ones((1, 4)))), base()),
        {},
        "the server has 1 sample",
    ),
    "a loss of NaN": (
        lambda t: (nan_task(t), base()),
        {},
        "the loss or its gradient is not finite after 0 rounds",
    ),
    "divergence": (
        lambda t: (t, base(device_learning_rate=1e200, smoothness=1e-200, pl_constant=None)),
        {},
        "the trial run diverged between rounds 21 and 24: lower learning.device_learning_rate",
    ),
    "samples": (lambda t: (t, base()), {"samples": 1}, "samples = 1: must be a whole number >= 2"),
    "bits": (lambda t: (t, base()), {"bits_per_weight": 0}, "bits_per_weight = 0"),
    "NaN": (lambda t: (t, base()), {"lower_loss": np.nan}, "lower_loss = nan: must be a finite"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(quadratic, name):
    change, options, said = BAD[name]
    task, scenario = change(quadratic)
    with pytest.raises(ValueError, match=said.replace(".", r"\.")):
        calibrate(task, scenario, TRIAL, **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pretraining_rounds": 0}, "pretraining_rounds = 0: must be a whole number >= 1"),
        ({"device_batch": 1.5}, "device_batch = 1.5"),
        ({"seed": -1}, "seed = -1: must be a whole number >= 0"),
        ({"finetuning_rounds": 3}, "intervals = 5: must be at most the rounds of the shorter"),
    ],
)
def test_trials_that_cannot_be_run_are_named(options, said):
    with pytest.raises(ValueError, match=said):
        Trial(**options)
