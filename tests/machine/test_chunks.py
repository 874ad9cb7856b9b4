"""Chunks, cores and devices change how a batch is computed, and not what comes out."""

import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.bounds.batches import programs_of_each
from jaxedge.bounds.two_stage import TwoStage
from jaxedge.machine import chunks
from jaxedge.machine.chunks import in_chunks
from jaxedge.relaxation import driver
from jaxedge.scenario.sampling import sample_batch

_OVER_DEVICES = """
import jax, numpy as np
from jaxedge.bounds.batches import programs_of_each
from jaxedge.bounds.two_stage import TwoStage
from jaxedge.machine import chunks
from jaxedge.relaxation import driver
from jaxedge.scenario.sampling import sample_batch
assert jax.device_count() == 2
with jax.enable_x64(True):
    drawn = sample_batch(jax.random.key(5), 41, 2)
    programs = chunks.in_chunks(programs_of_each(TwoStage()), drawn)
    together = driver.solve_relaxed(programs)
    jax.device_count = lambda: 1
    alone = driver.solve_relaxed(programs)
assert np.all(together.gap <= 1e-6)
for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone)):
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-300)
"""


def _double(x, by=2.0):
    return {"twice": by * x, "sum": jnp.sum(x, axis=1)}


@pytest.mark.parametrize("size", [1, 8, 31, 257, 1500])
@pytest.mark.parametrize("fn", [jax.jit(_double), partial(jax.jit(_double), by=2.0)])
def test_a_batch_comes_back_whole_and_in_order(size, fn):
    x = np.arange(3.0 * size).reshape(size, 3)
    out = in_chunks(fn, x)
    np.testing.assert_array_equal(out["twice"], 2 * x)
    np.testing.assert_array_equal(out["sum"], x.sum(axis=1))


def test_trailing_axes_are_moved_and_moved_back():
    fn = chunks.BatchLast(jax.jit(lambda x, y: (x + y[None], jnp.sum(x, axis=0))))
    x, y = np.arange(12.0).reshape(4, 3), np.arange(4.0)
    total, sums = fn(x, y)
    np.testing.assert_array_equal(total, x + y[:, None])
    np.testing.assert_array_equal(sums, x.sum(axis=1))


def test_a_chunk_stays_in_cache_and_wide_elements_make_short_ones():
    for width in (1, 10, 100, 1000, 100_000):
        (length,) = chunks.chunk_lengths(np.zeros((4096, width)))
        assert length == 8 or length * width <= 4096
        assert length & (length - 1) == 0


def test_numbers_and_threads_recompile_nothing_and_change_nothing(monkeypatch):
    drawn = sample_batch(jax.random.key(6), 200, 2)
    programs = in_chunks(programs_of_each(TwoStage()), drawn)
    monkeypatch.setattr(chunks, "_CELLS", 512)
    first = driver.solve_relaxed(programs)
    count = driver.decompose.fn._cache_size()
    again = driver.solve_relaxed(
        in_chunks(programs_of_each(TwoStage()), sample_batch(jax.random.key(7), 200, 2))
    )
    assert driver.decompose.fn._cache_size() == count
    assert np.all(again.gap <= 1e-6)
    monkeypatch.setattr(chunks.os, "sched_getaffinity", lambda _: {0})
    jax.tree.map(np.testing.assert_array_equal, driver.solve_relaxed(programs), first)


def test_devices_share_a_batch_and_change_nothing():
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    ran = subprocess.run(
        [sys.executable, "-c", _OVER_DEVICES],
        cwd=Path(__file__).parents[2],
        env={**chunks.os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr


def test_earlier_prices_need_fewer_steps():
    programs = in_chunks(programs_of_each(TwoStage()), sample_batch(jax.random.key(8), 32, 2))
    cold = driver.solve_relaxed(programs)

    def certified(steps, prices):
        paths = driver.begin(programs, driver.FAST, steps, prices)
        return np.mean(in_chunks(driver.decompose, programs, paths)[0].gap <= 1e-6)

    assert certified(0, cold.prices) == 1
    assert certified(0, None) < 0.1
    assert certified(8, cold.prices) > certified(8, None)
    spoilt = jax.tree.map(
        lambda x: x * np.where(np.arange(len(x)) == 3, np.nan, 1.0)[:, None] if x.ndim == 2 else x,
        cold.prices,
    )
    assert np.all(driver.solve_relaxed(programs, warm_start=spoilt).gap <= 1e-6)


def threads_of(monkeypatch):
    """(device, thread) that each chunk of a batch is computed with."""
    seen = []

    def fn(x):
        seen.append((jax.config.jax_default_device, threading.get_ident()))
        time.sleep(0.001)
        return x

    for cells in ("_CELLS", "_CELLS_ELSEWHERE"):
        monkeypatch.setattr(chunks, cells, 512)
    monkeypatch.setattr(chunks, "cores", lambda: 4)
    in_chunks(fn, np.zeros((2000, 2)))
    assert len(seen) > 8
    return zip(*seen, strict=True)


def test_threads_compute_on_the_device_that_was_chosen(monkeypatch):
    device = jax.devices("cpu")[0]
    with jax.default_device(device):
        devices, threads = threads_of(monkeypatch)
    assert set(devices) == {device}
    assert len(set(threads)) > 1


def test_one_accelerator_is_fed_by_one_thread(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    _, threads = threads_of(monkeypatch)
    assert set(threads) == {threading.get_ident()}
    with jax.default_device("cpu"):
        _, threads = threads_of(monkeypatch)
    assert len(set(threads)) > 1
