import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxedge.words.quantities import count, dbm, number, percent, quantity


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (2.1e9, "Hz", "2.100 GHz"),
        (9e8, "Hz", "900.0 MHz"),
        (999.96e6, "Hz", "1.000 GHz"),
        (0.2, "W", "200.0 mW"),
        (1.0, "W", "1.000 W"),
        (3e-7, "W", "300.0 nW"),
        (1e-20, "W", "1.000e-8 pW"),
        (299.9, "J", "299.9 J"),
        (1.5e5, "J", "150.0 kJ"),
        (0.0, "J", "0 J"),
        (900.0, "s", "900.0 s"),
        (123456.0, "s", "123,456 s"),
        (0.0075, "s", "7.500 ms"),
        (-1.5e3, "J", "-1.500 kJ"),
        (None, "J", "-"),
        (math.inf, "J", "-"),
        (math.nan, "J", "-"),
    ],
)
def test_quantity(value, unit, text):
    assert quantity(value, unit) == text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (1.0689, 7, "1.068900"),
        (1000.0, 6, "1,000.00"),
        (0.00123456, 4, "0.001235"),
        (1.25e-4, 4, "1.250e-4"),
        (9.99996e-4, 4, "0.001000"),
        (12345678901.0, 4, "1.235e10"),
        (-3e-5, 4, "-3.000e-5"),
        (0.0, 4, "0"),
        (None, 4, "-"),
    ],
)
def test_number(value, digits, text):
    assert number(value, digits) == text


@given(st.floats(1e-30, 1e30), st.integers(2, 8))
def test_number_reads_back_to_its_digits(value, digits):
    text = number(value, digits)
    assert float(text.replace(",", "")) == pytest.approx(value, rel=0.51 * 10.0 ** (1 - digits))


def test_shares_counts_and_decibels():
    assert percent(0.9998, 4) == "99.98 %"
    assert percent(1.2e-7) == "1.20e-5 %"
    assert percent(None) == percent(math.inf) == "-"
    assert count(1200.0) == "1,200"
    assert count(3.14159265) == "3.14159"
    assert count(math.inf) == "-"
    assert dbm(0.2) == "23.0 dBm"
    assert dbm(1e-3) == "0.0 dBm"
    assert dbm(0.0) == dbm(math.nan) == "-"
