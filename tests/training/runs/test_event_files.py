"""Event files hold what was measured, where TensorBoard's package is there."""

import sys

import pytest

from jaxedge.commands.cli import BAD_INPUT, main
from jaxedge.training.runs.checkpoints import Checkpoint
from jaxedge.training.runs.event_files import EventFiles


class Kept(list):
    """Keeps in memory."""

    def rows(self, rows):
        self += rows

    def checkpoint(self, checkpoint):
        self.append(checkpoint)


def row(rounds, loss):
    return {"round": rounds, "stage": "fine-tuning", "energy": 1.5, "delay": 2.5, "loss": loss}


def test_without_the_package_the_extra_is_named(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXEDGE_CACHE", "off")
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert main(["train", "--tensorboard"]) == BAD_INPUT
    assert "needs tensorboard, which is not installed" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_a_resumed_run_replaces_what_was_beyond_its_checkpoint(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    kept = Kept()
    with EventFiles(kept, tmp_path, 0) as first:
        first.rows([row(10, 3.0), row(20, 2.0)])
        first.checkpoint(Checkpoint(rounds=10, weights=None))
    with EventFiles(kept, tmp_path, 10) as second:
        second.rows([row(20, 1.0)])
    assert [item["loss"] for item in kept if isinstance(item, dict)] == [3.0, 2.0, 1.0]
    assert kept[2].rounds == 10
    found = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in found.Scalars("loss")] == [(10, 3.0), (20, 1.0)]
    assert len(found.Scalars("energy")) == 2
