"""A run on disk goes on after any interruption to the same bits, and is not mixed with another."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxedge.training.models.tasks import load_task
from jaxedge.training.runs import checkpoints
from jaxedge.training.runs.courses import course
from jaxedge.training.runs.run_folder import (
    COURSE,
    KIND,
    METRICS,
    configuration,
    create,
    design_in,
    reopen,
)
from jaxedge.training.runs.runner import Diverged, train
from jaxedge.training.runs.segments import Settings
from tests.short_runs import DEVICES, SPEC, design, scenario

SCENARIO = scenario()
SETTINGS = Settings(every=5, segment=5)
TASK = load_task(SPEC, DEVICES)
CONFIG = configuration(SCENARIO, TASK, SETTINGS, spec=SPEC, channel="rayleigh")


def new_folder(path):
    found = course(SCENARIO, design(), channel="rayleigh")
    return create(path, CONFIG, design(), found)


@pytest.fixture(scope="module")
def task():
    return TASK


@pytest.fixture(scope="module")
def whole(task, tmp_path_factory):
    """A run without interruption."""
    folder = new_folder(tmp_path_factory.mktemp("whole") / "run")
    run = folder.course(SCENARIO)
    trained = train(task, SCENARIO, run, SETTINGS, keeper=folder)
    folder.finish(run.ledger, {})
    return folder, trained


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_run_leaves_all_that_was_measured(whole):
    folder, trained = whole
    assert folder.measured() == trained.rows
    with np.load(folder.path / "ledger.npz") as charged:
        assert charged["upload_energy"].shape == (60, DEVICES)
        np.testing.assert_array_equal(charged["time"], folder.course(SCENARIO).ledger.time)
    same(design_in(folder), design())
    last = folder.latest(trained.weights)
    assert last.rounds == 60
    same(last.weights, trained.weights)
    assert len(list((folder.path / "checkpoints").iterdir())) == 2


class Killed(Exception):
    pass


@dataclasses.dataclass
class Dying:
    """Keeps until so many rounds are measured, and dies before their checkpoint."""

    folder: object
    at: int

    def rows(self, rows):
        self.folder.rows(rows)

    def checkpoint(self, checkpoint):
        if checkpoint.rounds >= self.at:
            raise Killed
        self.folder.checkpoint(checkpoint)


@pytest.mark.parametrize("at", [0, 20, 45])
def test_what_was_measured_beyond_the_checkpoint_is_measured_again(task, whole, tmp_path, at):
    folder = new_folder(tmp_path / "run")
    with pytest.raises(Killed):
        train(task, SCENARIO, folder.course(SCENARIO), SETTINGS, keeper=Dying(folder, at))
    (folder.path / "checkpoints" / "00000099.orbax-checkpoint-tmp").mkdir()
    with open(folder.path / METRICS, "a", encoding="utf-8") as file:
        file.write('{"round": 50, "sta')  # torn
    again = reopen(tmp_path / "run", CONFIG, design())
    begin = again.rewind(task.weights)
    assert (None if begin is None else begin.rounds) == {0: None, 20: 15, 45: 40}[at]
    trained = train(task, SCENARIO, again.course(SCENARIO), SETTINGS, begin=begin, keeper=again)
    same(trained.weights, whole[1].weights)
    assert (again.path / METRICS).read_bytes() == (whole[0].path / METRICS).read_bytes()


SCRIPT = """
import sys
from jaxedge.machine import compilation_cache
compilation_cache.hurry()
import jax
jax.config.update("jax_enable_x64", True)
from jaxedge.training.runs.run_folder import reopen
from jaxedge.training.runs.runner import train
from tests.training.runs.test_run_folder import CONFIG, SCENARIO, SETTINGS, TASK as task

folder = reopen(sys.argv[1], CONFIG)
train(task, SCENARIO, folder.course(SCENARIO), SETTINGS, begin=folder.rewind(task.weights),
      keeper=folder)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bits(task, whole, tmp_path):
    """A real process, ended by SIGKILL as soon as it has written two checkpoints."""
    folder = new_folder(tmp_path / "run")
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(folder.path)]
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    process = subprocess.Popen(command, cwd=root, env=environment, stderr=subprocess.PIPE)
    there = folder.path / "checkpoints" / "00000010"
    while not there.exists() and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.stderr.read().decode()
    process.stderr.close()
    begin = folder.rewind(task.weights)
    assert 10 <= begin.rounds < 60
    again = reopen(folder.path, CONFIG, design())
    trained = train(task, SCENARIO, again.course(SCENARIO), SETTINGS, begin=begin, keeper=again)
    same(trained.weights, whole[1].weights)
    same(again.course(SCENARIO).ledger, whole[0].course(SCENARIO).ledger)
    assert again.measured() == whole[0].measured()


def test_after_divergence_the_last_good_checkpoint_is_there(task, tmp_path):
    x = task.general.x.copy()
    x[:300] = np.inf
    broken = dataclasses.replace(task, general=dataclasses.replace(task.general, x=x))
    folder = new_folder(tmp_path / "run")
    with pytest.raises(Diverged):
        train(broken, SCENARIO, folder.course(SCENARIO), SETTINGS, keeper=folder)
    same(folder.latest(task.weights).weights, task.weights)
    assert [row["round"] for row in folder.measured()] == [0]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"channel": "planned"}, "channel: rayleigh in the folder, planned now"),
        ({"task": {**CONFIG["task"], "seed": 1}}, r"task\.seed: 0 in the folder, 1 now"),
        ({"replan": True}, "replan: False in the folder, True now"),
    ],
)
def test_a_folder_of_another_configuration_is_refused(whole, other, said):
    with pytest.raises(ValueError, match=said):
        reopen(whole[0].path, {**CONFIG, **other})


def test_a_folder_of_another_design_is_refused(whole):
    with pytest.raises(
        ValueError, match=r"design\.finetuning_rounds: 35.0 in the folder, 36.0 now"
    ):
        reopen(whole[0].path, CONFIG, design(25, 36))


def test_what_is_in_the_way_is_named(tmp_path, whole):
    (tmp_path / "empty").mkdir()
    KIND.check_free(tmp_path / "empty")
    new_folder(tmp_path / "empty")
    assert (tmp_path / "empty" / COURSE).is_file()
    with pytest.raises(ValueError, match="exists already: go on with it by --resume"):
        new_folder(whole[0].path)
    with pytest.raises(ValueError, match="does not exist: create it first"):
        KIND.check_free(tmp_path / "none" / "run")
    with pytest.raises(ValueError, match="is not the folder of a run"):
        reopen(tmp_path, CONFIG)


def test_a_checkpoint_that_cannot_be_read_is_named(task, tmp_path):
    other = checkpoints.Checkpoint(rounds=7, weights={"other": np.zeros(3)})
    checkpoints.save(tmp_path, other)
    with pytest.raises(ValueError, match="00000007: cannot be read, or is of another model"):
        checkpoints.latest(tmp_path, task.weights)


def test_other_versions_are_recorded(whole):
    path = whole[0].path / "config.json"
    told = json.loads(path.read_text())
    told["environments"] = [{"jax": "0.0"}]
    path.write_text(json.dumps(told))
    assert len(reopen(whole[0].path, CONFIG).config["environments"]) == 2
