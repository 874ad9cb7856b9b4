"""Figures of hand-made sweeps: what is drawn is what the dataset holds."""

import re

import matplotlib.collections
import matplotlib.text
import numpy as np
import pytest
import xarray

from jaxedge.report.figure_style import FORMATS
from jaxedge.report.pareto import non_dominated
from jaxedge.report.sweep_plots import plot_sweep
from jaxedge.report.sweep_views import STAGES, is_geometric, spread_of, winners, words
from jaxedge.words.quantities import prefixed
from tests import hand_made_sweeps as made

BUDGETS = made.budgets()
DRAWN = {
    "schemes": (made.schemes(), {}),
    "draws": (made.channels(), {}),
    "statistics": (made.statistics(), {"band": "confidence"}),
    "series": (made.budgets(24, 5), {"kind": "lines"}),
    "zipped": (made.zipped(), {}),
    "device": (BUDGETS, {"value": "device_power", "at": {"delay_budget": 300}}),
    "heatmap": (BUDGETS, {}),
    "logarithmic": (BUDGETS, {"value": "pretraining_rounds"}),
    "phase": (BUDGETS, {"kind": "phase"}),
    "turned": (BUDGETS, {"kind": "phase", "x": "delay_budget"}),
    "pareto": (BUDGETS, {"kind": "pareto"}),
}


@pytest.fixture(scope="module", params=DRAWN)
def figure(request):
    dataset, options = DRAWN[request.param]
    return plot_sweep(dataset, **options)


def tick_labels(axis):
    """Positions and texts of the ticks in view."""
    low, high = sorted(axis.get_view_interval())
    found = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
    return [label for at, label in found if low <= at <= high and label.get_text()]


