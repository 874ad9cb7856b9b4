"""Intervals in scenario files: written, read back, and planned within."""

import json

import numpy as np
import pytest

from jaxedge import presets
from jaxedge.commands.cli import BAD_INPUT, main
from jaxedge.scenario import files
from jaxedge.scenario import intervals as interval_files
from jaxedge.scenario.intervals import intervals_text, load_within

SMALL = presets.get("small")
VARIANCE = np.asarray(SMALL.learning.device_variance)
INTERVALS = {
    "smoothness": (np.array(9.0), np.array(11.0)),
    "device_variance": (0.9 * VARIANCE, 1.2 * VARIANCE),
    "pl_constant": (np.array(0.05), np.array(0.2)),
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXEDGE_CACHE", "off")
    monkeypatch.chdir(tmp_path)


def write(table):
    with open("calibrated.toml", "w", encoding="utf-8") as file:
        file.write(files.dumps(SMALL) + "\n" + table)


def test_the_ends_come_back():
    write(intervals_text(INTERVALS))
    optimistic, central, pessimistic = load_within("calibrated.toml")
    assert files.to_tree(central) == files.to_tree(SMALL)
    assert (optimistic.learning.smoothness, pessimistic.learning.smoothness) == (9.0, 11.0)
    np.testing.assert_array_equal(optimistic.learning.device_variance, 0.9 * VARIANCE)
    np.testing.assert_array_equal(pessimistic.learning.device_variance, 1.2 * VARIANCE)
    # A larger PL constant makes the bound smaller.
    assert (optimistic.learning.pl_constant, pessimistic.learning.pl_constant) == (0.2, 0.05)
    assert optimistic.learning.initial_gap == SMALL.learning.initial_gap


def test_the_scenario_alone_is_read_past_them():
    write(intervals_text(INTERVALS))
    found = files.load("calibrated.toml")
    assert files.to_tree(found) == files.to_tree(SMALL)


BAD = {
    "no table": ("", r"has no table \[intervals\]"),
    "an unknown constant": ("[intervals]\nsmothness = [1, 2]", "did you mean smoothness"),
    "one end": ("[intervals]\nsmoothness = 3.0", r"= 3\.0: must be \[low, high\], numbers$"),
    "outside": ("[intervals]\nsmoothness = [11, 12]", r"must enclose learning\.smoothness = 10\.0"),
    "other devices": ("[intervals]\ndevice_variance = [[1, 2], [30, 40]]", "lists of K numbers"),
    "an end that is invalid": ("[intervals]\ninitial_gap = [-1, 3]", r"learning\.initial_gap = -1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_intervals_are_named(name):
    table, message = BAD[name]
    write(table)
    with pytest.raises(files.ScenarioFileError, match=message):
        load_within("calibrated.toml")


def test_the_command_plans_within(capsys, monkeypatch):
    from jaxedge.planning import intervals

    asked = []

    def stand_in(*ends, **options):
        asked.append((ends, options["bound"]))
        return real(*ends, draws=1)

    real = intervals.plan_within
    monkeypatch.setattr(intervals, "plan_within", stand_in)
    write(intervals_text(INTERVALS))
    command = ["plan", "calibrated.toml", "--within", "--no-schemes"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert out.index("BUDGETS") < out.index("PLANS within the intervals")
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    bounds = [told["within"][end]["bound"] for end in intervals.ENDS]
    assert bounds == sorted(bounds)
    assert told["bound"] == pytest.approx(bounds[1], rel=2e-3)
    assert asked[0][1] == "two-stage"


def test_the_command_needs_a_file(capsys):
    assert main(["plan", "--within"]) == BAD_INPUT
    assert "--within needs a scenario FILE" in capsys.readouterr().err


def test_constants_are_those_of_scenarios():
    assert all(hasattr(SMALL.learning, name) for name in interval_files.CONSTANTS)
