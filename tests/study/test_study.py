"""A study: its folder, its tables, its findings and figures; `jaxedge study`."""

import dataclasses
import json
import re

import numpy as np
import pytest

from jaxedge.commands.cli import BAD_INPUT, main
from jaxedge.planning.schemes import JOINT
from jaxedge.report.figure_style import save, styled
from jaxedge.study import comparison, convergence, folder, growth, phase, running, surface
from jaxedge.study.questions import QUESTIONS
from jaxedge.study.setting import ALL_DEGREES, DEGREES, WIDTH, cases, weights_of
from jaxedge.study.sizes import SIZES
from jaxedge.study.table import Table
from tests.hand_made_studies import (
    SCHEMES,
    along,
    compared,
    constants,
    converged,
    data_of,
    grown,
    phases,
    traded,
)


def test_a_table_is_read_back_to_the_same_bits():
    table = Table.of(
        [{"x": 1 / 3, "who": "a, b"}, {"x": np.nan, "who": 'say "c"'}, {"x": 5e-324, "who": "d"}]
    )
    again = Table.read(table.csv())
    assert again["x"].tobytes() == table["x"].tobytes()
    assert again["who"].tolist() == table["who"].tolist()
    assert again.csv() == table.csv()


def test_rows_are_grouped_by_keys_in_the_order_in_which_they_come():
    rows = [
        {"k": k, "j": j, "v": 100 * k + 10 * j + r} for r in (0, 1) for k in (3, 1) for j in (2, 5)
    ]
    found = Table.of(rows).grouped("v", "k", "j")
    expected = [[[100 * k + 10 * j + r for r in (0, 1)] for j in (2, 5)] for k in (3, 1)]
    assert found.tolist() == expected


@pytest.mark.parametrize("name", SIZES)
def test_every_size_measures_the_tasks_that_its_questions_need(name):
    size = SIZES[name]
    found = cases(size)
    assert found[0] == (WIDTH, DEGREES)
    assert len(found) == len(set(found))
    assert {(WIDTH, degrees) for degrees in size.thinned(ALL_DEGREES)} <= set(found)
    assert size.trained <= size.draws


def test_the_perceptron_has_the_weights_that_are_charged():
    import jax

    from jaxedge.study.setting import task

    found = sum(leaf.size for leaf in jax.tree.leaves(task().weights))
    assert found == weights_of(WIDTH)


# Findings


def test_a_comparison_says_by_how_much_the_joint_design_is_ahead():
    def bound(scheme, point):
        return 1.0 if scheme == JOINT else (1.25, 2.0)[point] + 0.1 * SCHEMES.index(scheme)

    text = comparison.finding(compared("energy", bound=bound), along("energy"))
    best = [1.25 + 0.1, 2.1]
    gains = [100 * (1 - 1 / each) for each in best]
    assert f"{gains[0]:.1f} to {gains[1]:.1f} % below" in text
    assert f"by {gains[1]:.0f} % at 40 J" in text
    assert f"the best of them overall, {SCHEMES[1]}" in text
    assert f"the worst, {SCHEMES[-1]}" in text


def test_a_comparison_says_so_where_training_disagrees():
    ahead = comparison.finding(compared("delay"), along("delay"))
    assert "accuracy of the joint design, the best of all schemes" in ahead

    def accuracy(scheme, point):
        return 0.3 if scheme == JOINT else 0.6 + 0.01 * SCHEMES.index(scheme)

    behind = comparison.finding(compared("delay", accuracy=accuracy), along("delay"))
    assert f"30.5 % mean accuracy of the joint design, 67.5 % of {SCHEMES[-1]}" in behind


def test_the_summary_counts_points():
    def accuracy(scheme, point):
        return 0.8 if (scheme == JOINT) == (point == 0) else 0.5

    def bound(scheme, point):
        return 3.0 if scheme == JOINT and point else 1.0 + SCHEMES.index(scheme)

    tables = {
        "energy": compared("energy"),
        "delay": compared("delay", bound=bound, accuracy=accuracy),
    }
    text = comparison.summary(tables)
    assert "Over the 4 points" in text
    assert "at 3, and the highest accuracy of real training at 3" in text
    assert f"that of {JOINT}, at 3" in text