def texts(figure):
    """All that can be read."""
    figure.draw_without_rendering()
    found = []
    for axes in figure.axes:
        found += [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        found += [*tick_labels(axes.xaxis), *tick_labels(axes.yaxis)]
        found += [] if axes.get_legend() is None else axes.get_legend().get_texts()
    return [one for one in found if one.get_text()]


def said(figure):
    return {one.get_text() for one in texts(figure)}


def test_no_text_is_clipped_or_covers_another(figure):
    boxes = [(one.get_text(), one.get_window_extent()) for one in texts(figure)]
    page = figure.bbox
    for name, box in boxes:
        assert page.x0 - 1 <= box.x0 and box.x1 <= page.x1 + 1, name
        assert page.y0 - 1 <= box.y0 and box.y1 <= page.y1 + 1, name
    for index, (name, box) in enumerate(boxes):
        for other, place in boxes[:index]:
            assert not box.shrunk(0.95, 0.8).overlaps(place.shrunk(0.95, 0.8)), (name, other)


def test_every_axis_has_its_ticks(figure):
    figure.draw_without_rendering()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            assert len(tick_labels(axis)) >= 3 or not axis.get_majorticklabels()


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_same_sweep_gives_the_same_file(tmp_path, suffix):
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    for path in (first, second):
        plot_sweep(made.zipped(), path)
    assert first.stat().st_size > 3_000
    assert first.read_bytes() == second.read_bytes()


def test_lines_hold_the_numbers_in_units_of_the_axis():
    axes = plot_sweep(made.channels()).axes[0]
    mean = made.channels()["bound"].mean("channel")
    line = next(one for one in axes.lines if len(one.get_xdata()) == mean.size)
    np.testing.assert_allclose(line.get_xdata(), mean["energy_budget"] / 1e3)
    np.testing.assert_allclose(line.get_ydata(), mean)
    assert axes.get_xlabel() == "energy budget (kJ)" and axes.get_ylabel() == "mean bound"


def band_of(figure):
    (band,) = figure.findobj(matplotlib.collections.PolyCollection)
    points = band.get_paths()[0].vertices
    heights = [points[points[:, 0] == x, 1] for x in np.unique(points[:, 0])]
    return np.array([[h.min(), h.max()] for h in heights]).T


def test_bands_are_quantiles_or_intervals_of_the_mean():
    bound = made.channels()["bound"]
    for dataset in (made.channels(), made.statistics()):
        np.testing.assert_allclose(
            band_of(plot_sweep(dataset)), bound.quantile([0.05, 0.95], "channel"), rtol=1e-12
        )
        mean, margin = bound.mean("channel"), 1.96 * bound.std("channel")
        margin = margin / np.sqrt(bound.notnull().sum("channel"))
        band = band_of(plot_sweep(dataset, band="confidence"))
        np.testing.assert_allclose(band, [mean - margin, mean + margin], rtol=1e-12)


def test_draws_without_a_design_are_told():
    share = f"{100 * float(made.channels()['bound'].isnull().mean('channel').max()):.0f} %"
    for dataset in (made.channels(), made.statistics()):
        assert any(f"up to {share} without a design" in text for text in said(plot_sweep(dataset)))
    dataset = made.channels()
    dataset["bound"][0] = np.nan
    assert spread_of(dataset, "bound").outage == 1.0
    assert any("up to 100 % without" in text for text in said(plot_sweep(dataset)))


def test_schemes_are_named_beside_their_lines():
    assert {"joint design", *made.SCHEMES} < said(plot_sweep(made.schemes()))
    lines = plot_sweep(made.budgets(24, 5), kind="lines")
    assert {"50 s", "325 s", "600 s", "delay budget"} < said(lines)


def test_lines_that_lie_on_each_other_are_all_seen():
    bound = np.array([4.0, 2.0, 1.0, 0.5])
    schemes = np.stack([bound, 1.5 * bound, np.where(bound > 1.5, 3 * bound, bound)], axis=-1)
    dataset = xarray.Dataset(
        {
            "bound": ("energy_budget", bound, {"units": "1"}),
            "scheme_bound": (("energy_budget", "scheme"), schemes, {"units": "1"}),
        },
        coords={"energy_budget": [10.0, 20.0, 40.0, 80.0], "scheme": ["same", "apart", "in part"]},
    )
    figure = plot_sweep(dataset, kind="lines")
    joint, same, apart, in_part = (line.get_linewidth() for line in figure.axes[0].lines[:4])
    assert joint > same + 1 > in_part + 2
    assert apart == in_part


def test_heat_maps_hold_the_numbers_where_they_belong():
    figure = plot_sweep(BUDGETS)
    mesh = figure.axes[0].collections[0]
    expected = np.ma.masked_invalid(BUDGETS["bound"].transpose("delay_budget", "energy_budget"))
    np.testing.assert_array_equal(mesh.get_array().mask, expected.mask)
    np.testing.assert_allclose(mesh.get_array().compressed(), expected.compressed())
    borders = mesh.get_coordinates()[0, :, 0]
    energy = BUDGETS["energy_budget"].values
    assert np.all((borders[:-1] < energy) & (energy < borders[1:]))
    np.testing.assert_allclose(borders[1:-1], np.sqrt(energy[1:] * energy[:-1]))
    assert {"infeasible", "bound", "energy budget (J)", "delay budget (s)"} < said(figure)


def test_the_stage_that_wins_is_that_above_its_minimum():
    rounds = {"pretraining_rounds": [9, 9, 1, 1, np.nan], "finetuning_rounds": [1, 7, 7, 1, np.nan]}
    dataset = xarray.Dataset({name: ("x", values) for name, values in rounds.items()})
    names = [None if np.isnan(code) else STAGES[int(code)] for code in winners(dataset).values]
    assert names == [*STAGES, None]
    raised = dataset.assign_attrs(spec='{"scenario": {"min_pretraining_rounds": 9}}')
    assert list(winners(raised).values[:4]) == [3, 2, 2, 3]
    swept = dataset.assign_coords(min_finetuning_rounds=("x", [1, 7, 1, 0, 1]))
    assert list(winners(swept).values[:4]) == [0, 0, 2, 2]


def test_phases_are_named_in_their_regions_or_the_legend():
    assert {"pre-training\nonly", "both\nstages", "infeasible"} < said(
        plot_sweep(BUDGETS, kind="phase")
    )
    assert "fine-tuning only" in said(plot_sweep(BUDGETS, kind="phase"))


def test_pareto_fronts_hold_the_designs_that_none_beats():
    columns = [BUDGETS[name].values.ravel() for name in ("energy", "bound", "delay")]
    points = np.column_stack(columns)
    points = points[np.isfinite(points).all(axis=1)]
    drawn = plot_sweep(BUDGETS, kind="pareto").axes[0].collections[1]
    best = points[non_dominated(points)]
    np.testing.assert_allclose(drawn.get_offsets(), best[:, :2])
    np.testing.assert_allclose(drawn.get_array(), best[:, 2])


def test_axes_are_logarithmic_where_their_values_are_geometric():
    assert is_geometric(np.geomspace(1, 100, 5))
    assert not is_geometric(np.linspace(1, 100, 5))
    assert not is_geometric(np.array([1.0, 1.0, 1.0]))
    assert not is_geometric(np.array([0.0, 1.0, 2.0]))
    axes = plot_sweep(BUDGETS).axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("devices.max_power", "device max power"),
        ("learning.discrepancy", "discrepancy"),
        ("pretraining_rounds", "pre-training rounds"),
        ("elasticity_server__max_clock", "elasticity to server max clock"),
        ("bound_mean", "bound"),
    ],
)
def test_names_are_words(name, expected):
    assert words(name) == expected


