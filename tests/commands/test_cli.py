"""The command line with a stand-in for the planner; real plans are in the end-to-end tests."""

import dataclasses
import importlib
import io
import json
import os
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest

from jaxedge import planning, presets
from jaxedge.commands import COMMANDS, arguments
from jaxedge.commands.cli import main
from jaxedge.relaxation.solvers import SOLVERS
from jaxedge.scenario import files
from tests.hand_made_plans import hand_made, infeasible, with_schemes

_ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch):
    monkeypatch.setenv("JAXEDGE_CACHE", "off")
    monkeypatch.delenv("JAXEDGE_DEBUG", raising=False)


class _Planner(types.ModuleType):
    """Answers every scenario with a plan made by hand, and keeps what it was asked."""

    def __init__(self):
        super().__init__("jaxedge.planning.entry")
        self.asked = []
        self.fails_with = None
        self.answer = hand_made("small")[1]

    def plan(self, scenario, **options):
        self._ask(scenario, options)
        return with_schemes(self.answer) if options["schemes"] else self.answer

    def plan_batch(self, scenarios, **options):
        self._ask(scenarios, options)
        plans = [dataclasses.replace(self.answer, energy=float(index)) for index in range(2)]
        return [*plans, infeasible()][: len(scenarios)]

    def _ask(self, scenarios, options):
        options.pop("progress")("solving", 0.5)
        self.asked.append((scenarios, options))
        if self.fails_with is not None:
            raise self.fails_with


@pytest.fixture
def planner(monkeypatch):
    stand_in = _Planner()
    monkeypatch.setitem(sys.modules, "jaxedge.planning.entry", stand_in)
    monkeypatch.setattr(planning, "entry", stand_in, raising=False)
    return stand_in


@pytest.fixture
def scenario_file(tmp_path):
    path = tmp_path / "scenario.toml"
    path.write_text(files.template("small"))
    return str(path)


@pytest.fixture
def batch_file(tmp_path):
    tree = json.loads(files.dumps(presets.get("small"), "json"))
    path = tmp_path / "many.json"
    path.write_text(json.dumps([tree, {"scenario": tree}, tree]))
    return str(path)


def _refused(constant):
    raise AssertionError(f"{constant} in JSON")


def _json(text):
    return json.loads(text, parse_constant=_refused)


