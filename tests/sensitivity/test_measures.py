"""Global measures against closed forms of known functions."""

import math
import sys

import numpy as np
import pytest
from known_functions import KNOWN, product, product_indices

from jaxedge.sensitivity.measures import derivative, morris, sobol


@pytest.mark.parametrize(("function", "exact"), KNOWN.values(), ids=KNOWN)
def test_sobol_indices_are_those_in_closed_form(function, exact):
    found = sobol(function, len(exact[0]), 2**13, 0)
    for name, expected in zip(("first_order", "total_order"), exact, strict=True):
        np.testing.assert_allclose(found[name].estimate, expected, atol=8e-3)
        assert np.all(found[name].low <= found[name].estimate)
        assert np.all(found[name].estimate <= found[name].high)
        assert np.all(found[name].high - found[name].low < 0.08)


def test_all_points_are_asked_for_in_one_call():
    calls = []
    sobol(lambda shares: calls.append(shares) or product(shares), 4, 64, 0)
    assert [call.shape for call in calls] == [(64 * 6, 4)]
    assert np.all((calls[0] > 0) & (calls[0] < 1))


def cubic(shares):
    """x^3 + 2 x y + z, with x on (0, 2), y on (-1, 1) and z on (0, 1)."""
    low, width = np.array([0.0, -1.0, 0.0]), np.array([2.0, 2.0, 1.0])
    x, y, z = (low + width * shares).T
    gradients = np.column_stack([3 * x**2 + 2 * y, 2 * x, np.ones_like(x)])
    return x**3 + 2 * x * y + z, gradients, np.broadcast_to(width, gradients.shape)


# E[(3 x^2 + 2 y)^2], E[4 x^2] and 1, by E x^2 = 4/3, E x^4 = 16/5, E y^2 = 1/3.
CUBIC_SQUARES = np.array([9 * 16 / 5 + 4 / 3, 16 / 3, 1.0])
# V[x^3] = 2^6/7 - 4, V[2 x y] = 4 E x^2 E y^2, V[z] = 1/12; the parts are uncorrelated.
CUBIC_VARIANCE = 64 / 7 - 4 + 16 / 9 + 1 / 12
CUBIC_BOUNDS = CUBIC_SQUARES * np.array([4.0, 4.0, 1.0]) / (math.pi**2 * CUBIC_VARIANCE)
CUBIC_TOTALS = np.array([64 / 7 - 4 + 16 / 9, 16 / 9, 1 / 12]) / CUBIC_VARIANCE


def test_derivative_measures_of_a_polynomial_are_those_in_closed_form():
    found = derivative(cubic, 3, 2**14, 0)
    np.testing.assert_allclose(found["mean_squared_gradient"].estimate, CUBIC_SQUARES, rtol=1e-3)
    np.testing.assert_allclose(found["total_order_bound"].estimate, CUBIC_BOUNDS, rtol=1e-3)
    assert np.all(found["total_order_bound"].estimate >= CUBIC_TOTALS)


def test_poincares_bound_is_reached_by_a_cosine():
    def cosine(shares):
        return np.cos(math.pi * shares[:, 0]), -math.pi * np.sin(math.pi * shares), 1 + 0 * shares

    assert derivative(cosine, 1, 1024, 0)["total_order_bound"].estimate == pytest.approx(
        1, abs=1e-4
    )


def test_morris_effects_of_a_linear_function_are_its_slopes():
    found = morris(lambda shares: shares @ [3.0, -2.0, 0.0], 3, 8, 0)
    np.testing.assert_allclose(found["mu_star"].estimate, [3, 2, 0], atol=1e-12)
    np.testing.assert_allclose(found["mu"].estimate, [3, -2, 0], atol=1e-12)
    np.testing.assert_allclose(found["sigma"].estimate, 0, atol=1e-12)
    assert np.all(np.isnan(found["sigma"].low))


def test_intervals_cover_the_closed_form():
    """95 % nominal; with 40 repetitions fewer than 32 hits have a chance below 1e-3."""
    first, total = product_indices()
    hits = {"total": 0, "first": 0, "squares": 0, "bounds": 0}
    for seed in range(40):
        indices, slopes = sobol(product, 4, 128, seed), derivative(cubic, 3, 128, seed)
        for name, measure, i, exact in (
            ("total", indices["total_order"], 1, total),
            ("first", indices["first_order"], 1, first),
            ("squares", slopes["mean_squared_gradient"], 0, CUBIC_SQUARES),
            ("bounds", slopes["total_order_bound"], 1, CUBIC_BOUNDS),
        ):
            hits[name] += bool(measure.low[i] <= exact[i] <= measure.high[i])
    assert min(hits.values()) >= 32, hits


MEASURES = {
    "sobol": lambda seed: sobol(product, 4, 64, seed),
    "derivative": lambda seed: derivative(cubic, 3, 64, seed),
    "morris": lambda seed: morris(product, 4, 8, seed),
}


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_the_same_seed_gives_the_same_numbers(measure):
    first, again, other = (measure(seed) for seed in (3, 3, 4))
    for name in first:
        for part in ("estimate", "low", "high"):
            np.testing.assert_array_equal(getattr(first[name], part), getattr(again[name], part))
        assert np.any(first[name].estimate != other[name].estimate)


def test_what_nothing_depends_on_has_no_index():
    def constant(shares):
        return np.full(len(shares), 2.0), 0 * shares, 1 + 0 * shares

    for measure in (
        *sobol(lambda shares: constant(shares)[0], 2, 16, 0).values(),
        *derivative(constant, 2, 16, 0).values(),
    ):
        np.testing.assert_array_equal(measure.estimate, 0)


@pytest.mark.parametrize("samples", [0, 1, 3, 1000])
def test_samples_must_be_a_power_of_two(samples):
    for measure in (sobol, derivative):
        with pytest.raises(ValueError, match=f"samples = {samples}: must be a power of two, such"):
            measure(product, 4, samples, 0)


def test_morris_says_what_it_needs(monkeypatch):
    with pytest.raises(ValueError, match="samples = 1: Morris needs at least 2 trajectories"):
        morris(product, 4, 1, 0)
    monkeypatch.setitem(sys.modules, "SALib.sample", None)
    with pytest.raises(ValueError, match=r"needs SALib.*pip install 'jaxedge\[global\]'"):
        morris(product, 4, 8, 0)


def test_indices_of_one_parameter_are_refused():
    with pytest.raises(ValueError, match="give at least two ranges"):
        sobol(product, 1, 8, 0)
