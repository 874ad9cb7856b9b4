"""All strategies compute the same rounds; the fastest is chosen once and remembered."""

import dataclasses
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.training.models.tasks import load_task
from jaxedge.training.rounds.strategies import STRATEGIES, Strategy, weighted_sum
from jaxedge.training.runs import strategy_choice
from jaxedge.training.runs.courses import course
from jaxedge.training.runs.segments import Settings
from jaxedge.training.runs.strategy_choice import choose_strategy
from tests.short_runs import DEVICES, SPEC, design, scenario
from tests.training.rounds.test_stages import data, plain_rounds, start
from tests.training.rounds.test_stages import run as run_stage

assert data and start  # fixtures

OPEN = Settings(strategy="auto", convolution="auto")


@pytest.mark.every_python
@pytest.mark.parametrize("local_steps", [1, 3])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_is_the_plain_loop(request, strategy, local_steps):
    """Unequal batches, masked; three devices side by side do not divide four."""
    begin, samples = request.getfixturevalue("start"), request.getfixturevalue("data")

    def compute():
        how = {"strategy": Strategy(strategy, chunk=3), "local_steps": local_steps}
        return run_stage(begin, samples, end=2, length=2, **how)

    if strategy == "pooled" and local_steps > 1:
        with pytest.raises(ValueError, match="'pooled' with local_steps = 3"):
            compute()
        return
    expected = plain_rounds(begin, samples, local_steps, 2)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-12), compute(), expected
    )


def test_devices_are_split_over_the_processors_that_jax_sees():
    """Five devices on two processors, in a process of its own; sharded really uses both."""
    script = """
    import jax, jax.numpy as jnp, numpy as np
    from jaxedge.training.rounds.averaging import Epoch, average
    from jaxedge.training.data.samples import Samples
    from jaxedge.training.rounds.strategies import Strategy, on_all_processors, weighted_sum
    assert jax.device_count() == 2
    w, x, shared = jnp.arange(1.0, 6), jnp.arange(10.0).reshape(5, 2), jnp.ones(2)
    def run(strategy, shared):
        return weighted_sum(lambda e: jnp.sin(e + shared), x, w, Strategy(strategy))
    one = jax.jit(lambda s: run("vmap", s))(shared)
    two = jax.jit(lambda s: run("sharded", s))(shared)
    np.testing.assert_allclose(one, two, rtol=1e-6)
    assert len(two.sharding.device_set) == 2

    # Averaging from samples that lie at both processors already, as from the first alone.
    data = Samples(x=jnp.sin(jnp.arange(24.0)).reshape(12, 2), y=jnp.arange(12) % 2,
                   offsets=jnp.array([0, 5, 6, 12]))
    there = on_all_processors(data)
    assert len(there.x.sharding.device_set) == 2
    def loss(w, x, y):
        return (jnp.tanh(x @ w) - y) ** 2
    @jax.jit
    def once(w, data, cohorts):
        epoch = Epoch(data=data, batch=2, most=6, rate=0.5)
        return average(loss, w, epoch, cohorts, Strategy("sharded"))
    cohorts = jnp.array([[0, 1, 2], [2, 2, 0]])
    one, two = once(shared, data, cohorts), once(*on_all_processors((shared, data, cohorts)))
    np.testing.assert_array_equal(one, two)
    assert len(two.sharding.device_set) == 2
    scanned = average(loss, shared, Epoch(data=data, batch=2, most=6, rate=0.5), cohorts)
    np.testing.assert_allclose(two, scanned, rtol=1e-6)
    """
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "XLA_FLAGS": flags},
        cwd=Path(__file__).parents[3],
        check=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("vmop", 4), "strategy = 'vmop': must be one of vmap, scan"),
        (("chunked", 0), "chunk = 0 devices: must be a whole number >= 1"),
    ],
)
def test_what_cannot_be_computed_is_refused(asked, said):
    with pytest.raises(ValueError, match=said):
        Strategy(*asked)


def test_pooling_is_no_sum_over_devices():
    with pytest.raises(ValueError, match="sums no terms of devices"):
        weighted_sum(lambda e: e, jnp.ones(2), jnp.ones(2), Strategy("pooled"))