def test_init_prints_a_file_that_plan_reads(capsys, tmp_path, planner):
    for name in presets.names():
        planner.answer = hand_made(name)[1]
        assert main(["init", "--preset", name]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        assert out.startswith("#")
        (tmp_path / "scenario.toml").write_text(out)
        assert main(["plan", str(tmp_path / "scenario.toml")]) == 0
        capsys.readouterr()
    assert len(planner.asked) == len(presets.names())


def test_plan_prints_the_table(capsys, planner, scenario_file):
    assert main(["plan", scenario_file]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for heading in ("BUDGETS", "WHERE IT GOES", "LIMITS THAT BIND", "DESIGNS COMPARED"):
        assert heading in out


def test_plan_without_a_file_takes_the_default_preset(capsys, planner):
    planner.answer = hand_made("default")[1]
    assert main(["plan"]) == 0
    (scenario, options) = planner.asked[0]
    assert scenario.energy_budget == presets.get("default").energy_budget
    assert options == {
        "bound": "two-stage",
        "solver": "dual-decomposition",
        "relaxed": False,
        "gap": None,
        "schemes": True,
    }


def test_options_reach_the_planner(capsys, planner):
    words = "--preset small --bound fine-tuning --relaxed --gap 1e-4 --no-schemes --json"
    assert main(["plan", *words.split()]) == 0
    (scenario, options) = planner.asked[0]
    assert scenario.devices.gain.size == 3
    assert options["bound"] == "fine-tuning"
    assert options["relaxed"] is True
    assert options["gap"] == 1e-4
    assert options["schemes"] is False


def test_json_stands_alone_on_standard_output(capsys, planner, scenario_file, tmp_path):
    figure = tmp_path / "plan.svg"
    assert main(["plan", scenario_file, "--json", "--plot", str(figure)]) == 0
    out, err = capsys.readouterr()
    assert _json(out) == with_schemes(planner.answer).to_dict()
    assert figure.stat().st_size > 5_000
    assert err == f"jaxedge: {figure} is drawn\n"


def test_an_infeasible_scenario_is_an_answer(capsys, planner, tmp_path):
    planner.answer = infeasible()
    figure = tmp_path / "plan.png"
    options = ["plan", "--preset", "small", "--json", "--no-schemes", "--plot", str(figure)]
    assert main(options) == 0
    out, err = capsys.readouterr()
    assert _json(out)["status"] == "infeasible"
    assert "no design" in err
    assert not figure.exists()


@pytest.mark.parametrize("format", ["toml", "json"])
def test_standard_input(capsys, planner, monkeypatch, format):
    text = files.dumps(presets.get("small"), format)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert main(["plan", "-", "--json"]) == 0
    assert planner.asked[0][0].devices.gain.size == 3


@pytest.mark.parametrize(("text", "message"), [(b"", "is empty"), (b"\0", "is a binary file")])
def test_bad_standard_input_is_called_so(capsys, planner, monkeypatch, text, message):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert main(["plan", "-"]) == 2
    assert capsys.readouterr().err.startswith(f"jaxedge: standard input: {message}")


def test_batch_answers_in_order(capsys, planner, batch_file, tmp_path):
    output = tmp_path / "answers.json"
    assert main(["batch", batch_file, "--relaxed", "--output", str(output)]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "jaxedge: 3 scenarios: 2 optimal, 1 infeasible\n"
    answers = _json(output.read_text())
    assert [answer["energy"] for answer in answers] == [0.0, 1.0, None]
    assert planner.asked[0][1]["relaxed"] is True
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.json", "many.json"]


def test_batch_to_standard_output_from_standard_input(capsys, planner, monkeypatch, batch_file):
    with open(batch_file, "rb") as file:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(file.read())))
    assert main(["batch", "-", "--output", "-"]) == 0
    assert len(_json(capsys.readouterr().out)) == 3


def test_a_bad_element_is_named_before_anything_is_computed(capsys, planner, tmp_path):
    tree = json.loads(files.dumps(presets.get("small"), "json"))
    source, output = tmp_path / "many.json", tmp_path / "answers.json"
    source.write_text(json.dumps([tree, {**tree, "energy_budget": -1.0}]))
    output.write_text("kept")
    assert main(["batch", str(source), "--output", str(output)]) == 2
    err = capsys.readouterr().err
    assert "element 1: energy_budget = -1.0 J" in err
    assert err.count("\n") == 1
    assert output.read_text() == "kept"
    assert planner.asked == []


def test_the_fine_tuning_bound_asks_for_its_constant(capsys, planner, tmp_path):
    trees = [json.loads(files.dumps(presets.get("small"), "json")) for _ in range(2)]
    del trees[1]["learning"]["pl_constant"]
    source = tmp_path / "many.json"
    source.write_text(json.dumps(trees))
    assert main(["batch", str(source), "--bound", "fine-tuning", "--output", "-"]) == 2
    assert "element 1: learning.pl_constant is missing" in capsys.readouterr().err
    assert planner.asked == []


def test_answers_survive_a_disk_that_fills_up(capsys, planner, batch_file, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["batch", batch_file, "--output", str(tmp_path / "answers.json")]) == 1
    err = capsys.readouterr().err
    assert "No space left on device; the answers are in " in err
    rescue = err.partition("the answers are in ")[2].split()[0]
    with open(rescue) as file:
        assert len(_json(file.read())) == 3


# fmt: off
BAD = [
    ("", "a command is needed: init, plan, batch, sensitivity, sweep, plot"),
    ("pln", "unknown command 'pln': did you mean plan?"),
    ("xyz", "unknown command 'xyz': must be one of init, plan, batch, sensitivity, sweep, plot"),
    ("--jsn plan", "unknown option '--jsn': did you mean --json?"),
    ("init extra", "unexpected argument 'extra'"),
    ("init --preset smal", "unknown preset 'smal': did you mean small?"),
    ("init --preset", "--preset: expected one argument"),
    ("plan --preset xyz", "unknown preset 'xyz': must be one of default, "),
    ("plan --relaxd", "unknown option '--relaxd': did you mean --relaxed?"),
    ("plan --rel", "unknown option '--rel'"),
    ("plan -x", "unexpected argument '-x'"),
    ("plan a b", "unexpected argument 'b'"),
    ("plan a --preset small", "give a scenario file or --preset, not both"),
    ("plan --solver dual-decompositon", "'dual-decompositon': did you mean dual-decomposition?"),
    ("plan --solver x", "unknown solver 'x': must be one of dual-decomposition, interior-point"),
    ("plan --bound two_stage", "unknown bound 'two_stage': did you mean two-stage?"),
    ("plan --gap zero", "'zero' is no relative gap: must be > 0 and < 1"),
    ("plan --gap 0", "'0' is no relative gap"),
    ("plan --gap -1", "no relative gap"),
    ("plan --gap nan", "'nan' is no relative gap"),
    ("plan --gap inf", "'inf' is no relative gap"),
    ("plan missing.toml", "missing.toml: does not exist: `jaxedge init > scenario.toml`"),
    ("plan .", "is a directory"),
    ("plan --plot plan.gif", "must be one of .png, .pdf, .svg"),
    ("plan --plot missing/plan.png", "the folder "),
    ("batch", "the following arguments are required: FILE.json, --output"),
    ("batch many.json", "the following arguments are required: --output"),
    ("batch many.json --outptu x", "unknown option '--outptu': did you mean --output?"),
    ("batch missing.json --output -", "missing.json: does not exist"),
    ("batch missing.json --output missing/answers.json", "does not exist: create it first"),
    ("batch missing.json --output .", "is a directory: give a file name"),
    ("batch many.json --json --output -", "unknown option '--json'"),
]
# fmt: on


@pytest.mark.parametrize(("words", "message"), BAD, ids=[words or "nothing" for words, _ in BAD])
def test_bad_input_is_one_line_and_exit_code_2(
    capsys, planner, monkeypatch, tmp_path, words, message
):
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.startswith("jaxedge")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert planner.asked == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (RuntimeError("out\nof luck"), 1, "jaxedge: RuntimeError: out of luck (JAXEDGE_DEBUG=1"),
        (OSError(28, "No space left"), 1, "jaxedge: [Errno 28] No space left\n"),
        (ZeroDivisionError(), 1, "jaxedge: ZeroDivisionError:"),
        (ValueError("gap = 2 must be < 1"), 2, "jaxedge: gap = 2 must be < 1\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_goes_wrong_inside(capsys, planner, error, code, message):
    planner.fails_with = error
    assert main(["plan", "--preset", "small"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(message)
    assert err.count("\n") == (1 if message else 0)


def test_debug_shows_the_traceback(capsys, planner, monkeypatch):
    planner.fails_with = RuntimeError("out of luck")
    assert main(["plan", "--preset", "small", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("JAXEDGE_DEBUG", "1")
    assert main(["plan", "--preset", "small"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["init"], ["plan"], ["batch"]])
def test_help_teaches(capsys, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "example" in out
    assert out.isascii()
    assert max(map(len, out.splitlines())) <= 100


def test_help_names_every_preset_solver_exit_code_and_unit(capsys):
    texts = {}
    for command in ("", "init", "plan"):
        main([command, "--help"] if command else ["--help"])
        texts[command] = capsys.readouterr().out
    assert all(name in texts["init"] for name in presets.names())
    unwrapped = "".join(texts["plan"].split())  # lines may end at a hyphen
    assert all(name in unwrapped for name in (*SOLVERS, *arguments.BOUNDS))
    assert all(unit in texts["plan"] for unit in (" J;", " s;", " Hz;", " W;", ".svg"))
    assert "exit codes" in texts[""]
    assert "exit codes" in texts["plan"]


def test_examples_of_the_help_are_understood(capsys):
    found = []
    for command in ("", *COMMANDS):
        with pytest.raises(SystemExit):
            arguments.parse([*command.split(), "--help"], "0", COMMANDS)
        text = capsys.readouterr().out
        lines = [line.strip() for line in text.splitlines() if line.startswith("  jaxedge ")]
        found += [line.split("  ")[0].split("|")[-1 if "plan -" in line else 0] for line in lines]
    for line in found:
        words = line.replace("jaxedge", "").split(">")[0].split()
        if words[:1] != ["jq"]:
            arguments.parse(words, "0", COMMANDS)
    assert len(found) > 8


def _process(*words, code=None):
    command = [sys.executable, *(["-c", code] if code else ["-m", "jaxedge"]), *words]
    settings = {**os.environ, "JAXEDGE_CACHE": "off"}
    return subprocess.run(command, env=settings, capture_output=True, timeout=60, cwd=_ROOT)


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_neither_help_nor_version_import_jax(word):
    code = (
        "import sys; from jaxedge.commands.cli import main; code = main(sys.argv[1:]);"
        "heavy = {'jax', 'numpy', 'matplotlib'} & set(sys.modules); sys.exit(code or len(heavy))"
    )
    done = _process(word, code=code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"jaxedge" if word == "--version" else b"usage: jaxedge")


def test_a_reader_that_leaves_early_is_no_trouble():
    for words in (["init"], ["--help"]):
        child = subprocess.Popen(
            [sys.executable, "-m", "jaxedge", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=_ROOT,
        )
        child.stdout.close()  # before the child has written: it is still importing
        assert child.stderr.read() == b""
        child.stderr.close()
        assert child.wait(timeout=60) == 0


def test_closed_streams_are_no_bug(capsys, planner, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["plan", "-"]) == 2
    assert "standard input is closed" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["plan", "--preset", "small", "--json"]) == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_behind_standard_output_is_said():
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "jaxedge", "init"],
            stdout=full,
            stderr=subprocess.PIPE,
            cwd=_ROOT,
            timeout=60,
        )
    assert done.returncode == 1
    assert done.stderr == b"jaxedge: [Errno 28] No space left on device\n"


def test_runs_as_a_module():
    done = _process("init", "--preset", "small")
    assert done.returncode == 0
    assert done.stderr == b""
    assert files.loads(done.stdout.decode()).devices.gain.size == 3


def test_the_console_script_points_here():
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())
    module, _, name = project["project"]["scripts"]["jaxedge"].partition(":")
    assert getattr(importlib.import_module(module), name) is main
