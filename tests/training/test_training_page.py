"""The page on training does what it says."""

import re
import shlex
from pathlib import Path

import pytest

from jaxedge.commands.cli import main
from jaxedge.training.data.partitions import PARTITIONS
from jaxedge.training.data.shifts import SHIFTS
from jaxedge.training.data.sources import SOURCES
from jaxedge.training.models.networks import MODELS
from jaxedge.training.runs.run_folder import CONFIG, COURSE, LEDGER, METRICS, SUMMARY

TEXT = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_page_and_its_commands_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXEDGE_CACHE", "off")
    names = {}
    for block in blocks("python"):
        exec(compile(block, "training.md", "exec"), names)
    assert capsys.readouterr().out == "True\nTrue\nTrue\n(2, 4) True\ndelay True\n"
    printed = []
    for line in "".join(blocks("sh")).splitlines():
        assert main(shlex.split(line)[1:]) == 0, line
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert printed[0].startswith("TRAINING")
    named = set(re.findall(r"^\| `([\w./]+?)/?` \|", TEXT, re.MULTILINE))
    assert {path.name for path in Path("run").iterdir()} <= named


@pytest.mark.parametrize(
    "name",
    [*MODELS, *PARTITIONS, *SHIFTS, *(source.partition(":")[0] for source in SOURCES)],
)
def test_every_choice_is_named(name):
    assert re.search(rf"`{name}[`:]", TEXT)


@pytest.mark.parametrize("name", [CONFIG, COURSE, METRICS, LEDGER, SUMMARY])
def test_every_file_is_named(name):
    assert f"| `{name}` |" in TEXT
