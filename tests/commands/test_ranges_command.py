"""``jaxedge sensitivity --ranges``, with morris' cheapest case and bad input."""

import json

import pytest

from jaxedge.commands.cli import main


def test_global_measures_are_printed_as_json(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAXEDGE_CACHE", "off")
    path = tmp_path / "ranges.toml"
    path.write_text("energy_budget = [200, 400]\n[learning]\ninitial_gap = [1, 4]\n")
    options = ["--method", "morris", "--samples", "2", "--seed", "3", "--json"]
    assert main(["sensitivity", "--preset", "small", "--ranges", str(path), *options]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["method"], told["samples"], told["seed"]) == ("morris", 2, 3)
    assert told["parameters"][0]["parameter"] == "learning.initial_gap"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--seed 1", "--seed goes with --ranges FILE.toml"),
        ("--infeasible-as 1", "--infeasible-as goes with --ranges FILE.toml"),
        ("--ranges nothing.toml", "nothing.toml: cannot be read: No such file"),
        ("--ranges nothing.toml --plot a.pdf", "--plot draws elasticities"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(capsys, words, message):
    assert main(["sensitivity", "--preset", "small", *words.split()]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1
