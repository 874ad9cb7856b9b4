"""Sweeps: what is specified, how it streams, and that no interruption or cut changes a bit."""

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray

from jaxedge import presets, sweeps
from jaxedge.answers.batch import STATUSES
from jaxedge.commands.cli import main
from jaxedge.machine.output_files import OutputFileError
from jaxedge.planning import entry
from jaxedge.scenario.validation import validate_batch
from jaxedge.sensitivity import gradients
from jaxedge.sweeps import journal, statistics, tasks
from jaxedge.sweeps.axes import Axis
from jaxedge.sweeps.checks import check_sweep
from jaxedge.sweeps.generation import scenarios
from jaxedge.sweeps.layout import layout_of
from jaxedge.sweeps.spec_files import from_sweep_tree, loads_json
from tests import sweep_stand_ins

ROOT = Path(__file__).parents[2]


@pytest.fixture
def stand_in(monkeypatch):
    monkeypatch.setattr(tasks, "compute_outputs", sweep_stand_ins.answers)


def tree_of(folder):
    """Every file of a store with its content."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in Path(folder).rglob("*")
        if path.is_file()
    }


def same(first, second):
    """Equal bit for bit, but for how it was cut."""
    xarray.testing.assert_identical(*(x.drop_attrs(deep=False) for x in (first, second)))


# What is specified


def test_a_file_gives_the_sweep_that_python_gives(tmp_path):
    spec = tmp_path / "spec.toml"
    spec.write_text(
        """
        scenario = "small"
        relaxed = true
        [[axes]]
        energy_budget_kj = [0.1, 0.2]
        [[axes]]
        name = "power"
        devices.max_power_dbm = [17, 20]
        "server.max_power" = { linspace = [0.5, 1.0, 2] }
        [[axes]]
        learning.discrepancy = { log_uniform = [0.01, 1.0] }
        draws = 4
        """
    )
    built = sweeps.Sweep(
        scenario=presets.get("small"),
        relaxed=True,
        axes=[
            sweeps.values("energy_budget_kj", [0.1, 0.2]),
            sweeps.zipped(
                sweeps.values("devices.max_power_dbm", [17, 20]),
                sweeps.linspace("server.max_power", 0.5, 1.0, 2),
                name="power",
            ),
            sweeps.draws(4, sweeps.log_uniform("learning.discrepancy", 0.01, 1.0)),
        ],
    )
    loaded = sweeps.load_sweep(spec)
    assert loaded.text() == built.text()
    assert loads_json(loaded.text()).digest() == loaded.digest()
    drawn = validate_batch(scenarios(loaded, np.arange(16)))
    np.testing.assert_allclose(drawn.energy_budget, np.repeat([100.0, 200.0], 8))
    watts = np.tile(np.repeat([10**-1.3, 0.1], 4), 2)
    np.testing.assert_allclose(drawn.devices.max_power, np.repeat(watts[:, None], 3, axis=1))
    np.testing.assert_allclose(drawn.server.max_power, np.tile(np.repeat([0.5, 1.0], 4), 2))
    discrepancy = drawn.learning.discrepancy.reshape(4, 4)
    assert (discrepancy == discrepancy[0]).all() and len(set(discrepancy[0])) == 4


GOOD = {"scenario": "small", "axes": [{"energy_budget": [100.0, 200.0]}]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"axes": [{"energy_buget": [1.0]}]}, "did you mean energy_budget"),
        ({"axes": [{"devces.gain": [1.0]}]}, "did you mean devices"),
        ({"axes": [{"devices.max_power_mhz": [1.0]}]}, "cannot be given in MHz"),
        (
            {"axes": [{"name": "p", "energy_budget": [1, 2], "delay_budget": [1, 2, 3]}]},
            "axis 'p' cannot be zipped: energy_budget has 2, delay_budget has 3",
        ),
        ({"axes": [{"energy_budget": []}]}, "length zero"),
        ({"axes": [{"energy_budget": {"linspace": [1, 2, 0]}}]}, "whole number from 1"),
        ({"axes": [{"energy_budget": {"linspace": [1, 2, 10**12]}}]}, "from 1 to 1e\\+07"),
        ({"axes": [{"energy_budget": [100.0, -5.0]}]}, "energy_budget = -5.0 J must be"),
        ({"axes": [{"energy_budget": {"logspace": [0, 2, 3]}}]}, "finite and > 0"),
        ({"axes": [{"devices.min_batch": [1, 500]}]}, "at devices.min_batch 1.*max_batch = 128"),
        ({"axes": [{"energy_budget": [1.0], "reduce": True}]}, "only an axis of random draws"),
        ({"axes": [{"energy_budget": {"uniform": [1, 2]}}]}, "give its axis draws = N"),
        ({"axes": [{"energy_budget": {"uniform": [-1, 2]}, "draws": 3}]}, "= -1.0 J must be"),
        ({"axes": [{"energy_budget": {"normal": [5, 2]}, "draws": 3}]}, "in decibels"),
        ({"axes": [{"channel": "rayliegh", "draws": 3}]}, "did you mean rayleigh"),
        ({"axes": [{"energy_budget": [1.0]}, {"energy_budget": [2.0]}]}, "two axes are named"),
        ({"axes": []}, "at least one"),
        ({"outputs": ["bond"]}, "did you mean bound"),
        ({"solver": "interior"}, "did you mean .?interior-point"),
        ({"scenario": "smal"}, "neither a file nor a preset"),
        ({"sede": 1}, "did you mean seed"),
        ({"quantiles": [1.5]}, "from 0 to 1"),
        ({"quantiles": 0.5}, "quantiles = 0.5: must be a list"),
        ({"axes": 3}, "axes must be tables"),
        ({"scenario": 3}, "scenario = 3: must be a preset, a file name or a table"),
        ({"axes": [{"name": 3, "energy_budget": [1.0]}]}, "axis name 3: must be text"),
        ({"axes": [{"energy_budget": [1.0], "reduce": 1}]}, "reduce = 1: must be true or false"),
        ({"axes": [{"energy_budget": 5.0}]}, "energy_budget = 5.0: must be a list of values"),
        ({"axes": [{"energy_budget": {"linspace": [1, 2]}}]}, "first, last and the number"),
        ({"axes": [{"energy_budget": {"uniform": [1]}, "draws": 3}]}, "low, high or the like"),
        ({"axes": [{"energy_budget": [[1.0, 2.0]]}]}, "each value must be one number"),
        ({"axes": [{"energy_budget": {"uniform": [1, np.inf]}, "draws": 3}]}, "needs finite low"),
        ({"axes": [{"energy_budget": {"log_uniform": [0, 1]}, "draws": 3}]}, "low = 0 must be > 0"),
        ({"axes": [{"energy_budget": {"log_normal": [1, -1]}, "draws": 3}]}, "= -1 must be >= 0"),
        ({"axes": [{"energy_budget": {"uniform": [2, 1]}, "draws": 3}]}, "high = 1 is below low"),
        (
            {"axes": [{"channel": "rayleigh", "shadowing_db": -1.0, "draws": 3}]},
            "shadowing_db = -1.0 dB: must be finite and >= 0",
        ),
        (
            {"axes": [{"channel": "positions", "radius_km": 0.0, "draws": 3}]},
            "radius_km = 0.0 km: must be finite and > 0",
        ),
    ],
)
def test_what_is_wrong_is_named_before_anything_runs(change, message):
    with pytest.raises(ValueError, match=message):
        from_sweep_tree({**GOOD, **change}, Path())


def test_an_axis_and_a_sweep_have_to_be_something():
    with pytest.raises(ValueError, match="a sweep must be a table of keys, got list"):
        from_sweep_tree([], Path())
    nothing = sweeps.Sweep(scenario=presets.get("small"), axes=[Axis(name="none")], relaxed=True)
    with pytest.raises(ValueError, match="axis 'none' sets no field: give it one"):
        check_sweep(nothing)


@pytest.mark.parametrize(
    ("axes", "place"),
    [
        # Neither end of an axis, and neither field by itself at its end.
        (
            [
                sweeps.zipped(
                    sweeps.values("learning.device_learning_rate", [0.01, 0.05, 0.1]),
                    sweeps.values("learning.smoothness", [30.0, 25.0, 10.0]),
                    name="pace",
                )
            ],
            "at pace 1 ",
        ),
        # The weights are not monotone: each must be looked at.
        (
            [
                sweeps.values(
                    "learning.device_weight", [[0.2, 0.3, 0.5], [0.3, 0.3, 0.3], [0.1, 0.1, 0.8]]
                )
            ],
            "at learning.device_weight 1 ",
        ),
        # The second device alone, at positions that hold neither the least nor the greatest of all.
        (
            [
                sweeps.values("devices.min_batch", [[1, 8, 1], [9, 1, 1]]),
                sweeps.values("energy_budget", [10.0, 100.0]),
                sweeps.values("devices.max_batch", [[9, 9, 5], [20, 7, 9]]),
            ],
            "at devices.min_batch 0, energy_budget 0, devices.max_batch 1 ",
        ),
        (
            [
                sweeps.values("min_pretraining_rounds", [3, 0, 2]),
                sweeps.values("min_finetuning_rounds", [1, 0, 2]),
            ],
            "at min_pretraining_rounds 1, min_finetuning_rounds 1 ",
        ),
        (
            [
                sweeps.values("learning.smoothness", [5.0, 50.0]),
                sweeps.draws(
                    3000, sweeps.uniform("learning.device_learning_rate", 0.0019, 0.02002)
                ),
            ],
            "at learning.smoothness 1, learning.device_learning_rate ",
        ),
    ],
)
def test_relations_between_fields_are_checked_wherever_axes_cross(axes, place):
    sweep = sweeps.Sweep(scenario=presets.get("small"), axes=axes, relaxed=True)
    with pytest.raises(ValueError, match=f"^{place}"):
        check_sweep(sweep)


def test_a_draw_is_the_same_whatever_is_drawn_beside_it():
    sweep = check_sweep(
        dataclasses.replace(
            sweep_stand_ins.sweep(),
            axes=[
                sweeps.draws(1000, sweeps.normal("devices.max_power_dbm", 20.0, 2.0)),
                sweeps.channels(7, "positions"),
                sweeps.channels(3, "log_normal", name="shadowing", shadowing_db=6.0),
            ],
        )
    )
    every = validate_batch(scenarios(sweep, np.arange(21_000)))
    some = np.array([20_999, 5, 777, 13_000])
    alone = validate_batch(scenarios(sweep, some))
    for whole, part in zip(jax.tree.leaves(every), jax.tree.leaves(alone), strict=True):
        assert np.array_equal(whole[some], part)
    decibels = 10 * np.log10(every.devices.max_power[::21] / 1e-3)
    assert abs(decibels.mean() - 20.0) < 0.2 and abs(decibels.std() - 2.0) < 0.15
    shadows = np.log10(every.devices.gain[:3] / every.devices.gain[0])
    assert shadows[1:].all()


# What comes out


def test_a_sweep_says_what_planning_says(monkeypatch):
    sweep = sweeps.Sweep(
        scenario=presets.get("small"),
        axes=[
            sweeps.values("energy_budget", [1e-9, 100.0, 400.0]),
            sweeps.values("learning.discrepancy", [0.05, 0.2]),
        ],
        outputs=(
            *("bound", "gap", "status", "device_clock", "server_batch"),
            *("shadow_price_energy_budget", "elasticity_learning.discrepancy"),
        ),
        relaxed=True,
        block=4,
    )
    begun_from = []
    real = gradients.solve_relaxed

    def solve(*args, **options):
        begun_from.append(options.get("warm_start"))
        return real(*args, **options)

    monkeypatch.setattr(gradients, "solve_relaxed", solve)
    found = sweeps.run(sweep)
    same(found, sweeps.run(sweep, chunk=5))
    assert begun_from and None not in begun_from  # the answers' prices, not anew
    rows = validate_batch(scenarios(check_sweep(sweep), np.arange(6)))
    answers = entry.plan_batch(rows, relaxed=True)
    assert found.bound.dims == ("energy_budget", "learning.discrepancy")
    np.testing.assert_allclose(found.bound.values.ravel(), answers.bound, rtol=1e-6)
    clocks = found.device_clock.values.reshape(6, 3)
    np.testing.assert_allclose(clocks, answers.allocation.devices.clock, rtol=1e-4)
    assert found.status.dtype == np.int8
    assert found.status.attrs["flag_meanings"].split() == [str(s) for s in STATUSES]
    assert found.status.values[0].tolist() == [2, 2] and np.isnan(found.bound.values[0]).all()
    assert (found.bound.values[1, 0], found.gap.max()) <= (found.bound.values[1, 1], 1e-6)
    assert found.energy_budget.attrs["units"] == "J" and found.device_clock.attrs["units"] == "Hz"
    elasticity = found["elasticity_learning__discrepancy"].values[1:]
    assert (elasticity > 0).all() and (elasticity <= 1).all()
    anew = gradients.elasticities(rows)["learning.discrepancy"].reshape(3, 2)
    np.testing.assert_allclose(elasticity, anew[1:], rtol=1e-6)
    assert np.isnan(anew[0]).all() and np.isnan(found["elasticity_learning__discrepancy"][0]).all()


def test_schemes_in_a_sweep_are_those_of_plans():
    energies = [1e-9, 100.0, 400.0]
    sweep = sweeps.Sweep(
        scenario=presets.get("small"),
        axes=[sweeps.values("energy_budget", energies)],
        outputs=("bound", "scheme_bound"),
        relaxed=True,
    )
    found = sweeps.run(sweep)
    assert found.scheme_bound.dims == ("energy_budget", "scheme")
    for energy in energies:
        scenario = dataclasses.replace(presets.get("small"), energy_budget=energy)
        alone, at = (
            entry.plan(scenario, relaxed=True, schemes=True),
            found.sel(energy_budget=energy),
        )
        assert list(at.scheme.values) == list(alone.schemes)
        bounds = [at.bound.item(), *at.scheme_bound.values]
        expected = [plan.bound or np.nan for plan in (alone, *alone.schemes.values())]
        np.testing.assert_allclose(bounds, expected, rtol=2e-6)
    assert np.isnan(found.bound[0]) and np.isfinite(found.scheme_bound[1:]).sum() > 10


def test_statistics_are_those_of_the_draws(stand_in):
    draws = sweeps.run(sweep_stand_ins.sweep())
    reduced = sweeps.run(sweep_stand_ins.sweep(reduce=True, outputs=("bound", "device_power")))
    power = draws.device_power
    expected = {
        "bound_mean": draws.bound.mean("channel"),
        "bound_std": draws.bound.std("channel"),
        "device_power_mean": power.mean("channel"),
        "outage": (draws.status == 2).mean("channel"),
        "count": (draws.status < 2).sum("channel"),
        "device_power_quantile": power.quantile([0.05, 0.5, 0.95], "channel").transpose(
            "energy_budget", "device", "quantile"
        ),
    }
    for name, values in expected.items():
        assert reduced[name].dims == values.dims
        np.testing.assert_allclose(reduced[name], values, rtol=1e-12, err_msg=name)


def test_many_draws_have_quantiles_within_the_stated_error(monkeypatch):
    monkeypatch.setattr(tasks, "EXACT", 10)
    monkeypatch.setattr(tasks, "compute_outputs", sweep_stand_ins.answers)
    draws = sweeps.run(sweep_stand_ins.sweep())
    reduced = sweeps.run(sweep_stand_ins.sweep(reduce=True), chunk=64)
    exact = draws.device_power.quantile([0.05, 0.5, 0.95], "channel", method="linear")
    found = reduced.device_power_quantile.transpose("quantile", "energy_budget", "device")
    error = np.abs(found.values / exact.values - 1).max()
    assert 0 < error <= 1.01 * statistics.ACCURACY


@pytest.mark.parametrize("reduce", [False, True])
def test_no_cut_changes_a_bit(stand_in, reduce):
    whole = sweeps.run(sweep_stand_ins.sweep(reduce=reduce))
    for chunk in (100, 777):
        same(whole, sweeps.run(sweep_stand_ins.sweep(reduce=reduce), chunk=chunk))


def test_a_store_opens_anywhere_and_is_equal_to_memory(stand_in, tmp_path):
    dataset = sweeps.run(sweep_stand_ins.sweep(), tmp_path / "s.zarr", chunk=600)
    opened = xarray.open_zarr(tmp_path / "s.zarr")
    same(dataset.load().drop_encoding(), opened.load().drop_encoding())
    same(sweeps.run(sweep_stand_ins.sweep()), opened)
    assert json.loads(opened.attrs["spec"])["block"] == 32
    assert opened.attrs["spec_sha256"] == check_sweep(sweep_stand_ins.sweep()).digest()
    assert opened.channel.attrs["random"] == 1


@pytest.mark.parametrize("chunk", [64, 1000])
def test_draws_alone_may_all_be_reduced(stand_in, chunk):
    axes = [sweeps.channels(300, "rayleigh", reduce=True)]
    found = sweeps.run(sweep_stand_ins.sweep(axes=axes), chunk=chunk)
    drawn = sweeps.run(sweep_stand_ins.sweep(axes=[sweeps.channels(300, "rayleigh")]))
    assert found.bound_mean.dims == () and found.device_power_mean.dims == ("device",)
    np.testing.assert_allclose(found.bound_mean, drawn.bound.mean(), rtol=1e-12)
    np.testing.assert_allclose(found.bound_quantile, np.quantile(drawn.bound, [0.05, 0.5, 0.95]))
    np.testing.assert_allclose(
        found.device_power_mean, drawn.device_power.mean("channel"), rtol=1e-12
    )
    assert found["count"] == 300


def test_options_may_be_of_numpy(stand_in, tmp_path):
    plain = sweep_stand_ins.sweep(reduce=True, quantiles=(0.25, 0.5), seed=3)
    given = sweep_stand_ins.sweep(
        reduce=True,
        quantiles=np.array([0.25, 0.5]),
        seed=np.int32(3),
        block=np.int64(32),
        outputs=np.array(plain.outputs),
    )
    assert check_sweep(given).digest() == check_sweep(plain).digest() == given.digest()
    same(sweeps.run(given, tmp_path / "s.zarr", chunk=np.int64(600)), sweeps.run(plain, chunk=600))
    sweeps.run(plain, tmp_path / "s.zarr", resume=True)


# Interruptions


@pytest.mark.parametrize("reduce", ["", pytest.param("reduce", marks=pytest.mark.slow)])
def test_killed_and_resumed_is_the_same_bit_for_bit(tmp_path, reduce):
    words = [sys.executable, "-m", "tests.sweep_stand_ins"]
    random = np.random.default_rng(7)
    kills, first = 0, True
    while True:
        mode = [reduce] * bool(reduce) + ["resume"] * (tmp_path / "s.zarr").exists()
        run = subprocess.Popen([*words, str(tmp_path / "s.zarr"), *mode], cwd=ROOT)
        if first or kills < 3:
            while not (tmp_path / "s.zarr").exists() and run.poll() is None:
                time.sleep(0.01)
            time.sleep(random.uniform(0.0, 0.25))
            if not first:
                time.sleep(2.0)  # of imports, before it goes on
            run.send_signal(signal.SIGKILL)
        kills, first = kills + (run.wait() == -signal.SIGKILL), False
        if run.returncode == 0:
            break
    assert kills >= 1
    whole = subprocess.run([*words, str(tmp_path / "w.zarr"), reduce], cwd=ROOT)
    assert whole.returncode == 0
    assert tree_of(tmp_path / "s.zarr") == tree_of(tmp_path / "w.zarr")


class Overtaken(tasks.Worker):
    """A worker in which another thread's block takes the place of one as soon as that is kept."""

    @property
    def _block(self):
        return self.kept

    @_block.setter
    def _block(self, block):
        self.kept = block and ((32, 64), {"row": np.arange(32, 64)})


