"""Figures and table of a run show what was measured."""

import numpy as np
import pytest

from jaxedge.report.training_plots import plot_partition, plot_training
from jaxedge.report.training_table import training_table


def row(rounds, stage, energy, delay, accuracy, loss):
    return {
        "round": rounds,
        "stage": stage,
        "energy": energy,
        "delay": delay,
        "accuracy": accuracy,
        "loss": loss,
    }


ROWS = [
    row(0, "start", 0.0, 0.0, 0.1, 2.3),
    row(10, "pre-training", 5.0, 1.0, 0.5, 1.5),
    row(20, "pre-training", 10.0, 2.0, 0.6, 1.2),
    row(30, "fine-tuning", 11.0, 12.0, 0.8, 0.7),
    row(35, "fine-tuning", 11.5, 17.0, 0.9, 0.4),
]


def test_the_stages_are_two_lines_that_meet_at_the_change(tmp_path):
    figure = plot_training(ROWS, tmp_path / "run.png", budgets=(12.0, 20.0))
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
    axes = np.array(figure.axes).reshape(2, 3)
    for column, (key, change, budget) in enumerate(
        [("round", 20, None), ("energy", 10.0, 12.0), ("delay", 2.0, 20.0)]
    ):
        for panel, name, scale in (
            (axes[0, column], "accuracy", 100),
            (axes[1, column], "loss", 1),
        ):
            first, second, *marks = panel.get_lines()
            np.testing.assert_allclose(first.get_xdata(), [r[key] for r in ROWS[:3]])
            np.testing.assert_allclose(second.get_xdata(), [r[key] for r in ROWS[2:]])
            np.testing.assert_allclose(second.get_ydata(), [scale * r[name] for r in ROWS[2:]])
            assert [mark.get_xdata()[0] for mark in marks] == [
                change,
                *([budget] if budget else []),
            ]
    assert [panel.get_xlabel() for panel in axes[1]] == ["rounds", "energy (J)", "time (s)"]
    assert {text.get_text() for text in axes[0, 0].texts} == {"pre-training", "fine-tuning"}


@pytest.mark.parametrize("stage", ["pre-training", "fine-tuning"])
def test_one_stage_alone_has_no_change(stage):
    rows = [ROWS[0], *(item for item in ROWS if item["stage"] == stage)]
    figure = plot_training(rows)
    (line,) = figure.axes[0].get_lines()
    assert len(line.get_xdata()) == 3


def test_nothing_measured_is_nothing_to_draw():
    with pytest.raises(ValueError, match="needs at least two measurements"):
        plot_training(ROWS[:1])


@pytest.mark.slow
def test_who_has_what(tmp_path):
    counts = np.array([[3, 0], [1, 5], [2, 2]])
    figure = plot_partition(counts, tmp_path / "who.pdf")
    axes = figure.axes[0]
    np.testing.assert_array_equal(axes.get_images()[0].get_array(), counts.T)
    assert [text.get_text() for text in axes.texts] == ["3", "0", "1", "5", "2", "2"]
    assert axes.texts[3].get_position() == (1, 1)
    many = plot_partition(np.ones((60, 62), int))
    assert not many.axes[0].texts


def test_the_table_tells_what_came_of_it():
    told = {
        "measured": {"start": ROWS[0], "pre-training": ROWS[2], "fine-tuning": ROWS[4]},
        "rounds": {"planned": 40, "affordable": 35, "done": 35},
        "short_of": "delay",
        "replanned": 2,
        "energy": {"planned": 13.0, "spent": 11.5, "budget": 12.0},
        "delay": {"planned": 16.0, "spent": 17.0, "budget": 17.5},
    }
    text = training_table(told)
    lines = [line.split() for line in text.splitlines()]
    assert ["pre-trained", "20", "60.0", "%", "1.200"] in lines
    assert ["fine-tuned", "35", "90.0", "%", "0.4000"] in lines
    assert ["energy", "13.00", "J", "11.50", "J", "12.00", "J"] in lines
    assert "planned again 2 times" in text
    assert "stopped after 35 rounds (40 were planned)" in text
    assert "overdraw the delay budget" in " ".join(text.split())
