"""The pages on global sensitivities, sweeps and figures do what they say."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from jaxedge.commands.cli import main
from jaxedge.report.sweep_plots import KINDS
from jaxedge.sensitivity.ranges import ranges_of
from jaxedge.sweeps import open_sweep
from jaxedge.sweeps.axes import CHANNELS, LAWS
from jaxedge.sweeps.outputs import OUTPUTS

DOCS = Path(__file__).parents[2] / "docs"


def blocks(name, language):
    text = (DOCS / name).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def names_of(page):
    names = {}
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), names)
    return names


def test_the_page_on_global_sensitivities_runs(capsys):
    names = names_of("global_sensitivity.md")
    for kind in ("found", "slopes", "screened"):
        assert len(names[kind].ranking) == 4
    assert names["counted"].infeasible_share > 0
    assert "total order" in capsys.readouterr().out
    (ranges,) = blocks("global_sensitivity.md", "toml")
    assert len(ranges_of(tomllib.loads(ranges))) == 4


SWEPT = """\
0.4195
('energy_budget',) ('energy_budget', 'quantile')
seed: 0 in the store, 1 now
True
"""


@pytest.mark.parametrize(
    ("page", "files", "printed"),
    [
        ("plots.md", "bound.pdf cut.pdf", "[0 1 3]\n"),
        ("sweeps.md", "results clustered spec.toml results.zarr bound.png cut.png", SWEPT),
    ],
    ids=["plots", "sweeps"],
)
@pytest.mark.slow
def test_a_page_and_its_commands_run(tmp_path, monkeypatch, capsys, page, files, printed):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXEDGE_CACHE", "off")
    names_of(page)
    for spec in blocks(page, "toml"):
        Path("spec.toml").write_text(spec, encoding="utf-8")
    for line in "".join(blocks(page, "sh")).splitlines():
        assert main(shlex.split(line, comments=True)[1:]) == 0, line
    assert {path.name for path in tmp_path.iterdir()} == set(files.split())
    assert capsys.readouterr().out == printed
    stored = [open_sweep(path).load() for path in tmp_path.iterdir() if path.is_dir()]
    assert all(dataset.identical(stored[0]) for dataset in stored)


@pytest.mark.parametrize("item", OUTPUTS.values(), ids=OUTPUTS)
def test_every_output_is_listed_with_its_unit(item):
    text = (DOCS / "sweeps.md").read_text(encoding="utf-8")
    (names, units) = re.search(rf"^\|(.*`{item.name}`.*?)\|(.*?)\|", text, re.MULTILINE).groups()
    names, units = re.findall("`(.*?)`", names), units.strip().split(", ")
    assert units[names.index(item.name) % len(units)] == (
        "flags" * (item.name == "status") or item.unit
    )


@pytest.mark.parametrize("name", [*LAWS, *CHANNELS])
def test_every_law_is_described(name):
    assert f"`{name}`" in (DOCS / "sweeps.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_figure_is_described(kind):
    assert f"| `{kind}`" in (DOCS / "plots.md").read_text(encoding="utf-8")
