"""The analysis of one scenario: what it holds, what it prints, draws and says in JSON."""

import dataclasses
import json

import matplotlib.text
import numpy as np
import pytest

from jaxedge import presets
from jaxedge.commands.cli import main
from jaxedge.report.sensitivity_plot import plot_sensitivity
from jaxedge.report.sensitivity_table import in_words, sensitivity_table
from jaxedge.scenario.fields import field_value
from jaxedge.scenario.scenario import FIELDS
from jaxedge.scenario.validation import validate
from jaxedge.sensitivity import analysis
from jaxedge.sensitivity.analysis import LIMITS, Parameter, Sensitivity, analyse
from jaxedge.sensitivity.finite_changes import FiniteChange
from jaxedge.sensitivity.gradients import value_and_grad
from jaxedge.sensitivity.kinks import Sides

SCENARIO = validate(presets.get("small"))
SLOPES = {"energy_budget": -0.4, "devices.gain": -0.02, "noise_density": 0.03}


def _sides(path, device=None, **how):
    slope = SLOPES.get(path, 0.0)
    plain = {"elasticity": slope, "below": slope, "above": slope, "changes": (), "kink": False}
    return Sides(path=path, device=device, **{**plain, **how})


def _parameter(item):
    value = field_value(SCENARIO, item)
    gradient = value * 0 + SLOPES.get(item.path, 0.0)
    devices, finite, sides = (), (), _sides(item.path)
    if item.path == "energy_budget":
        changes = ("energy budget", *(f"device {i}: clock at its maximum" for i in range(8)))
        sides = _sides(item.path, below=-0.5, above=np.nan, kink=True, changes=changes)
        finite = tuple(
            FiniteChange(change=c, bound=0.1, relative=-0.4 * c, least=-c, most=c)
            for c in (-0.05, 0.05)
        )
    if item.path == "devices.gain":
        devices = tuple(_sides(item.path, i, below=-0.03, kink=i == 1) for i in range(3))
    return Parameter(
        field=item, value=value, gradient=gradient, sides=sides, devices=devices, finite=finite
    )


@pytest.fixture
def made():
    """By hand, with a kink of a field and one of a device."""
    ranked = sorted(FIELDS, key=lambda item: -abs(SLOPES.get(item.path, 0.0)))
    parameters = tuple(map(_parameter, ranked))
    return Sensitivity(
        status="optimal", message="fine", bound_name="two-stage", bound=0.25, parameters=parameters
    )


def test_elasticities_are_put_into_words():
    assert in_words(-0.4) == "1 % more lowers the bound by 0.400 %"
    assert in_words(0.4) == "1 % more raises the bound by 0.400 %"
    assert in_words(-1e-9) == "1 % more changes nothing"


def test_the_table_ranks_and_names_kinks(made):
    text = sensitivity_table(made)
    assert text.isascii() and max(map(len, text.splitlines())) <= 100
    places = [text.index(f"\n{path} ") for path in ("energy_budget", "noise_density")]
    assert places == sorted(places)
    assert "energy_budget: -0.5000 below, - above" in text
    assert "and 3 more" in text
    assert "devices.gain[1]: -0.03000 below, -0.02000 above" in text
    assert "1 % more raises the bound by 0.0300 %" in text
    assert "Slack, price 0: delay_budget" in text
    assert "+2.00 %  -2.00 %" in text


def test_json_is_strict(made):
    told = made.to_dict()
    again = json.loads(json.dumps(told, allow_nan=False))
    assert again == told
    first = told["parameters"][0]
    assert (first["path"], first["unit"], first["kink"]) == ("energy_budget", "J", True)
    assert first["elasticity_above"] is None
    assert set(told["shadow_prices"]) == set(LIMITS)
    assert len(told["shadow_prices"]["devices.max_clock"]) == 3


def test_the_tornado_shows_the_largest_first_and_both_sides_of_a_kink(made, tmp_path):
    figure = plot_sensitivity(made, tmp_path / "tornado.svg")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == list(
        sorted(SLOPES, key=lambda path: -abs(SLOPES[path]))
    )
    widths = [bar.get_width() for bar in axes.patches]
    assert widths[:4] == pytest.approx([0.5, 0.0, -0.03, 0.03])
    texts = {text.get_text().strip() for text in figure.findobj(matplotlib.text.Text)}
    assert {"kink", "0.0300", "1 % more", "1 % less"} <= texts
    assert (tmp_path / "tornado.svg").read_bytes().startswith(b"<?xml")


def test_without_parameters_there_is_nothing_to_draw():
    empty = Sensitivity(
        status="infeasible",
        message="too little energy",
        bound_name="two-stage",
        bound=None,
        parameters=(),
    )
    assert "too little energy" in sensitivity_table(empty)
    with pytest.raises(ValueError, match="infeasible"):
        plot_sensitivity(empty)


def test_the_command_prints_a_table_or_json_and_draws(made, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("JAXEDGE_CACHE", "off")
    asked = []

    def answer(scenario, *, bound, replanned, progress):
        assert bound == "two-stage"
        asked.append(replanned)
        return made

    monkeypatch.setattr(analysis, "analyse", answer)
    drawn = tmp_path / "tornado.pdf"
    assert main(["sensitivity", "--preset", "small", "--plot", str(drawn)]) == 0
    out, err = capsys.readouterr()
    assert out.rstrip() == sensitivity_table(made)
    assert f"{drawn} is drawn" in err and drawn.exists()
    assert main(["sensitivity", "--json", "--no-replanning"]) == 0
    assert json.loads(capsys.readouterr().out) == made.to_dict()
    assert asked == [analysis.REPLANNED, 0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--plot", "tornado.bmp"], ".png"),
        (["missing.toml"], "missing.toml"),
        (["--prest", "small"], "--preset"),
        (["--preset", "smal"], "small"),
    ],
)
def test_bad_input_is_one_line(arguments, words, capsys, monkeypatch):
    monkeypatch.setenv("JAXEDGE_CACHE", "off")
    assert main(["sensitivity", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and words in err


@pytest.mark.slow
def test_a_real_analysis_holds_the_gradients_and_whole_designs():
    found = analyse(SCENARIO, replanned=1)
    value, gradients = value_and_grad(SCENARIO)
    assert found.bound == pytest.approx(float(value), rel=1e-12)
    assert {p.field.path for p in found.parameters} == {item.path for item in FIELDS}
    sizes = [abs(p.elasticity) for p in found.parameters]
    assert sizes == sorted(sizes, reverse=True)
    for parameter in found.parameters:
        expected = field_value(gradients, parameter.field)
        np.testing.assert_allclose(parameter.gradient, expected, rtol=1e-12)
    (replanned,) = [p for p in found.parameters if p.finite]
    for change in replanned.finite:
        # What is certified holds the exact first-order change of a small step, and its sign.
        assert change.least <= change.relative <= change.most
        assert np.sign(change.relative) == np.sign(change.change * replanned.elasticity)


def test_an_infeasible_scenario_is_an_answer():
    found = analyse(dataclasses.replace(SCENARIO, energy_budget=1e-9), replanned=0)
    assert (found.status, found.bound, found.parameters) == ("infeasible", None, ())
