"""The end loss against training whose course is known exactly, and its proved companion under it.

Mean and variance of SGD on commuting quadratics obey a recursion, so the expected loss is known
without sampling; `end_loss.json` holds values of an independent program.
"""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.bounds.end_loss import end_loss, end_loss_coefficients, end_loss_modes
from jaxedge.bounds.last_iterate import last_iterate_bound
from jaxedge.bounds.modes import effective_rounds
from jaxedge.scenario import files, presets
from jaxedge.scenario.scenario import Learning, Spectrum
from jaxedge.system.allocation import Allocation, StageAllocation
from tests.random_cases import random_scenario


def with_learning(learning):
    """Any scenario around these constants: the end loss sees only the learning part."""
    return dataclasses.replace(random_scenario(np.random.default_rng(0), 1), learning=learning)


def design(first, second, server_batch, device_batch):
    stages = [
        StageAllocation(batch=jnp.asarray(batch, "float64"), clock=1e9, power=1.0)
        for batch in (server_batch, device_batch)
    ]
    return Allocation(
        pretraining_rounds=first, finetuning_rounds=second, server=stages[0], devices=stages[1]
    )


def learning_of(spectrum, weight, eta0, eta):
    """Constants that only the end loss looks at."""
    ones = np.ones(len(weight))
    return Learning(
        initial_gap=1.0,
        smoothness=10.0,
        discrepancy=0.1,
        server_learning_rate=eta0,
        device_learning_rate=eta,
        server_variance=1.0,
        device_variance=ones,
        device_weight=weight,
        spectrum=spectrum,
    )


# --- an independent program -------------------------------------------------------------------


@pytest.fixture(scope="module")
def checks(data_dir):
    return json.loads((data_dir / "end_loss.json").read_text(encoding="utf-8"))


def compare(scenario, asked, within=1e-10):
    m, n = asked["pretraining_rounds"], asked["finetuning_rounds"]
    found = end_loss_coefficients(scenario.learning, m, n)
    np.testing.assert_allclose(found.constant, asked["constant"], rtol=within)
    np.testing.assert_allclose(found.server, asked["server"], rtol=within)
    np.testing.assert_allclose(found.devices, asked["devices"], rtol=within)
    if "end_loss" in asked:
        at = design(m, n, asked["server_batch"], asked["device_batch"])
        np.testing.assert_allclose(end_loss(scenario, at), asked["end_loss"], rtol=within)


def test_agrees_with_an_independent_program(checks):
    for case in checks["cases"]:
        scenario = files.from_tree(case["scenario"])
        for asked in case["coefficients"]:
            compare(scenario, asked)


def test_agrees_where_rates_differ_and_training_warms_up(checks):
    block = checks["different_rates_with_warmup"]
    scenario = files.from_tree(block["scenario"])
    learning = scenario.learning
    for asked in block["coefficients"]:
        compare(scenario, asked)
        m, n = effective_rounds(
            learning.spectrum.warmup,
            learning.server_learning_rate / learning.device_learning_rate,
            asked["pretraining_rounds"],
            asked["finetuning_rounds"],
        )
        np.testing.assert_allclose(m, asked["effective_pretraining_rounds"], rtol=1e-10)
        np.testing.assert_allclose(n, asked["effective_finetuning_rounds"], rtol=1e-10)


def quadratic(block):
    problem = block["problem"]
    rates = problem["server_learning_rate"], problem["device_learning_rate"]
    spectrum = Spectrum(**{key: np.array(value) for key, value in block["end_loss"].items()})
    return problem, learning_of(spectrum, np.array(problem["device_weight"]), *rates)


@pytest.mark.parametrize("which", [0, 1])
def test_is_the_expected_loss_of_quadratics(checks, which):
    block = checks["quadratics"][which]
    _, learning = quadratic(block)
    for asked in block["designs"]:
        rounds = asked["pretraining_rounds"], asked["finetuning_rounds"]
        found = end_loss(
            with_learning(learning),
            design(*rounds, asked["server_batch"], np.array(asked["device_batch"])),
        )
        np.testing.assert_allclose(found, asked["expected_end_loss"], rtol=1e-10)
        known = asked["monte_carlo"]
        assert abs(found - known["mean"]) < 4 * known["standard_error"]