def test_the_rank_correlation_is_that_of_ranks():
    def accuracy(scheme, point):
        return 0.9 * np.exp(-((2 - point) * (1 + 0.1 * SCHEMES.index(scheme))))

    table = compared("energy", accuracy=accuracy)
    assert comparison.correlation(table, along("energy"), "accuracy") == pytest.approx(-1)
    assert comparison.correlation(table, along("energy"), "measured") == pytest.approx(1)


def test_growth_tells_the_ends_of_every_decision():
    text = growth.finding(grown())
    assert "fine-tuning rounds from 1 to 135" in text
    assert "batch goes from 6.0 to 18.0" in text  # at 10 J there is no fine-tuning
    assert "9-fold" in text


def test_the_phases_are_told_with_how_far_the_closed_form_is_off():
    assert "to within 2 %" in phase.finding(phases(off=1.02))
    one, two = phase.finding(phases()), phase.finding(phases(factor=2.0))
    assert "up to a discrepancy of 1.2 " in one
    assert "up to a discrepancy of 2.5 " in two


def test_regions_count_what_a_stage_has_beyond_its_least_rounds():
    designs = phases()
    codes = phase.regions(designs)
    own = designs.where(kind="design")
    m = own.grouped("pretraining_rounds", "delay_s", "discrepancy")[..., 0]
    n = own.grouped("finetuning_rounds", "delay_s", "discrepancy")[..., 0]
    assert np.array_equal(codes == 0, n == 1)
    assert np.array_equal(codes == 2, m == 0)
    assert np.array_equal(codes == 1, (m > 0) & (n > 1))


def test_the_surface_is_the_best_that_fits_both_budgets():
    table = traded()
    top = surface.surface(table)
    assert (np.diff(top, axis=0) >= 0).all() and (np.diff(top, axis=1) >= 0).all()
    assert top[1, 2] == pytest.approx(0.95 - 2 / 50 - 2 / 120 + 0.005)
    found = surface.points(table)
    assert set(found.scheme[found.best]) == {JOINT}
    assert "9 of joint design" in surface.finding(table)


def test_convergence_names_who_leads():
    assert "number 1 of 8" in convergence.finding(converged())
    other = convergence.finding(converged(last=SCHEMES[3]))
    assert f"the best, {SCHEMES[3]}, is at 89.5 %" in other


# Figures


