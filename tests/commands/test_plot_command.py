"""``jaxedge plot`` on stores written by hand."""

import sys
import warnings

import pytest

from jaxedge.commands.cli import main
from jaxedge.sweeps import open_sweep
from tests import hand_made_sweeps as made

ATTRIBUTES = {"spec": "{}", "spec_sha256": "0"}
"""By which a store is known as a sweep's; its ledger, which only writing needs, is left out."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("sweeps")
    with warnings.catch_warnings():  # Zarr's third format does not prescribe what is consolidated
        warnings.simplefilter("ignore")
        made.budgets(8, 6).assign_attrs(ATTRIBUTES).to_zarr(path / "results", zarr_format=3)
        made.budgets(3, 3).to_zarr(path / "foreign", zarr_format=3)
    return path


@pytest.fixture(autouse=True)
def _inside(folder, monkeypatch):
    monkeypatch.chdir(folder)


def test_a_store_reads_back_as_it_was(folder):
    import xarray

    xarray.testing.assert_identical(
        open_sweep(folder / "results").load(), made.budgets(8, 6).assign_attrs(ATTRIBUTES)
    )


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("", "results.pdf"),
        ("--kind phase --x delay_budget --y energy_budget --output stages.svg", "stages.svg"),
        ("--value energy --at delay_budget=300 --output cut.png", "cut.png"),
        ("--kind pareto --output front.pdf", "front.pdf"),
    ],
)
def test_figures_are_drawn_from_the_store(folder, capsys, words, name):
    assert main(["plot", "results", *words.split()]) == 0
    assert capsys.readouterr() == ("", f"jaxedge: {name} is drawn\n")
    assert (folder / name).stat().st_size > 3_000


BAD = [
    ("nothing", "nothing: is not the store of a sweep"),
    ("foreign", "foreign: is not the store of a sweep"),
    (".", "is not the store of a sweep"),
    ("results --value bund", "unknown value 'bund': did you mean bound?"),
    ("results --x energy_buget", "unknown axis 'energy_buget': did you mean energy_budget?"),
    ("results --kind heat", "unknown kind 'heat': did you mean heatmap?"),
    ("results --kind phase --at delay_budget=300", "kind 'phase' needs two axes"),
    ("results --output figure.gif", "the suffix '.gif' is unknown"),
    ("results --at delay_budget", "'delay_budget' must be NAME=VALUE"),
    ("results --at delay_budget=much", "delay_budget = 'much': must be a number"),
    ("results --band quantiles", "unknown band 'quantiles': did you mean quantile?"),
    ("results --knd lines", "unknown option '--knd': did you mean --kind?"),
    ("", "the following arguments are required: DIR"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[words or "nothing" for words, _ in BAD])
def test_bad_input_is_one_line_and_exit_code_2(folder, capsys, words, message):
    before = sorted(folder.iterdir())
    assert main(["plot", *words.split()]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err
    assert err.startswith("jaxedge") and err.count("\n") == 1
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("package", ["xarray", "zarr"])
def test_what_is_not_installed_is_named(capsys, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["plot", "results"]) == 2
    told = f"sweeps need {package}, which is not installed: pip install 'jaxedge[sweep]'"
    assert told in capsys.readouterr().err