@pytest.mark.parametrize(
    ("largest", "unit", "expected"),
    [
        (2e9, "Hz", (1e-9, "GHz")),
        (900.0, "s", (1.0, "s")),
        (5000.0, "s", (1.0, "s")),
        (0.02, "W", (1e3, "mW")),
        (2e9, "1", (1.0, "1")),
        (30.0, "dBm", (1.0, "dBm")),
    ],
)
def test_axes_have_prefixes_where_units_take_them(largest, unit, expected):
    factor, symbol = prefixed(largest, unit)
    assert (factor, symbol) == (pytest.approx(expected[0]), expected[1])


BAD = [
    ({"kind": "line"}, "unknown kind 'line': did you mean lines?"),
    ({"value": "bund"}, "unknown value 'bund': did you mean bound?"),
    ({"x": "energy_buget"}, "unknown axis 'energy_buget': did you mean energy_budget?"),
    ({"at": {"dely_budget": 1}}, "unknown axis 'dely_budget': did you mean delay_budget?"),
    ({"at": {"delay_budget": "much"}}, "delay_budget = 'much': must be a number"),
    ({"band": "quantiles"}, "unknown band 'quantiles': did you mean quantile?"),
    (
        {"kind": "heatmap", "at": {"delay_budget": 1}},
        "kind 'heatmap' needs two axes, and the sweep has",
    ),
    ({"kind": "phase", "at": {"delay_budget": 1}}, "kind 'phase' needs two axes"),
    ({"x": "delay_budget", "y": "delay_budget"}, "x and y are one axis"),
    ({"value": "device_power"}, "the axis 'device' is left over: fix it with --at device=VALUE"),
    (
        {"kind": "lines", "x": "energy_budget"},
        "has 18 values, and lines show at most",
    ),
    ({"at": {"energy_budget": 1, "delay_budget": 1}}, "needs an axis, and there is none left"),
    ({"kind": "pareto", "x": "enrgy"}, "unknown value 'enrgy': did you mean energy?"),
    ({"path": "figure.gif"}, "the suffix '.gif' is unknown"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[message for _, message in BAD])
def test_what_cannot_be_drawn_is_explained(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        plot_sweep(BUDGETS, **options)


@pytest.mark.parametrize("kind", ["lines", "heatmap", "pareto"])
def test_sweeps_without_any_design_are_said_to_be_so(kind):
    nothing = BUDGETS.where(BUDGETS["energy_budget"] < 0).isel(delay_budget=slice(0, 3))
    with pytest.raises(ValueError, match="there is nothing to draw"):
        plot_sweep(nothing, kind=kind)


def test_random_axes_of_phases_must_be_fixed():
    drawn = BUDGETS.expand_dims(channel=[0, 1]).copy()
    drawn["channel"].attrs["random"] = 1
    with pytest.raises(ValueError, match="the random axis 'channel' is left over: fix it"):
        plot_sweep(drawn, kind="phase")