def test_threads_of_one_process_do_not_mix_up_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "scenarios", lambda _, rows: rows)
    monkeypatch.setattr(tasks, "compute_outputs", lambda rows, *_: {"row": rows})
    sweep = check_sweep(sweep_stand_ins.sweep())
    worker = Overtaken(tmp_path, sweep, layout_of(sweep, 64))
    for _ in range(2):
        assert worker._rows(5, 50)["row"].tolist() == [*range(5, 50)]


def test_a_finished_chunk_is_not_done_again(stand_in, tmp_path, monkeypatch):
    path, sweep = tmp_path / "s.zarr", sweep_stand_ins.sweep()
    sweeps.run(sweep, path, chunk=600)
    (path / journal.FOLDER / "done" / "3").unlink()
    done = []
    real = tasks.Worker.do
    monkeypatch.setattr(tasks.Worker, "do", lambda self, t: (done.append(t), real(self, t))[1])
    before = tree_of(path)
    sweeps.run(sweep, path, resume=True)
    assert done == [(3, 0)] and set(tree_of(path)) == {*before, ".jaxedge/done/3"}


def test_a_full_disk_loses_no_finished_chunk(stand_in, tmp_path, monkeypatch):
    path, sweep = tmp_path / "s.zarr", sweep_stand_ins.sweep()
    real, written = os.fsync, []

    def full(file):
        written.append(file)
        if len(written) > 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(sweeps.StoreError, match=r"No space left .* finished chunks are kept"):
            sweeps.run(sweep, path, chunk=600)
    assert journal.finished_chunks(path)
    same(sweeps.run(sweep, path, resume=True), sweeps.run(sweep))