@pytest.mark.parametrize("name", ["energy", "growth", "phase", "surface", "convergence"])
def test_no_figure_is_empty(name, tmp_path):
    question, table = QUESTIONS[name], data_of(name)
    with styled():
        figure = question.draw(table)
        save(figure, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    assert figure.get_size_inches()[0] in (3.5, 7.0)
    for axes in figure.axes:
        drawn = [line.get_ydata() for line in axes.lines] + list(axes.collections)
        assert drawn
        for line in axes.lines:
            assert np.isfinite(np.asarray(line.get_ydata(), float)).all()
    if name in ("energy", "convergence"):
        for axes in figure.axes:
            assert {text.get_text() for text in axes.texts} == set(SCHEMES)
    assert "nan" not in question.finding(table)


@pytest.mark.parametrize("item", comparison.ALONG, ids=lambda item: item.name)
def test_axes_have_units(item):
    assert item.label.endswith(f"({item.unit})") or item.unit in ("", "devices")


# The folder


@pytest.fixture
def quickly(monkeypatch):
    """Studies whose tables are made by hand; (part -> times computed)."""
    computed = {}

    def counted(name, made):
        def compute(*_):
            computed[name] = computed.get(name, 0) + 1
            return made()

        return compute

    made = {
        name: dataclasses.replace(item, compute=counted(name, lambda name=name: data_of(name)))
        for name, item in QUESTIONS.items()
        if name in ("growth", "phase")
    }
    monkeypatch.setattr(running, "QUESTIONS", made)
    monkeypatch.setattr(running, "measured", counted("constants", constants))
    return made, computed


def contents(path):
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_an_interrupted_study_goes_on_to_the_same_files(quickly, tmp_path, monkeypatch):
    made, computed = quickly
    whole = running.run(tmp_path / "whole", "quick")
    computed.clear()

    def interrupted(*_):
        raise KeyboardInterrupt

    cut = {**made, "phase": dataclasses.replace(made["phase"], compute=interrupted)}
    monkeypatch.setattr(running, "QUESTIONS", cut)
    with pytest.raises(KeyboardInterrupt):
        running.run(tmp_path / "cut", "quick")
    assert not (tmp_path / "cut" / "study.md").exists()
    monkeypatch.setattr(running, "QUESTIONS", made)
    running.run(tmp_path / "cut", "quick", resume=True)
    assert computed == dict.fromkeys(["constants", "growth", "phase"], 1)
    assert contents(tmp_path / "cut") == contents(whole.path)
    before = contents(whole.path)
    running.run(tmp_path / "whole", "quick", resume=True)
    assert contents(whole.path) == before
    assert computed["phase"] == 1


def test_the_page_has_findings_figures_and_whose_formulas_they_are(quickly, tmp_path):
    found = running.run(tmp_path / "study", "quick")
    text = found.page.read_text(encoding="utf-8")
    for name in quickly[0]:
        assert QUESTIONS[name].finding(found.read(name)) in text
        linked = re.search(rf"\]\((figures/study-{name}\.png)\)", text)
        assert (found.path / linked[1]).is_file()
        assert found.figure(name, ".pdf").read_bytes().startswith(b"%PDF")
    assert "only the abstract is at hand" in text
    assert "are ours" in text
    assert "jaxedge study --quick --store study" in text


def test_the_quick_size_leaves_out_what_is_long_to_compile(quickly, tmp_path, monkeypatch):
    made, _ = quickly
    left_out = {"devices": dataclasses.replace(made["growth"], name="devices")}
    monkeypatch.setattr(running, "QUESTIONS", {**made, **left_out})
    assert not running.run(tmp_path / "study", "quick").has("devices")
    assert set(SIZES["quick"].without) < set(QUESTIONS)
    assert not SIZES["full"].without


def test_some_questions_alone(quickly, tmp_path):
    found = running.run(tmp_path / "study", "quick", only=["phase"])
    assert {path.stem for path in found.data("x").parent.iterdir()} == {"constants", "phase"}
    assert "## When does pre-training pay?" in found.page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda config: {**config, "size": "full", "draws": 40},
            "size: full in the folder, quick now",
        ),
        (lambda config: {**config, "schema": 0}, "schema: 0 in the folder"),
        (
            lambda config: {**config, "environment": {**config["environment"], "jaxedge": "0.0.1"}},
            "environment.jaxedge: 0.0.1 in the folder",
        ),
    ],
)
def test_the_folder_of_another_study_or_version_is_refused(quickly, tmp_path, change, told):
    found = running.run(tmp_path / "study", "quick", only=["phase"])
    config = found.path / folder.CONFIG
    config.write_text(json.dumps(change(json.loads(config.read_text()))))
    before = contents(found.path)
    with pytest.raises(ValueError, match=re.escape(told)):
        running.run(tmp_path / "study", "quick", resume=True)
    assert contents(found.path) == before


# The command


def told(capsys, *words):
    code = main(["study", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


def test_bad_input_is_one_line_and_nothing_is_computed(tmp_path, capsys, quickly):
    _, computed = quickly
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").touch()
    cases = {
        ("--only", "faze"): "unknown question 'faze': must be one of growth, phase",
        ("--only", "phases"): "unknown question 'phases': did you mean phase?",
        ("--store", tmp_path / "taken"): "is there and is not the folder of a study",
        ("--store", tmp_path / "taken", "--resume"): "is not the folder of a study",
        ("--store", tmp_path / "no" / "where"): "does not exist: create it first",
    }
    for words, message in cases.items():
        store = () if "--store" in words else ("--store", tmp_path / "new")
        code, out, err = told(capsys, *words, *store)
        assert (code, out) == (BAD_INPUT, "")
        assert message in err and err.count("\n") == 1
    assert not computed
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_data_that_are_no_table_are_named(quickly, tmp_path, capsys):
    found = running.run(tmp_path / "study", "quick", only=["phase"])
    found.data("phase").write_text("one,two\n1\n")
    code, _, err = told(capsys, "--quick", "--store", found.path, "--resume", "--only", "phase")
    assert code == BAD_INPUT
    assert "phase.csv: is not what a study has written" in err


def test_the_command_prints_findings_as_text_or_json(quickly, tmp_path, capsys):
    code, out, err = told(capsys, "--quick", "--store", tmp_path / "study", "--json")
    assert code == 0, err
    findings = json.loads(out)
    assert set(findings) == set(quickly[0])
    code, out, err = told(capsys, "--quick", "--store", tmp_path / "study", "--resume")
    assert code == 0
    assert all(text in out for text in findings.values())
    assert "study.md" in err
