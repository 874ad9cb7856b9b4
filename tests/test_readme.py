"""The README does what it says: its Python runs, its commands answer, its files exist."""

import contextlib
import io
import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from jaxedge import presets
from jaxedge.commands.cli import BAD_INPUT, main
from jaxedge.scenario import files

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)


def lines_of(language):
    return [line for kind, block in BLOCKS if kind == language for line in block.splitlines()]


def run(line):
    """Run one ``jaxedge`` line of a shell block here; (exit code, standard output and error)."""
    words = shlex.split(line, comments=True)
    words, target = (words[:-2], Path(words[-1])) if ">" in words else (words, None)
    assert words[0] == "jaxedge"
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words[1:])
    if target is not None:
        target.write_text(out.getvalue(), encoding="utf-8")
    return code, out.getvalue(), err.getvalue()


@pytest.fixture
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXEDGE_CACHE", "off")
    return tmp_path


@pytest.mark.slow
def test_the_text_runs_from_top_to_bottom(in_a_folder, capsys):
    names = {}
    for language, block in BLOCKS:
        if language == "python":
            exec(compile(block, "README.md", "exec"), names)
        for line in block.splitlines() if language == "sh" else ():
            if line.startswith("jaxedge"):
                code, out, err = run(line)
                assert code == 0, err
                if "--json" in line:
                    assert json.loads(out)["status"] in ("optimal", "feasible")
    assert (in_a_folder / "spending.pdf").read_bytes().startswith(b"%PDF")
    assert len(json.loads((in_a_folder / "answers.json").read_text())) == len(names["scenarios"])
    printed = capsys.readouterr().out
    assert "WHERE IT GOES" in printed or "DESIGN" in printed


def test_the_start_is_two_commands_that_set_everything_up():
    commands = [line for line in lines_of("sh") if not line.startswith("jaxedge")]
    assert [command.split(" && ")[0] for command in commands] == ["python3 -m venv .venv"] * 2
    plan, tests = (command.split(" && ")[1:] for command in commands)
    assert plan == [".venv/bin/pip install .", ".venv/bin/jaxedge plan"]
    assert tests[0] == '.venv/bin/pip install -e ".[test]"'
    assert tests[1].startswith(".venv/bin/python -m pytest")


def test_bad_input_is_answered_as_shown(in_a_folder):
    template = files.template()
    edits = {
        "negative.toml": ("energy_budget = 1000.0", "energy_budget = -300.0"),
        "misspelt.toml": ("energy_budget =", "energy_buget ="),
    }
    for name, (old, new) in edits.items():
        assert old in template
        Path(name).write_text(template.replace(old, new, 1), encoding="utf-8")
    shown = lines_of("console")
    for command, message in zip(shown[::2], shown[1::2], strict=True):
        assert run(command.removeprefix("$ ")) == (BAD_INPUT, "", f"{message}\n")


def test_the_default_scenario_is_the_one_described():
    scenario = presets.get("default")
    energy, delay = scenario.energy_budget, scenario.delay_budget
    assert scenario.devices.gain.shape == (10,)
    assert f"ten devices, {energy:g} J, {delay:g} s" in TEXT


def test_options_and_units_exist():
    _, described, _ = run("jaxedge plan --help")
    named = set(re.findall(r"`(--[\w-]+)", TEXT.partition("## Many")[0])) - {"--preset"}
    assert len(named) > 5
    assert named <= set(re.findall(r"--[\w-]+", described))
    for key in re.findall(r"`(\w+) = -?\d+`", TEXT):
        assert key in ("max_power_dbm", "bandwidth_mhz", "gain_db")
        tree = tomllib.loads(files.template("small"))
        plain_key, unit = key.rsplit("_", 1)
        value = {"dbm": 20, "mhz": 1, "db": -110}[unit]
        del tree["devices"][plain_key]
        files.from_tree({**tree, "devices": {**tree["devices"], key: value}})


def test_files_that_are_named_exist():
    linked = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    listed = re.findall(r"\b(\w+\.py|\w+/)(?=[,\s])", dict(BLOCKS)[""])
    assert linked and listed  # the patterns still match
    for name in {*linked, *listed} - {"NAME.py"}:
        assert any((folder / name).exists() for folder in (ROOT, ROOT / "jaxedge")), name
