"""The pages on global sensitivities and figures do what they say."""

import re
import tomllib
from pathlib import Path

import pytest

from jaxedge.parameter_ranges import ranges_of
from jaxedge.sweep_plots import KINDS

DOCS = Path(__file__).parents[1] / "docs"


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


def test_the_page_on_figures_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names_of("plots.md")
    assert {path.name for path in tmp_path.iterdir()} == {"bound.pdf", "cut.pdf"}
    assert capsys.readouterr().out == "[0 1 3]\n"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_figure_is_described(kind):
    assert f"| `{kind}`" in (DOCS / "plots.md").read_text(encoding="utf-8")
