"""The page on sensitivities does what it says."""

import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

TEXT = (Path(__file__).parents[2] / "docs" / "sensitivities.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def names():
    found = {}
    for block in BLOCKS:
        exec(compile(block, "sensitivities.md", "exec"), found)
    return found


def test_gradients_have_the_shapes_of_the_fields(names):
    assert names["gradients"].devices.gain.shape == (32, 3)
    assert np.isfinite(names["elasticities"]["energy_budget"]).all()


def test_the_server_moves_to_where_the_bound_is_least(names):
    best, place = names["bound"], names["place"]
    assert best < names["at_first"]
    # Smooth and descended to the bottom: no step to a side is better.
    for step in ([0.02, 0.0], [-0.02, 0.0], [0.0, 0.02], [0.0, -0.02]):
        assert names["slope"](place + jnp.array(step))[0] > best


def test_the_capacitance_is_recovered(names):
    assert names["fitted"] == pytest.approx(3e-27, rel=1e-6)