def test_sgd_itself_ends_there(checks):
    """20,000 runs of SGD in the original coordinates, where nothing is diagonal."""
    problem, learning = quadratic(checks["quadratics"][0])
    hessian, best, other = (np.array(problem[key]) for key in ("H", "w_star", "w0_star"))
    roots = [
        np.linalg.cholesky(np.array(c)) for c in (problem["cov_server"], *problem["cov_devices"])
    ]
    rng, runs = np.random.default_rng(7), 20_000
    weight, batches = np.array(problem["device_weight"]), np.array([2.0, 4.0, 1.0])
    w = np.tile(np.array(problem["start"]), (runs, 1))
    for _ in range(15):
        noise = rng.standard_normal(w.shape) @ roots[0].T / np.sqrt(3.0)
        w = w - problem["server_learning_rate"] * ((w - other) @ hessian + noise)
    for _ in range(10):
        noise = sum(
            share * rng.standard_normal(w.shape) @ root.T / np.sqrt(batch)
            for share, root, batch in zip(weight, roots[1:], batches, strict=True)
        )
        w = w - problem["device_learning_rate"] * ((w - best) @ hessian + noise)
    losses = problem["floor"] + np.einsum("ri,ij,rj->r", w - best, hessian, w - best) / 2
    expected = float(end_loss(with_learning(learning), design(15, 10, 3.0, batches)))
    assert abs(np.mean(losses) - expected) < 4 * np.std(losses) / np.sqrt(runs)


# --- exactness --------------------------------------------------------------------------------


def random_quadratic(seed):
    """Commuting quadratics: curvatures, start and shift of every mode, and noise covariances."""
    rng = np.random.default_rng(seed)
    modes, devices = rng.integers(1, 7), rng.integers(1, 5)
    eta0, eta = rng.choice([0.01, 0.05, 0.1], 2)
    h = np.sort(np.exp(rng.uniform(np.log(1e-4), np.log(0.99 / max(eta0, eta)), modes)))
    u, d = rng.standard_normal((2, modes)) * rng.choice([0.1, 1.0, 10.0], (2, 1))
    c0 = rng.exponential(size=modes) * rng.choice([0.0, 1.0, 20.0])
    ck = rng.exponential(size=(devices, modes)) * rng.choice([0.0, 1.0, 20.0])
    spectrum = Spectrum(
        curvature=h,
        start=h / 2 * u**2,
        cross=h / 2 * u * d,
        shift=h / 2 * d**2,
        server_noise=c0,
        device_noise=ck,
        floor=rng.exponential(),
    )
    return rng, u, d, learning_of(spectrum, rng.dirichlet(np.ones(devices)), eta0, eta)


def recursion(learning, u, d, rounds, batches):
    """F* + sum h/2 (mean² + variance), step by step."""
    task, h = learning.spectrum, learning.spectrum.curvature
    mean, variance = u, np.zeros_like(u)
    rho, r = 1 - learning.server_learning_rate * h, 1 - learning.device_learning_rate * h
    noise0 = learning.server_learning_rate**2 * task.server_noise / batches[0]
    parts = learning.device_weight[:, None] ** 2 * task.device_noise / batches[1][:, None]
    noise = learning.device_learning_rate**2 * parts.sum(axis=0)
    for _ in range(rounds[0]):
        mean, variance = rho * (mean - d) + d, rho**2 * variance + noise0
    for _ in range(rounds[1]):
        mean, variance = r * mean, r**2 * variance + noise
    return task.floor + np.sum(h / 2 * (mean**2 + variance))


def test_is_exact_for_commuting_quadratics():
    for seed in range(200):
        rng, u, d, learning = random_quadratic(seed)
        rounds = [int(rng.choice([0, 1, 7, 300])) for _ in range(2)]
        batches = rng.integers(1, 9), rng.integers(1, 9, len(learning.device_weight))
        found = end_loss(with_learning(learning), design(*rounds, *batches))
        np.testing.assert_allclose(found, recursion(learning, u, d, rounds, batches), rtol=1e-12)


def test_nothing_cancels_where_modes_are_flat():
    """Against rational arithmetic, with curvatures down to 1e-12."""
    h = np.array([1e-12, 1e-7, 1e-3, 0.3])
    one = np.ones(4)
    flat = dict.fromkeys(("start", "cross", "shift"), 0 * one)
    spectrum = Spectrum(curvature=h, **flat, server_noise=one, device_noise=one[None], floor=0.0)
    m, n, eta = 40, 3, Fraction(0.1)
    found = end_loss_coefficients(learning_of(spectrum, np.ones(1), 0.1, 0.1), m, n)
    r = [1 - eta * Fraction(float(x)) for x in h]
    half = [eta**2 * Fraction(float(x)) / 2 for x in h]
    per = [x * (1 - y ** (2 * n)) / (1 - y**2) for x, y in zip(half, r, strict=True)]
    pre = [x * y ** (2 * n) * (1 - y ** (2 * m)) / (1 - y**2) for x, y in zip(half, r, strict=True)]
    np.testing.assert_allclose(found.devices, [float(sum(per))], rtol=1e-14)
    np.testing.assert_allclose(found.server, float(sum(pre)), rtol=1e-14)
    single = dataclasses.replace(
        spectrum,
        **{key: value[..., :1] for key, value in vars(spectrum).items() if np.ndim(value)},
    )
    alone = end_loss_coefficients(learning_of(single, np.ones(1), 0.1, 0.1), m, n)
    np.testing.assert_allclose(alone.devices, [float(per[0])], rtol=1e-14)


