"""The site is whole, and its pages that have no test file of their own do what they say."""

import importlib
import json
import re
import shlex
from pathlib import Path

import pytest

import jaxedge
from jaxedge.answers.batch import STATUSES
from jaxedge.commands.cli import main
from jaxedge.relaxation.solvers import SOLVERS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def text_of(page):
    return (DOCS / page).read_text(encoding="utf-8")


def blocks(page, languages=r"\w+"):
    found = re.findall(
        rf"^```({languages})\n(.*?)^```$", text_of(page), flags=re.MULTILINE | re.DOTALL
    )
    assert found
    return found


def test_every_page_is_in_a_table_of_contents():
    trees = re.findall(r"^```\{toctree\}\n(.*?)^```$", text_of("index.md"), re.M | re.S)
    listed = re.findall(r"^(?:\w+ <)?(\w+)>?$", "".join(trees), flags=re.MULTILINE)
    assert sorted([*listed, "index"]) == sorted(path.stem for path in DOCS.glob("*.md"))


@pytest.mark.parametrize("name", jaxedge.__all__)
def test_every_public_name_is_in_the_reference(name):
    # Of the rooms whose names tests/test_house.py finds on the page.
    shown = re.findall(r"^\.\. automodule:: (jaxedge\.[\w.]+)$", text_of("api.md"), re.MULTILINE)
    homes = [importlib.import_module(home) for home in shown]
    there = [getattr(home, own) for home in homes for own in getattr(home, "__all__", ())]
    assert any(getattr(jaxedge, name) is value for value in [*homes, *there])


@pytest.fixture
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXEDGE_CACHE", "off")
    return tmp_path


@pytest.mark.slow
def test_the_tutorial_runs_from_top_to_bottom(in_a_folder, capsys):
    printed, shown, names = "", [], {}
    for language, block in blocks("tutorial.md"):
        if language == "toml":
            Path("sweep.toml").write_text(block, encoding="utf-8")
        elif language == "python":
            exec(compile(block, "tutorial.md", "exec"), names)
            assert capsys.readouterr().out == "optimal True [4 3 4]\n"
        elif language == "text":
            shown += block.splitlines()
        for line in block.splitlines() if language == "sh" else ():
            if line.startswith("jaxedge"):
                words, _, target = line.partition(" > ")
                assert main(shlex.split(words)[1:]) == 0, line
                out = capsys.readouterr().out
                printed += out
                if target:
                    Path(target).write_text(out, encoding="utf-8")
    assert len(shown) > 15
    assert set(shown) <= set(printed.splitlines())
    for figure in ("stages.png", "bound.png", "run/figures/training.png"):
        assert (in_a_folder / figure).read_bytes().startswith(b"\x89PNG")
    rows = (in_a_folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    accuracy = [json.loads(row)["accuracy"] for row in rows]
    assert accuracy[0] < 0.2
    assert accuracy[-1] > 0.85


def test_the_tutorial_installs_as_the_readme_does():
    (_, install), *_ = blocks("tutorial.md", "sh")
    line = install.splitlines()[0].replace("'.[sweep]'", ".")
    assert line in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (
            "certificates.md",
            "optimal True True|True True|infeasible delay_budget|True|True|True True|True",
        ),
        (
            "solvers.md",
            "(6,) (6, 3) True|True|[ True False False False False False] True True|True True",
        ),
    ],
)
def test_a_page_prints_what_it_claims(page, expected, capsys):
    names = {}
    for _, block in blocks(page, "python"):
        exec(compile(block, page, "exec"), names)
    assert capsys.readouterr().out == expected.replace("|", "\n") + "\n"


@pytest.mark.parametrize(("name", "gap"), [(x.name, x.gap) for x in SOLVERS.values()])
def test_every_solver_is_described_with_its_gap_and_its_time(name, gap):
    described, timed = re.findall(rf"^\| `{name}`.*$", text_of("solvers.md"), re.MULTILINE)
    assert float(described.split("|")[2]) == gap
    record = json.loads((ROOT / "benchmarks" / "records" / "solvers-cpu.json").read_text())
    case = {"method": name, "devices": 10, "tightness": 0.5}
    (row,) = (row for row in record["results"]["rows"] if case.items() <= row.items())
    about = 1e3 * float(timed.split("|")[2].removesuffix(" ms "))
    assert about == pytest.approx(row["cpu_us_per_scenario"], rel=0.2)


@pytest.mark.parametrize(("code", "status"), [*enumerate(STATUSES)])
def test_every_status_is_described(code, status):
    assert f"| {code} | `{status}` |" in text_of("solvers.md")
    assert f"| `{status}` |" in text_of("certificates.md")


def test_the_citation_is_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {jaxedge.__version__}\n" in citation
