import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from jaxedge.report.figure_style import FORMATS, check_figure_path
from jaxedge.report.plan_plots import plot_plan
from jaxedge.system.accounts import breakdown
from jaxedge.words.quantities import percent, quantity
from tests.hand_made_plans import SCHEMES, hand_made, infeasible, with_schemes

_ROOT = Path(__file__).parents[2]
_STARTS = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}


def _texts(figure):
    import matplotlib.text

    found = {text.get_text() for text in figure.findobj(matplotlib.text.Text)}
    return found - {""}


@pytest.fixture(scope="module")
def drawn():
    scenario, plan = hand_made()
    return plot_plan(with_schemes(plan), scenario)


@pytest.mark.parametrize("suffix", FORMATS)
def test_writes_each_format(tmp_path, suffix):
    scenario, plan = hand_made("small")
    first, second = tmp_path / f"a{suffix.upper()}", tmp_path / f"b{suffix}"
    for path in (first, second):
        plot_plan(plan, scenario, path)
    assert first.read_bytes().startswith(_STARTS[suffix])
    assert first.stat().st_size > 5_000
    assert sorted(tmp_path.iterdir()) == [first, second]


def test_svg_holds_the_texts(tmp_path):
    scenario, plan = hand_made()
    plot_plan(with_schemes(plan), scenario, tmp_path / "plan.svg")
    content = (tmp_path / "plan.svg").read_text()
    for text in ("energy (J)", "delay (s)", "uploads", "broadcasts", "lower bound", *SCHEMES):
        assert text in content


def test_says_what_is_spent_and_compared(drawn):
    scenario, plan = hand_made()
    spent = breakdown(scenario, plan.allocation)
    texts = {text.replace("\n", " ") for text in _texts(drawn)}
    for amounts, budget, unit in (
        (spent.energy, scenario.energy_budget, "J"),
        (spent.delay, scenario.delay_budget, "s"),
    ):
        assert f"budget {quantity(budget, unit)}" in texts
        for name, amount in amounts.items():
            share = percent(amount / sum(amounts.values()), 2)
            assert f"{name} {quantity(amount, unit, 3)}, {share}" in texts
    assert {"infeasible", "+10 %", "+70 %", "lower bound", "bound relative to joint design"} < texts


def test_no_text_is_clipped_or_covers_another(drawn):
    drawn.canvas.draw()
    page = drawn.bbox
    boxes = []
    for parent in (axes for part in drawn.subfigs for axes in part.axes):
        labels = [text for text in parent.texts if text.get_text()]
        boxes += [(text.get_text(), text.get_window_extent()) for text in labels]
    for name, box in boxes:
        assert page.x0 <= box.x0 and box.x1 <= page.x1, name
        assert page.y0 <= box.y0 and box.y1 <= page.y1, name
    for index, (name, box) in enumerate(boxes):
        for other, place in boxes[:index]:
            assert not box.shrunk(0.95, 0.8).overlaps(place.shrunk(0.95, 0.8)), (name, other)


@pytest.mark.parametrize(("first", "second"), [(0, 150), (400, 0), (1, 1), (10**6, 1)])
def test_draws_designs_of_one_stage_and_of_all_sizes(first, second):
    scenario, plan = hand_made("large", first, second)
    texts = " ".join(_texts(plot_plan(plan, scenario)))
    assert ("uploads" in texts) == (second > 0)
    assert ("pre-training" in texts) == (first > 0)


def test_a_bound_of_schemes_that_all_fail_is_drawn(tmp_path):
    scenario, plan = hand_made()
    lone = dataclasses.replace(plan, schemes={"fixed batches": infeasible()}, lower_bound=None)
    assert "infeasible" in _texts(plot_plan(lone, scenario))


def test_a_hopeless_scheme_does_not_hide_the_others():
    scenario, plan = hand_made()
    hopeless = dataclasses.replace(plan, bound=50 * plan.bound)
    figure = plot_plan(dataclasses.replace(plan, schemes={"equal rounds": hopeless}), scenario)
    assert {"+4,900 %", "//"} < _texts(figure)
    assert figure.subfigs[1].axes[0].get_xlim()[1] < 6


def test_nothing_to_draw_is_said():
    scenario, _ = hand_made()
    with pytest.raises(ValueError, match="no design to draw: the plan is infeasible"):
        plot_plan(infeasible(), scenario)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("plan.gif", r"'.gif' is unknown: must be one of .png, .pdf, .svg"),
        ("plan", r"has no suffix: must be one of .png, .pdf, .svg"),
        ("missing/plan.png", r"folder .*missing does not exist"),
        ("folder.png", r"is a directory"),
    ],
)
def test_bad_paths_are_named_before_anything_is_drawn(tmp_path, name, message):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ValueError, match=message):
        check_figure_path(tmp_path / name)


def test_matplotlib_and_pyplot_stay_out_until_a_figure_is_drawn():
    code = (
        "import sys; from jaxedge.report import plan_plots; assert 'matplotlib' not in sys.modules;"
        "from tests.hand_made_plans import hand_made; s, p = hand_made('small');"
        "plan_plots.plot_plan(p, s); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, cwd=_ROOT)
