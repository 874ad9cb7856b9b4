"""``jaxedge train``: a plan in, a run folder out, and one line for every mistake."""

import dataclasses
import gzip
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from jaxedge.answers.files import design_tree
from jaxedge.commands.cli import BAD_INPUT, FAILED, INTERRUPTED, main
from jaxedge.scenario import files
from jaxedge.training.data.data_files import write_npz
from jaxedge.training.data.datasets import Dataset
from tests.hand_made_plans import infeasible
from tests.short_runs import design, scenario


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder with a scenario and plans."""
    folder = tmp_path_factory.mktemp("inputs")
    files.dump(scenario(), folder / "scenario.toml")
    for name, plan in (
        ("plan", design()),
        ("other", design(batch=(1, 2))),
        ("large", design(batch=(3, 128, 4))),
        ("half", design(batch=(3, 1.5, 4))),
    ):
        (folder / f"{name}.json").write_text(json.dumps({"allocation": design_tree(plan)}))
    (folder / "none.json").write_text(json.dumps(infeasible().to_dict()))
    return folder


@pytest.fixture
def here(inputs, tmp_path, monkeypatch):
    """A copy of it as the working directory."""
    monkeypatch.setenv("JAXEDGE_CACHE", "off")
    shutil.copytree(inputs, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


SHORT = ["train", "scenario.toml", "--plan", "plan.json", "--model", "logistic"]
SHORT += ["--every", "10", "--segment", "20"]
PLAINLY = ["--strategy", "pooled", "--convolution", "direct"]


@pytest.mark.slow
def test_a_plan_becomes_a_run_folder(here, capsys):
    assert main([*SHORT, "--gradient-norm"]) == 0
    out, err = capsys.readouterr()
    assert "jaxedge: run: figures, ledger and weights are there" in err
    lines = [line.split() for line in out.splitlines()]
    assert next(line for line in lines if "pre-trained" in line)[:2] == ["pre-trained", "25"]
    assert next(line for line in lines if "fine-tuned" in line)[:2] == ["fine-tuned", "60"]
    assert "energy  26.06 J  26.06 J  300.0 J" in out
    names = {path.name for path in Path("run").iterdir()}
    assert names == {
        "config.json",
        "course.json",
        "metrics.jsonl",
        "checkpoints",
        "ledger.npz",
        "summary.json",
        "figures",
    }
    figures = {path.name: path.read_bytes()[:4] for path in Path("run/figures").iterdir()}
    assert figures == {
        "training.png": b"\x89PNG",
        "training.pdf": b"%PDF",
        "partition.png": b"\x89PNG",
        "partition.pdf": b"%PDF",
    }
    told = json.loads(Path("run/summary.json").read_text())
    assert told["rounds"] == {"planned": 60, "affordable": 60, "done": 60}
    assert told["energy"]["spent"] == pytest.approx(told["energy"]["planned"], rel=1e-9)
    assert "gradient_norm_squared" in told["measured"]["fine-tuning"]
    # Again: refused, or with --resume nothing is left to do.
    assert main([*SHORT, "--gradient-norm"]) == BAD_INPUT
    assert "run: exists already" in capsys.readouterr().err
    assert main([*SHORT, "--gradient-norm", "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == told
    # It goes on under the strategy that it has begun with.
    assert json.loads(Path("run/config.json").read_text())["settings"]["strategy"] == "pooled"
    assert main([*SHORT, "--gradient-norm", "--resume", "--strategy", "scan"]) == BAD_INPUT
    assert "settings.strategy: pooled in the folder, scan now" in capsys.readouterr().err
    assert main([*SHORT, "--gradient-norm", "--resume", "--seed", "2"]) == BAD_INPUT
    assert "run: holds another run (task.seed: 0 in the folder, 2 now" in capsys.readouterr().err


@pytest.fixture
def without_figures(monkeypatch):
    """Drawing takes longer than these runs."""
    monkeypatch.setattr("jaxedge.training.runs.opening._draw", lambda *args: None)


@pytest.mark.usefixtures("without_figures")
def test_ctrl_c_tells_how_to_go_on_and_a_second_process_is_kept_out(here, capsys, monkeypatch):
    from jaxedge.training.runs import opening

    def interrupted(*args, **given):
        """As `train`, with Ctrl-C after the first segment."""

        def stop(text, fraction):
            assert main([*SHORT, *PLAINLY, "--resume"]) == BAD_INPUT
            raise KeyboardInterrupt

        return trained(*args, **{**given, "progress": stop})

    trained = opening.train
    monkeypatch.setattr(opening, "train", interrupted)
    assert main([*SHORT, *PLAINLY]) == INTERRUPTED
    err = capsys.readouterr().err
    assert "run: another process writes to it: wait until it has ended" in err
    assert err.endswith("jaxedge: run: interrupted: the same command with --resume goes on\n")
    monkeypatch.setattr(opening, "train", trained)
    assert main([*SHORT, *PLAINLY, "--resume", "--json"]) == 0
    lines = Path("run/metrics.jsonl").read_text().splitlines()
    rounds = [json.loads(line)["round"] for line in lines]
    assert rounds == sorted(set(rounds))
    assert rounds[-1] == 60
    assert json.loads(capsys.readouterr().out)["rounds"]["done"] == 60


@pytest.mark.usefixtures("without_figures")
def test_what_fading_leaves_is_planned_again(here, capsys, monkeypatch):
    planned = []

    def plan_rest(rest):
        planned.append(rest)
        return design(0, 10)

    monkeypatch.setattr("jaxedge.planning.replanning.plan_finetuning", plan_rest)
    text = Path("scenario.toml").read_text()
    assert "delay_budget = 200.0" in text
    Path("scenario.toml").write_text(text.replace("delay_budget = 200.0", "delay_budget = 8.0"))
    assert main([*SHORT, "--fading", "--replan", "--json", "--seed", "1"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["delay"]["planned"] < told["delay"]["spent"] <= 8.0
    assert told["replanned"] > 0
    assert told["rounds"]["done"] > told["rounds"]["planned"]
    assert planned[0].delay_budget < 8.0
    config = json.loads(Path("run/config.json").read_text())
    assert config["channel"] == "rayleigh"


def npz(name, **changes):
    """A data file with something wrong in it, past the checks of `dataset`."""
    x, y = np.ones((60, 8, 8, 1), np.float32), np.arange(60, dtype=np.int32) % 10
    fields = {"x": x, "y": y, "num_classes": 10, "name": name, **changes}
    write_npz(Dataset(**fields), f"{name}.npz")
    return f"npz:{name}.npz"


def with_nan():
    x = np.ones((60, 8, 8, 1), np.float32)
    x[7, 3, 3] = np.nan
    return npz("nan", x=x)


def one_class():
    return npz("one", y=np.zeros(60, np.int32))


def truncated():
    whole = npz("cut")
    content = Path("cut.npz").read_bytes()
    Path("cut.npz").write_bytes(content[: len(content) // 2])
    return whole


def swapped():
    head = bytes([0, 0, 8, 1, 0, 0, 0, 5])
    Path("labels").write_bytes(gzip.compress(head + bytes(5)))
    return "idx:labels,labels"


BAD = {
    "missing data": (["--data", "npz:no.npz"], "no.npz: does not exist"),
    "truncated data": (["--data", truncated], "cut.npz: is no .npz file of arrays"),
    "mislabelled data": (
        ["--data", lambda: npz("labels", y=np.full(60, 12, np.int32))],
        "labels: labels [12] of samples [0, 1, 2, 3, 4] and 55 more: must be from 0 to 9",
    ),
    "labels for images": (["--data", swapped], "are images and labels exchanged?"),
    "NaN pixels": (["--data", with_nan], "nan: samples [7] hold NaN or infinite values"),
    "a device without samples": (
        ["--partition", "dirichlet-per-class", "--alpha", "0.001", "--data", one_class],
        "would have no samples",
    ),
    "a batch larger than a device's data": (
        ["--plan", "large.json", "--data", lambda: npz("few")],
        "device 1: batch = 128 samples, but it has 7",
    ),
    "a model too deep for the images": (
        ["--model", "cnn", "--data", lambda: npz("tiny", x=np.ones((60, 2, 2, 1), np.float32))],
        "too small for 2 poolings",
    ),
    "an unknown model": (["--model", "lenet"], "did you mean lenet5?"),
    "a plan for another number of devices": (
        ["--plan", "other.json"],
        "the design is for 2 devices and the scenario has 3",
    ),
    "a plan of half samples": (["--plan", "half.json"], "devices.batch[1] = 1.5 samples"),
    "a plan without a design": (["--plan", "none.json"], "holds no design"),
    "a plan that is none": (["--plan", "scenario.toml"], "scenario.toml: is no plan in JSON"),
    "no rounds between measurements": (["--every", "0"], "every = 0: must be a whole number"),
    "a file in the way": (
        ["--store", "plan.json"],
        "plan.json: is there and is not the folder of a run",
    ),
    "no folder to resume": (["--store", ".", "--resume"], ".: is not the folder of a run"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_before_any_round(here, capsys, monkeypatch, name):
    changes, said = BAD[name]

    def never(*args, **options):
        raise AssertionError("training began")

    monkeypatch.setattr("jaxedge.training.runs.opening.train", never)
    extra = [item if isinstance(item, str) else item() for item in changes]
    assert main([*SHORT, *extra]) == BAD_INPUT
    out, err = capsys.readouterr()
    assert not out
    assert said in err
    assert err.count("\n") == 1
    assert not Path("run").exists()


@pytest.mark.slow
def test_divergence_keeps_what_was_good_and_says_where(here, capsys):
    text = files.dumps(scenario())
    rate = "device_learning_rate = 0.1"
    assert rate in text
    steep = text.replace(rate, "device_learning_rate = 1e38")
    Path("scenario.toml").write_text(
        steep.replace("smoothness = 10.0", "smoothness = 1e-40").replace("pl_constant = 0.1", "")
    )
    assert main(SHORT) == FAILED
    out, err = capsys.readouterr()
    (number,) = re.findall(r"training diverged in round (\d+) of 60", err)
    assert 25 < int(number) < 35
    assert "the last good checkpoint is of round 25" in err
    assert "pre-trained" in out
    assert sorted(path.name for path in Path("run/checkpoints").iterdir())[-1] == "00000025"
    with np.load("run/ledger.npz") as charged:
        assert len(charged["time"]) == 25


def test_an_infeasible_scenario_is_told_before_anything_is_made(here, capsys, monkeypatch):
    monkeypatch.setattr("jaxedge.planning.entry.plan", lambda scenario, progress: infeasible())
    assert main(["train", "scenario.toml", "--model", "logistic"]) == BAD_INPUT
    assert "there is no plan to train under: delay_budget is too small" in capsys.readouterr().err
    assert not Path("run").exists()


@pytest.mark.usefixtures("without_figures")
@pytest.mark.slow
def test_without_a_plan_the_scenario_is_planned_and_resumed_without_planning(
    here, capsys, monkeypatch
):
    planned = []

    def stand_in(scenario, progress):
        planned.append(scenario)
        return dataclasses.replace(infeasible(), allocation=design(10, 10))

    monkeypatch.setattr("jaxedge.planning.entry.plan", stand_in)
    command = ["train", "scenario.toml", "--model", "logistic", "--every", "10", "--segment", "10"]
    command += ["--bits-per-weight", "16"]
    assert main(command) == 0
    assert main([*command, "--resume"]) == 0
    assert len(planned) == 1
    assert planned[0].upload_bits == planned[0].download_bits == 650 * 16
    first, second = capsys.readouterr().out.split("TRAINING")[1:]
    assert first.split() == second.split()