def test_a_folder_that_cannot_be_written_is_said_to_be_so(stand_in, tmp_path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    sweeps.run(sweep_stand_ins.sweep(), tmp_path / "old.zarr")
    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(OutputFileError, match=r"new.zarr: cannot be written: Permission denied"):
        sweeps.run(sweep_stand_ins.sweep(), tmp_path / "new.zarr")
    monkeypatch.setattr(Path, "touch", refused)
    with pytest.raises(OutputFileError, match=r"old.zarr: cannot be written: Permission denied"):
        sweeps.run(sweep_stand_ins.sweep(), tmp_path / "old.zarr", resume=True)
    assert len(journal.finished_chunks(tmp_path / "old.zarr")) == 1


def test_what_is_not_this_sweep_is_refused(stand_in, tmp_path):
    path = tmp_path / "s.zarr"
    sweeps.run(sweep_stand_ins.sweep(), path)
    with pytest.raises(ValueError, match="--resume"):
        sweeps.run(sweep_stand_ins.sweep(), path)
    with pytest.raises(ValueError, match="seed: 0 in the store, 1 now"):
        sweeps.run(sweep_stand_ins.sweep(seed=1), path, resume=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(ValueError, match="is not the store of a sweep"):
            sweeps.run(sweep_stand_ins.sweep(), tmp_path / "other", resume=resume)
    assert (tmp_path / "other" / "thesis.txt").read_text() == "mine"


@pytest.mark.slow
def test_two_workers_give_the_same_store_and_one_may_die(stand_in, tmp_path):
    distributed = pytest.importorskip("distributed")
    sweeps.run(sweep_stand_ins.sweep(), tmp_path / "alone.zarr", chunk=64)
    cluster = distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        dashboard_address=None,
        preload=[str(ROOT / "tests" / "sweep_stand_ins.py")],
    )
    with cluster, distributed.Client(cluster) as client:
        pids = list(client.run(lambda: __import__("os").getpid()).values())
        killed = []

        def progress(text, fraction):
            if fraction > 0.2 and not killed:
                killed.append(__import__("os").kill(pids[0], signal.SIGKILL))

        sweeps.run(
            sweep_stand_ins.sweep(),
            tmp_path / "both.zarr",
            chunk=64,
            client=client.scheduler.address,
            progress=progress,
        )
    assert killed
    assert tree_of(tmp_path / "both.zarr") == tree_of(tmp_path / "alone.zarr")


def test_the_command_line_streams_and_resumes(stand_in, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("JAXEDGE_CACHE", "off")
    spec, path = tmp_path / "spec.json", tmp_path / "s.zarr"
    spec.write_text(sweep_stand_ins.sweep().text())
    words = ["sweep", str(spec), "--store", str(path)]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["scenarios"] == 3600 and told["dimensions"] == {"energy_budget": 12, "channel": 300}
    assert main(words) == 2
    assert "--resume" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 0
