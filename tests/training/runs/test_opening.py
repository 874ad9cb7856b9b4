"""A run in one call is the run step by step, kept in memory or in a folder."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxedge import training
from jaxedge.training.runs import run_folder
from jaxedge.training.runs.courses import course
from jaxedge.training.runs.runner import train
from jaxedge.training.runs.segments import Settings
from tests.hand_made_plans import infeasible
from tests.short_runs import DEVICES, SPEC, design, scenario

SCENARIO = scenario()
CUT = {"every": 10, "segment": 20}
FEW = design(6, 8)


@pytest.fixture(autouse=True)
def without_cache(monkeypatch):
    monkeypatch.setenv("JAXEDGE_CACHE", "off")


@pytest.fixture
def without_figures(monkeypatch):
    """Drawing takes longer than these runs."""
    monkeypatch.setattr("jaxedge.training.runs.opening._draw", lambda *args: None)


@pytest.fixture(scope="module")
def task():
    return training.load_task(SPEC, DEVICES)


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_run_is_its_steps(task):
    found = training.run(task, SCENARIO, design(), **CUT)
    rounds = course(SCENARIO, design())
    expected = train(task, SCENARIO, rounds, Settings(strategy="pooled", **CUT))
    same(found.weights, expected.weights)
    same(found.ledger, rounds.ledger)
    assert found.rows == expected.rows
    assert found.settings.strategy == "pooled"
    assert (found.folder, found.diverged) == (None, None)


@pytest.mark.usefixtures("without_figures")
def test_ones_own_task_has_a_folder_and_goes_on_in_it_alone(task, tmp_path):
    kept = {"folder": tmp_path / "run", **CUT}
    first = training.run(task, SCENARIO, FEW, **kept)
    again = training.run(task, SCENARIO, FEW, resume=True, **kept)
    same(again.weights, first.weights)
    assert again.rows == first.rows
    assert (first.folder / run_folder.SUMMARY).is_file()
    moved = dataclasses.replace(task.devices, x=task.devices.x * np.float32(0.5))
    other = dataclasses.replace(task, devices=moved)
    with pytest.raises(ValueError, match=r"holds another run \(digest: \w{16} in the folder"):
        training.run(other, SCENARIO, FEW, resume=True, **kept)


@pytest.mark.usefixtures("without_figures")
def test_data_that_have_changed_under_their_name_are_not_gone_on_with(task, tmp_path):
    path = tmp_path / "data.npz"
    spec = dataclasses.replace(SPEC, data=f"npz:{path}")
    options = {"folder": tmp_path / "run", **CUT}
    training.data.write_npz(training.digits(), path)
    training.run(spec, SCENARIO, FEW, **options)
    whole = training.digits()
    training.data.write_npz(dataclasses.replace(whole, y=whole.y[::-1].copy()), path)
    with pytest.raises(ValueError, match=r"holds another run \(digest: "):
        training.run(spec, SCENARIO, FEW, resume=True, **options)


def test_divergence_is_told_with_the_last_good_weights(task):
    x = task.general.x.copy()
    x[:300] = np.inf
    broken = dataclasses.replace(task, general=dataclasses.replace(task.general, x=x))
    found = training.run(broken, SCENARIO, FEW, **CUT)
    assert found.diverged.startswith("training diverged in round ")
    same(found.weights, task.weights)
    assert len(found.ledger) == found.rows[-1]["round"] == 0


@pytest.mark.parametrize(
    ("plan", "options", "said"),
    [
        (infeasible(), {}, "there is no plan to train under: delay_budget is too small"),
        (FEW, {"resume": True}, "folder = None with resume or events: give the folder"),
        (FEW, {"channel": "rice"}, "channel: 'rice' is not known"),
        (FEW, {"strategy": "vmop"}, "strategy = 'vmop': must be one of vmap"),
    ],
)
def test_what_cannot_be_run_is_told_at_once(task, plan, options, said):
    with pytest.raises(ValueError, match=said):
        training.run(task, SCENARIO, plan, **options)