def test_without_a_round_only_the_start_is_left():
    for seed in range(20):
        *_, learning = random_quadratic(seed)
        for warmup in (0.0, 30.0):
            task = dataclasses.replace(learning.spectrum, warmup=warmup)
            at = end_loss_coefficients(dataclasses.replace(learning, spectrum=task), 0, 0)
            np.testing.assert_allclose(at.constant, task.floor + np.sum(task.start), rtol=1e-14)
            assert at.server == 0 and not np.any(at.devices)


def test_warm_up_follows_its_formula():
    def tau(t):
        return t - 20 * (1 - np.exp(-t / 20))

    m, n = effective_rounds(20.0, 0.4, np.array([100.0, 7.0]), 50.0)
    before = 0.4 * np.array([100.0, 7.0])
    np.testing.assert_allclose(m, tau(before) / 0.4, rtol=1e-12)
    np.testing.assert_allclose(n, tau(before + 50) - tau(before), rtol=1e-12)
    short = effective_rounds(1e6, 1.0, 0.01, 0.02)
    # (t - t³/6w)/2w is below the rounding of the formula above.
    np.testing.assert_allclose(short, [0.01**2 / 2e6, (0.03**2 - 0.01**2) / 2e6], rtol=1e-7)


def test_warm_up_is_the_limit_of_growing_curvature():
    """To first order in eta h: a mode whose curvature is (1 - exp(-t/w)) h, step by step."""
    h, eta, w, u = 2e-4, 0.05, 30.0, 3.0
    growth = 1 - np.exp(-(np.arange(90) + 0.5) / w)
    mean = u * np.prod(1 - eta * h * growth)
    _, n = effective_rounds(w, 1.0, 0.0, 90.0)
    np.testing.assert_allclose(u * (1 - eta * h) ** n, mean, rtol=1e-7)


def test_noise_grows_with_its_own_stage():
    for seed in range(50):
        rng, *_, learning = random_quadratic(seed)
        m, n = rng.uniform(0, 300, 2)
        at, later, more = (
            end_loss_coefficients(learning, *rounds) for rounds in ((m, n), (m + 5, n), (m, n + 5))
        )
        assert later.server >= at.server >= more.server
        assert np.all(more.devices >= at.devices)
        np.testing.assert_array_equal(later.devices, at.devices)


# --- as a function ----------------------------------------------------------------------------


@pytest.mark.parametrize("warmup", [0.0, 15.0])
@pytest.mark.parametrize("rounds", [(0.0, 0.0), (40.0, 0.0), (0.0, 25.0), (40.0, 25.0)])
def test_derivatives_are_those_of_differences(rounds, warmup):
    _, _, _, learning = random_quadratic(3)
    learning = dataclasses.replace(
        learning, spectrum=dataclasses.replace(learning.spectrum, warmup=warmup)
    )

    def value(log_scale, m, n):
        moved = jax.tree.map(lambda x: x * jnp.exp(log_scale), learning)
        return end_loss_coefficients(moved, m, n).value(1 / 3, 1 / 2)

    given = (0.0, *rounds)
    exact = jax.grad(value, argnums=(0, 1, 2))(*given)
    for i, slope in enumerate(exact):
        step = 1e-4

        def moved(by, i=i):
            return float(value(*(x + by * (j == i) for j, x in enumerate(given))))

        centred = (moved(step) - moved(-step)) / (2 * step)
        ahead = (4 * moved(step) - moved(2 * step) - 3 * moved(0)) / (2 * step)
        expected = ahead if given[i] == 0 and i else centred
        np.testing.assert_allclose(slope, expected, rtol=2e-5, atol=1e-8)


def test_the_derivative_to_the_warm_up_is_continuous_at_none():
    def rounds(w, m, n):
        return jnp.stack(effective_rounds(w, 0.5, m, n))

    for m, n in ((0.0, 9.0), (8.0, 0.0), (8.0, 9.0), (0.0, 0.0)):
        slope = jax.jacfwd(rounds)
        np.testing.assert_allclose(slope(0.0, m, n), slope(1e-3, m, n), atol=1e-12)


