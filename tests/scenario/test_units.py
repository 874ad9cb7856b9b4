import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxedge.scenario.units import LN2, SUFFIXES, split_suffix, suffixes_of

# suffix, value in that unit, value in SI, worked out by hand
CASES = [
    ("dbm", 0.0, 1e-3),
    ("dbm", 30.0, 1.0),
    ("dbm", 23.0, 0.19952623149688797),
    ("dbw", 10.0, 10.0),
    ("mw", 200.0, 0.2),
    ("kw", 0.5, 500.0),
    ("khz", 180.0, 1.8e5),
    ("mhz", 10.0, 1e7),
    ("ghz", 1.5, 1.5e9),
    ("dbm_per_hz", -174.0, 3.981071705534985e-21),
    ("dbw_per_hz", -204.0, 3.981071705534985e-21),
    ("db", -110.0, 1e-11),
    ("kj", 0.3, 300.0),
    ("wh", 1.0, 3600.0),
    ("kwh", 1.0, 3.6e6),
    ("ms", 250.0, 0.25),
    ("min", 15.0, 900.0),
    ("h", 2.0, 7200.0),
    ("hours", 2.0, 7200.0),
    ("kbit", 5.0, 5e3),
    ("mbit", 1.0, 1e6),
    ("mbyte", 1.0, 8e6),
    ("mcycle", 20.0, 2e7),
]


@pytest.mark.parametrize(("suffix", "value", "si"), CASES)
def test_to_si(suffix, value, si):
    np.testing.assert_allclose(SUFFIXES[suffix].to_si(value), si, rtol=1e-14)


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(value=st.floats(-150.0, 150.0))
def test_from_si_undoes_to_si(suffix, value):
    unit = SUFFIXES[suffix]
    np.testing.assert_allclose(unit.from_si(unit.to_si(value)), value, rtol=1e-12, atol=1e-12)


def test_arrays_keep_their_shape():
    converted = SUFFIXES["dbm"].to_si([[0.0, 30.0]])
    assert converted.shape == (1, 2)
    assert converted.dtype == np.float64


def test_out_of_range_decibels_become_infinite_silently():
    assert np.isinf(SUFFIXES["dbm"].to_si(1e6))


def test_no_suffix_is_ambiguous():
    assert "mj" not in SUFFIXES
    assert "mb" not in SUFFIXES
    assert suffixes_of("W/W") == ("db",)
    assert suffixes_of("1") == ()


def test_split_suffix_prefers_the_longest():
    assert split_suffix("noise_density_dbm_per_hz")[0] == ("noise_density", "dbm_per_hz")
    assert split_suffix("bandwidth") == ()


def test_ln2():
    assert np.log(2.0) == LN2
