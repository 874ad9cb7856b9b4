"""The commands with the real planner: from a file to an answer that an outsider can check."""

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from jaxedge import presets
from jaxedge.commands.cli import main
from jaxedge.planning.entry import plan, plan_batch
from jaxedge.scenario import files
from jaxedge.scenario.sampling import sample
from jaxedge.scenario.validation import validate
from tests.plain_model import BOUNDS, broken_limits, energy_and_delay, plain

ROOT = Path(__file__).parents[1]
SMALL = presets.get("small")
STARVED = dataclasses.replace(SMALL, energy_budget=1e-9)


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXEDGE_CACHE", "off")
    monkeypatch.delenv("JAXEDGE_DEBUG", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def answered(capsys):
    """Run a command that must succeed without a word on standard error; its output."""

    def run(*words):
        assert main([*words]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out

    return run


def saved(name, content):
    Path(name).write_text(content, encoding="utf-8")
    return name


def saved_list(name, scenarios):
    trees = [json.loads(files.dumps(validate(item), "json")) for item in scenarios]
    return saved(name, json.dumps(trees))


def check(answer, scenario, *, integer=True, tolerance=1e-9):
    """Hold an answer's claims against the plain model."""
    assert answer["status"] in ("optimal", "feasible")
    chosen, given = answer["allocation"], plain(validate(scenario))
    assert broken_limits(given, chosen, integer=integer, tolerance=tolerance) == []
    bound = BOUNDS[answer["bound_name"]](given, plain(chosen))
    assert answer["bound"] == pytest.approx(bound, rel=1e-12)
    assert answer["lower_bound"] <= answer["bound"]
    gap = answer["bound"] / answer["lower_bound"] - 1
    assert answer["gap"] == pytest.approx(gap, abs=1e-12)
    assert (answer["status"] == "optimal") == (answer["gap"] <= answer["requested_gap"])
    used = energy_and_delay(given, plain(chosen))
    assert (answer["energy"], answer["delay"]) == pytest.approx(used, rel=1e-12)
    assert all(price <= 0 for price in answer["shadow_prices"].values())


@pytest.mark.parametrize(
    "options",
    [[], ["--relaxed"], ["--gap", "1e-4"], ["--objective", "fine-tuning"]],
    ids=lambda options: " ".join(options) or "default",
)
def test_a_plan_from_a_file_is_legal_and_as_good_as_it_says(answered, options):
    file = saved("scenario.toml", answered("init", "--preset", "small"))
    answer = json.loads(answered("plan", file, "--json", "--no-schemes", *options))
    relaxed = "--relaxed" in options
    check(answer, SMALL, integer=not relaxed)
    assert answer["relaxed"] is relaxed
    expected = "fine-tuning" if "--objective" in options else "two-stage"
    assert answer["objective"] == answer["bound_name"] == expected
    if "--gap" in options:
        assert answer["status"] == "optimal"
        assert answer["gap"] <= 1e-4
    if not relaxed:
        counts = [answer["allocation"][f"{s}_rounds"] for s in ("pretraining", "finetuning")]
        assert all(isinstance(n, int) for n in [*counts, *answer["allocation"]["devices"]["batch"]])


def test_the_command_and_the_function_give_one_answer_every_time(answered):
    words = ("plan", "--preset", "small", "--json", "--no-schemes")
    printed = answered(*words)
    assert printed == answered(*words)
    assert json.loads(printed) == json.loads(json.dumps(plan(SMALL).to_dict()))


def test_units_in_the_keys_do_not_matter(answered):
    template = answered("init", "--preset", "small")
    server_power = float(SMALL.server.max_power)
    lines = []
    for line in template.splitlines():
        if line.startswith("max_power =") and "[devices]" not in "\n".join(lines):
            line = f"max_power_dbm = {10 * math.log10(server_power * 1e3)!r}"
        lines.append(line)
    assert "\n".join(lines) != template.rstrip("\n")
    words = ("--json", "--relaxed", "--no-schemes")
    other = json.loads(answered("plan", saved("dbm.toml", "\n".join(lines)), *words))
    usual = json.loads(answered("plan", "--preset", "small", *words))
    assert other["bound"] == pytest.approx(usual["bound"], rel=1e-9)


def test_the_table_shows_the_design_beside_every_scheme(answered):
    table = answered("plan", "--preset", "small")
    answer = plan(SMALL, schemes=True)
    assert f"{answer.allocation.pretraining_rounds:,}" in table
    assert f"{answer.allocation.finetuning_rounds:,}" in table
    assert len(answer.schemes) == 7
    assert all(name in table for name in answer.schemes)


def test_an_infeasible_scenario_is_an_answer_that_helps(answered):
    file = saved("starved.toml", files.dumps(STARVED))
    answer = json.loads(answered("plan", file, "--json", "--no-schemes"))
    assert answer["status"] == "infeasible"
    assert answer["bound"] is answer["allocation"] is answer["gap"] is None
    reason = answer["infeasible_because"]
    enough = dataclasses.replace(STARVED, energy_budget=reason["least_energy"] * (1 + 1e-9))
    file = saved("enough.toml", files.dumps(enough))
    answer = json.loads(answered("plan", file, "--json", "--no-schemes"))
    assert answer["status"] in ("optimal", "feasible")
    assert broken_limits(plain(validate(enough)), answer["allocation"]) == []


def test_a_figure_is_drawn(capsys):
    words = ["plan", "--preset", "small", "--relaxed", "--json", "--no-schemes"]
    assert main([*words, "--plot", "spending.svg"]) == 0
    out, err = capsys.readouterr()
    json.loads(out)
    assert err == "jaxedge: spending.svg is drawn\n"
    assert "<svg" in Path("spending.svg").read_text(encoding="utf-8")


MIXED = [
    sample(jax.random.key(1), 3),
    STARVED,
    sample(jax.random.key(2), 1, tightness=0.5),
    SMALL,
    sample(jax.random.key(3), 3, tightness=0.3),
]
"""Different numbers of devices by turns, and one that is infeasible."""


@pytest.mark.parametrize("options", [[], ["--relaxed"]], ids=["whole", "relaxed"])
def test_a_batch_answers_in_order(capsys, options):
    file = saved_list("many.json", MIXED)
    assert main(["batch", file, "--output", "answers.json", *options]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("jaxedge: 5 scenarios: ")
    assert "1 infeasible" in err
    answers = json.loads(Path("answers.json").read_text(encoding="utf-8"))
    relaxed = bool(options)
    expected = [item.to_dict() for item in plan_batch(MIXED, relaxed=relaxed)]
    assert answers == json.loads(json.dumps(expected))
    for scenario, answer in zip(MIXED, answers, strict=True):
        if scenario is STARVED:
            assert answer["status"] == "infeasible"
        else:
            check(answer, scenario, integer=not relaxed)


def test_cases_with_names_are_a_batch_too(capsys):
    trees = [json.loads(files.dumps(validate(item), "json")) for item in MIXED[:2]]
    cases = {"cases": [{"name": str(i), "scenario": tree} for i, tree in enumerate(trees)]}
    file = saved("cases.json", json.dumps(cases))
    assert main(["batch", file, "--relaxed", "--output", "-"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert [answer["status"] for answer in answers] == ["optimal", "infeasible"]


def test_a_batch_and_single_plans_agree():
    together = plan_batch(MIXED, relaxed=True)
    for scenario, answer in zip(MIXED, together, strict=True):
        alone = plan(scenario, relaxed=True)
        assert alone.status is answer.status
        if answer.bound is not None:
            assert alone.bound == pytest.approx(answer.bound, rel=1e-9)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("energy_budget = ", "energy_budget = -", "energy_budget"),
        ("delay_budget = ", "delay_bugdet = ", "delay_bugdet"),
        ("[server]", "[server", "bad.toml"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(capsys, old, new, named):
    text = files.template("small")
    assert old in text
    file = saved("bad.toml", text.replace(old, new, 1))
    assert main(["plan", file, "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert named in err
    assert err.count("\n") == 1


def test_another_process_says_the_same(answered):
    command = [sys.executable, "-m", "jaxedge", "plan", "--preset", "small", "--json", "--relaxed"]
    done = subprocess.run(
        [*command, "--no-schemes"], capture_output=True, timeout=240, cwd=ROOT, check=False
    )
    assert done.returncode == 0
    assert done.stderr == b""
    here = json.loads(answered(*command[3:], "--no-schemes"))
    there = json.loads(done.stdout)
    assert there["bound"] == pytest.approx(here["bound"], rel=1e-12)
    check(there, SMALL, integer=False)