def test_runs_compiled_and_over_batches():
    *_, learning = random_quadratic(5)
    m, n = np.array([0.0, 10.0, 200.0]), np.array([7.0, 0.0, 30.0])
    batch = jax.jit(jax.vmap(end_loss_coefficients, (None, 0, 0)))(learning, m, n)
    for i in range(3):
        one = end_loss_coefficients(learning, m[i], n[i])
        for a, b in zip(jax.tree.leaves(batch), jax.tree.leaves(one), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-14)


@pytest.mark.parametrize(
    ("value", "missing"), [(end_loss, "spectrum"), (last_iterate_bound, "pl_constant")]
)
def test_needs_its_constants(value, missing):
    learning = dataclasses.replace(presets.get("small").learning, **{missing: None})
    with pytest.raises(ValueError, match=rf"learning\.{missing} is missing"):
        value(with_learning(learning), design(1, 1, 1, np.ones(3)))


# --- the proved companion ---------------------------------------------------------------------


def companion(seed):
    """A random quadratic under a tilted pre-training loss, with the constants of the PL bound."""
    rng, u, _, learning = random_quadratic(seed)
    h = learning.spectrum.curvature
    most = 1 / h[-1]
    tilt = rng.standard_normal(len(h)) * rng.choice([0.0, 0.3, 1.0])
    noise = rng.exponential(size=2) * rng.choice([0.0, 5.0])
    count, modes = len(learning.device_weight), len(h)
    spectrum = Spectrum(
        curvature=h,
        start=h / 2 * u**2,
        cross=h / 2 * u * tilt / h,
        shift=h / 2 * (tilt / h) ** 2,
        server_noise=np.full(modes, noise[0] / modes),
        device_noise=np.full((count, modes), noise[1] / modes),
        floor=0.0,
    )
    return rng, dataclasses.replace(
        learning,
        initial_gap=float(np.sum(spectrum.start)),
        smoothness=float(h[-1]),
        discrepancy=float(np.sum(tilt**2)),
        server_learning_rate=most * rng.choice([0.05, 0.5, 1 - 1e-9]),
        device_learning_rate=most * rng.choice([0.05, 0.5, 1 - 1e-9]),
        server_variance=noise[0],
        device_variance=np.full(count, noise[1]),
        pl_constant=float(h[0]),
        spectrum=spectrum,
    )


def test_exact_training_stays_under_the_last_iterates_bound():
    closest = 0.0
    for seed in range(300):
        rng, learning = companion(seed)
        rounds = [int(rng.choice([0, 1, 5, 60, 2000])) for _ in range(2)]
        batches = rng.integers(1, 9), rng.integers(1, 9, len(learning.device_weight))
        scenario, at = with_learning(learning), design(*rounds, *batches)
        found, bound = float(end_loss(scenario, at)), float(last_iterate_bound(scenario, at))
        assert found <= bound * (1 + 1e-9) + 1e-15, (seed, found, bound)
        closest = max(closest, found / max(bound, 1e-300) if max(rounds) else 0.0)
    assert closest > 0.9  # The test would notice a bound that had lost a tenth of itself.


def test_the_last_iterates_bound_is_its_formula():
    scenario = presets.get("small")
    task, b = scenario.learning, np.array([2.0, 3.0, 8.0])
    mu, step = task.pl_constant, task.smoothness / (2 * task.pl_constant)
    q, r = ((1 - mu * rate) ** x for rate, x in ((0.01, 70), (0.01, 30)))
    drift = task.discrepancy / (2 * mu) + step * 0.01 * task.server_variance / 4
    noise = np.sum(task.device_weight**2 * task.device_variance / b)
    expected = r * (q * task.initial_gap + (1 - q) * drift) + (1 - r) * step * 0.01 * noise
    found = last_iterate_bound(scenario, design(70, 30, 4.0, b))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_one_step_may_do_all():
    """Mu = L and the rate 1/L: F is a parabola, and its minimum is reached in one step."""
    task = dataclasses.replace(
        presets.get("small").learning, smoothness=2.0, pl_constant=2.0, discrepancy=0.0
    )
    task = dataclasses.replace(
        task, server_learning_rate=0.5, device_learning_rate=0.5, server_variance=0.0
    )
    scenario = with_learning(task)
    start = float(last_iterate_bound(scenario, design(0, 0, 1, np.ones(3))))
    assert start == task.initial_gap
    assert float(last_iterate_bound(scenario, design(1, 0, 1, np.ones(3)))) < 1e-15


def test_modes_of_the_end_loss_are_nonnegative():
    modes = end_loss_modes(random_quadratic(1)[-1])
    for name in ("start", "shift", "server_noise", "device_noise", "pretraining_rate"):
        assert np.all(np.asarray(getattr(modes, name)) >= 0)
