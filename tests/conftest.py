"""Strictness for all tests, and the scenarios that many of them use."""

import os
from pathlib import Path

import jax
import pytest
from hypothesis import settings

from jaxedge import presets

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")

settings.register_profile("explore", deadline=None, max_examples=1000)
settings.register_profile("ci", deadline=None, max_examples=100, derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session")
def data_dir():
    """The folder of reference answers."""
    return Path(__file__).parent / "data"


@pytest.fixture(params=["default", "small"])
def scenario(request):
    """A valid scenario of usual size, and one of K = 3."""
    return presets.get(request.param)