@pytest.fixture(scope="module")
def run():
    return load_task(SPEC, DEVICES), scenario(), course(scenario(), design())


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and runs that are worth a trial."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("JAXEDGE_CACHE", raising=False)
    monkeypatch.setattr(strategy_choice, "_WORTH", 0)
    return tmp_path / "jaxedge" / "strategies"


@pytest.fixture
def trials(monkeypatch):
    """Trials whose times are given, counted."""
    made = []

    def trial(task, scenario, course, settings, candidates):
        made.append(candidates)
        return {choice: 1.0 + (choice != ("scan", "direct")) for choice in candidates}

    monkeypatch.setattr(strategy_choice, "_trial", trial)
    return made


def test_the_fastest_is_measured_once_and_remembered(run, cache, trials):
    for _ in range(2):
        assert choose_strategy(*run, OPEN).strategy == "scan"
    assert len(trials) == 1
    (file,) = cache.iterdir()
    assert json.loads(file.read_text())["strategy"] == "scan"
    choose_strategy(*run, dataclasses.replace(OPEN, local_steps=2))
    assert len(trials) == 2
    assert ("pooled", "direct") not in trials[1]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"strategy": "x", "convolution": "direct"}'])
def test_a_damaged_answer_is_measured_again(run, cache, trials, text):
    choose_strategy(*run, OPEN)
    (file,) = cache.iterdir()
    file.write_text(text)
    assert choose_strategy(*run, OPEN).strategy == "scan"
    assert len(trials) == 2
    assert json.loads(file.read_text())["strategy"] == "scan"


@pytest.mark.usefixtures("cache")
def test_what_is_asked_for_is_not_measured(run, trials):
    found = choose_strategy(*run, Settings(strategy="loop", convolution="im2col"))
    assert (found.strategy, found.convolution) == ("loop", "im2col")
    assert (
        choose_strategy(*run, Settings(strategy="loop", convolution="auto")).convolution == "direct"
    )
    assert not trials
    with pytest.raises(ValueError, match="convolution = 'fft': must be one of direct, im2col"):
        choose_strategy(*run, Settings(strategy="auto", convolution="fft"))


@pytest.mark.usefixtures("trials")
def test_a_cache_that_cannot_be_written_or_is_off_stops_nothing(run, cache, monkeypatch):
    cache.parent.write_text("in the way")
    assert choose_strategy(*run, OPEN).strategy == "scan"
    cache.parent.unlink()
    monkeypatch.setenv("JAXEDGE_CACHE", "off")
    assert choose_strategy(*run, OPEN).strategy == "scan"
    assert not cache.exists()


def test_short_runs_are_not_worth_a_trial(run, trials):
    assert choose_strategy(*run, OPEN).strategy == "pooled"
    assert choose_strategy(*run, dataclasses.replace(OPEN, local_steps=2)).strategy == "vmap"
    assert not trials


@pytest.mark.usefixtures("cache")
def test_a_real_trial_times_candidates_until_its_time_is_over(run, monkeypatch):
    candidates = [("pooled", "direct"), ("scan", "direct"), ("vmap", "direct")]
    monkeypatch.setattr(strategy_choice, "_SECONDS", np.inf)  # a busy machine is slow
    measured = strategy_choice._trial(*run, Settings(), candidates[:2])
    assert list(measured) == candidates[:2] and min(measured.values()) > 0
    monkeypatch.setattr(strategy_choice, "_SECONDS", 0)
    assert list(strategy_choice._trial(*run, Settings(), candidates)) == candidates[:1]


def test_only_models_with_convolutions_are_tried_both_ways(run):
    spec = dataclasses.replace(SPEC, model="lenet5")
    convolutional = load_task(spec, DEVICES)
    assert strategy_choice._has_convolutions(convolutional)
    assert not strategy_choice._has_convolutions(run[0])
    both = strategy_choice._candidates(
        convolutional, dataclasses.replace(OPEN, local_steps=2), True
    )
    assert ("vmap", "im2col") in both and ("vmap", "direct") in both
