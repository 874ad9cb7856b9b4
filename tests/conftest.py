"""Strictness for all tests, and the scenarios that many of them use."""

import os
import shutil
from pathlib import Path

from jaxedge.machine import compilation_cache
from tests import kept_programs

# Half of the tests' time is compiling: programs are kept, and LLVM does not try hard, as under the
# command line. XLA_FLAGS that name a level are kept.
compilation_cache.hurry()
compilation_cache.silence()
_OF_THIS_RUN = kept_programs.keep()

import jax  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

from jaxedge import presets  # noqa: E402

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")

settings.register_profile("explore", deadline=None, max_examples=1000)
settings.register_profile("ci", deadline=None, max_examples=100, derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_configure(config):
    """An entry that another worker is writing is compiled again; JAX says so in a warning."""
    config.addinivalue_line("filterwarnings", "ignore:.*persistent compilation cache")


def pytest_unconfigure():
    """Remove the compiled programs of this run where they may not be kept."""
    if _OF_THIS_RUN is not None:
        shutil.rmtree(_OF_THIS_RUN, ignore_errors=True)


COMPILING = (
    "custom",
    "integers",
    "methods",
    "outer",
    "planning",
    "relaxation",
    "sensitivity",
    "study",
    "training/calibration",
    "training/models",
    "training/rounds",
    "training/runs",
)
"""Folders whose tests spend their time on XLA, which knows nothing of Python's version."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark the tests of compiling folders, but those that stand for their program's others."""
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parent.as_posix()
        if folder.startswith(COMPILING) and not item.get_closest_marker("every_python"):
            item.add_marker("compiles")


@pytest.fixture(autouse=True, scope="module")
def _room_for_programs():
    """Linux gives a process 65,530 mappings, a few for each compiled program; then LLVM crashes."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and len(maps.read_bytes().splitlines()) > 20_000:
        jax.clear_caches()


@pytest.fixture(scope="session")
def data_dir():
    """The folder of reference answers."""
    return Path(__file__).parent / "data"


@pytest.fixture(params=["default", "small"])
def scenario(request):
    """A valid scenario of usual size, and one of K = 3."""
    return presets.get(request.param)
