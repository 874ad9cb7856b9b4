"""``jaxedge calibrate``: data in, constants with intervals and a scenario out."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxedge import presets
from jaxedge.commands.cli import BAD_INPUT, main
from jaxedge.report.calibration_table import calibration_table
from jaxedge.scenario import files
from jaxedge.training.calibration import constants, transport
from jaxedge.training.data.data_files import write_npz
from jaxedge.training.data.datasets import Dataset

SHORT = "calibrate --preset small --model logistic --pretraining-rounds 20"
SHORT = [*SHORT.split(), "--finetuning-rounds", "10", "--intervals", "2", "--pilot-rounds", "0"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXEDGE_CACHE", "off")
    monkeypatch.chdir(tmp_path)


def once(function):
    """Call a function once, and give its answer again to the same options."""
    answers = []

    def called(task, *arguments, progress, **options):
        if not answers:
            answers.append((function(task, *arguments, **options), options))
        assert answers[0][1] == options
        return answers[0][0]

    return called


class _Within:
    """What plans would be."""

    def __init__(self, scenarios):
        self.scenarios = scenarios

    def to_dict(self):
        numbers = {"status": "optimal", "lower_bound": 0.1, "pretraining_rounds": 1234.0}
        numbers |= {"finetuning_rounds": 20.0, "server_batch": 3.0, "mean_device_batch": 1.5}
        numbers |= {"bound": 0.1, "bound_of_central_design": None}
        plans = {name: numbers for name in ("optimistic", "central", "pessimistic")}
        return {**plans, "draws": {"pretraining_rounds": [12.0, 1300.0], "bound": None}}


def test_a_scenario_and_a_table_come_out(capsys, monkeypatch):
    asked = []

    def stand_in(*scenarios, progress):
        asked.extend(scenarios)
        return _Within(scenarios)

    monkeypatch.setattr("jaxedge.planning.intervals.plan_within", stand_in)
    monkeypatch.setattr(constants, "calibrate", once(constants.calibrate))
    assert main([*SHORT, "--output", "found.toml", "--plan"]) == 0
    out, err = capsys.readouterr()
    assert err == "jaxedge: found.toml is written\n"
    found = files.load("found.toml")
    assert found.learning.initial_gap != presets.get("small").learning.initial_gap
    assert found.upload_bits == 650 * 32
    assert found.energy_budget == presets.get("small").energy_budget
    assert asked[1].learning.smoothness == found.learning.smoothness
    assert (
        asked[0].learning.smoothness < asked[1].learning.smoothness < asked[2].learning.smoothness
    )
    lines = [line.split() for line in out.splitlines()]
    for name in ("initial_gap", "smoothness", "discrepancy", "server_variance", "device_variance"):
        (row,) = (line for line in lines if line[:1] == [name])
        value = float(np.mean(getattr(found.learning, name)))
        assert float(row[1]) == pytest.approx(value, rel=1e-3)
        assert row[3] == "to"
        assert "loss" in row[5]
    assert "PLANS within the intervals" in out
    (row,) = (line for line in lines if line[:2] == ["pre-training", "rounds"])
    assert row[2:] == ["1,234", "1,234", "1,234", "12", "to", "1,300"]
    # The same again, as JSON alone.
    assert main([*SHORT, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["scenario"] == files.to_tree(found)
    assert "plans" not in told
    assert [point["round"] for point in told["path"]] == [0, 10, 20, 25, 30]
    assert calibration_table(told) in out


def test_a_pilot_gives_the_spectrum_and_all_the_constants(capsys):
    command = "calibrate --preset small --model logistic --pilot-rounds 40 --intervals 2 --json"
    assert main([*command.split(), "--output", "found.toml"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [point["round"] for point in told["path"]] == [0, 20, 40, 46, 53]
    legs = told["spectrum"]["legs"]
    assert legs[0]["loss"][-1] == pytest.approx(told["path"][2]["loss"], rel=1e-5)
    assert legs[2]["loss"][-1] == pytest.approx(told["path"][-1]["loss"], rel=1e-5)
    spectrum = files.load("found.toml").learning.spectrum
    assert np.shape(spectrum.device_noise) == (3, 30)
    assert spectrum.floor + spectrum.start.sum() == pytest.approx(legs[0]["loss"][0], rel=0.02)
    assert "#   spectrum: a pilot of 159 rounds, " in Path("found.toml").read_text()
    assert "The end loss's spectrum is from a pilot of 159 rounds" in calibration_table(told)


def test_a_pilot_that_is_too_short_is_refused(capsys):
    assert main(["calibrate", "--pilot-rounds", "39"]) == BAD_INPUT
    assert "rounds = 39: must be a whole number >= 40" in capsys.readouterr().err


def test_the_distance_of_the_data_is_told_where_it_is_asked_for(capsys, monkeypatch):
    def stand_in(task, weight, seed):
        assert len(weight) == len(task.sizes)
        return transport.Distance(
            value=2.5, low=2.25, by_chance=1.5, label_cost=3.0, samples=(len(task.general), seed)
        )

    monkeypatch.setattr(transport, "distance", stand_in)
    monkeypatch.setattr(constants, "calibrate", once(constants.calibrate))
    command = [*SHORT, "--wasserstein", "--seed", "7"]
    assert main(command) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "data are W1 = 2.250 to 2.500 apart (898 and 7 samples" in told
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["wasserstein"]["low"] == 2.25
    monkeypatch.setitem(sys.modules, "ott", None)
    assert main(command) == BAD_INPUT
    assert "needs ott-jax, which is not installed" in capsys.readouterr().err


def one_each():
    """So few samples that a device has one."""
    x, y = np.ones((12, 8, 8, 1), np.float32), np.arange(12, dtype=np.int32) % 10
    write_npz(Dataset(x=x, y=y, num_classes=10, name="few"), "few.npz")
    return "npz:few.npz"


BAD = {
    "no rounds": (["--pretraining-rounds", "0"], "pretraining_rounds = 0: must be a whole number"),
    "a file of another kind": (["--output", "found.json"], "found.json: must end in .toml"),
    "no folder": (["--output", "no/found.toml"], "the folder "),
    "one sample": (["--data", one_each], "1 sample: the variance of its gradients cannot be"),
    "no data": (["--data", "npz:no.npz"], "no.npz: does not exist"),
    "a loss that is below": (["--lower-loss", "3"], "lower_loss = 3.0: must be below every loss"),
    "an unknown model": (["--model", "lenet"], "did you mean lenet5?"),
    "a misspelt option": (["--intervls", "3"], "did you mean --intervals?"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(capsys, name):
    changes, said = BAD[name]
    extra = [item if isinstance(item, str) else item() for item in changes]
    assert main([*SHORT, *extra]) == BAD_INPUT
    out, err = capsys.readouterr()
    assert not out
    assert said in err
    assert err.count("\n") == 1
    assert not Path("found.toml").exists()
