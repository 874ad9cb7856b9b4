"""The folder of a run: configuration, course, measurements, checkpoints and ledger.

    config.json      scenario, design, task, settings, channel: what the run is
    course.json      which rounds run under which design
    metrics.jsonl    a line for each measurement
    checkpoints/     the newest two, named by their rounds
    ledger.npz       charges of every round that has run, once the run has ended
    summary.json     what it has come to
    figures/         drawn at the end

Measurements are written before the checkpoint that follows them, and those beyond the newest
checkpoint are dropped when a run goes on, so that a kill at any moment changes nothing.
"""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxedge.answers.files import design_of, design_tree
from jaxedge.machine.output_files import PathLike, write_whole
from jaxedge.machine.provenance import environment
from jaxedge.machine.resumable import Resumable, json_file
from jaxedge.scenario.scenario import Scenario
from jaxedge.scenario.text import to_tree
from jaxedge.system.allocation import Allocation
from jaxedge.training.models.tasks import Task, TaskSpec
from jaxedge.training.runs import checkpoints
from jaxedge.training.runs.checkpoints import Checkpoint
from jaxedge.training.runs.courses import Course, course_of, course_tree
from jaxedge.training.runs.ledgers import Ledger
from jaxedge.training.runs.runner import Row
from jaxedge.training.runs.segments import Settings

SCHEMA = 1
"""Version of how a run folder is laid out."""
CONFIG, COURSE, METRICS, LEDGER, SUMMARY, CHECKPOINTS, FIGURES = (
    "config.json",
    "course.json",
    "metrics.jsonl",
    "ledger.npz",
    "summary.json",
    "checkpoints",
    "figures",
)

KIND = Resumable(work="run", read=json_file(CONFIG))


def configuration(
    scenario: Scenario,
    task: Task,
    settings: Settings,
    *,
    spec: TaskSpec | None = None,
    channel: str = "planned",
    replan: bool = False,
) -> dict[str, Any]:
    """What a run is, without its design, as plain JSON types.

    Args:
        scenario: the whole.
        task: what is learned; its digest stands for the data, which may change under their name.
        settings: how.
        spec: what the task was loaded by; None for one's own.
        channel: one of `ledgers.CHANNELS`.
        replan: whether fine-tuning is planned again where the channel departs from the plan.
    """
    return {
        "schema": SCHEMA,
        "scenario": to_tree(scenario),
        "task": None if spec is None else dataclasses.asdict(spec),
        "digest": task.digest,
        "settings": dataclasses.asdict(settings),
        "channel": channel,
        "replan": replan,
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunFolder:
    """A run on disk; it keeps what `runner.train` produces. Build it by `create` or `reopen`."""

    path: Path
    config: dict[str, Any]

    def course(self, scenario: Scenario) -> Course:
        """The course, charged again."""
        tree = json.loads((self.path / COURSE).read_text(encoding="utf-8"))
        seed = self.config["settings"]["seed"]
        return course_of(tree, scenario, channel=self.config["channel"], seed=seed)

    def rows(self, rows: list[Row]) -> None:
        """Append measurements."""
        with open(self.path / METRICS, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(row, allow_nan=False) + "\n" for row in rows)

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint."""
        checkpoints.save(self.path / CHECKPOINTS, checkpoint)

    def measured(self) -> list[Row]:
        """All measurements so far."""
        with open(self.path / METRICS, encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def latest(self, weights: Any) -> Checkpoint | None:
        """The newest checkpoint, for weights of the same structure.

        Raises:
            ValueError: if it cannot be read.
        """
        return checkpoints.latest(self.path / CHECKPOINTS, weights)

    def rewind(self, weights: Any) -> Checkpoint | None:
        """The newest checkpoint, after dropping what was measured or half written beyond it.

        Raises:
            ValueError: if it cannot be read.
        """
        checkpoints.remove_unfinished(self.path / CHECKPOINTS)
        found = self.latest(weights)
        rounds = -1 if found is None else found.rounds
        lines = (self.path / METRICS).read_text(encoding="utf-8").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        kept = [line for line in whole if json.loads(line)["round"] <= rounds]
        if kept != lines:
            write_whole(self.path / METRICS, "".join(kept).encode())
        return found

    @property
    def figures(self) -> Path:
        """Where figures are drawn."""
        return self.path / FIGURES

    def finish(self, ledger: Ledger, told: dict[str, Any]) -> None:
        """Write the charges of the rounds that have run, and the run's summary."""
        _write_json(self.path / SUMMARY, told)
        content = io.BytesIO()
        fields = {item.name: getattr(ledger, item.name) for item in dataclasses.fields(ledger)}
        np.savez_compressed(content, **fields)
        write_whole(self.path / LEDGER, content.getvalue())


def create(path: PathLike, config: dict[str, Any], design: Allocation, course: Course) -> RunFolder:
    """Make the folder of a new run; it appears whole.

    Raises:
        ValueError: if something is there already, or it cannot be written.
    """
    whole = {**config, "design": design_tree(design), "environments": [environment()]}

    def fill(folder: Path) -> None:
        (folder / CHECKPOINTS).mkdir()
        _write_json(folder / CONFIG, whole)
        _write_json(folder / COURSE, course_tree(course))
        (folder / METRICS).touch()

    return RunFolder(path=KIND.create(path, fill), config=whole)


def reopen(path: PathLike, config: dict[str, Any], design: Allocation | None = None) -> RunFolder:
    """The folder of a run of the same configuration.

    Args:
        path: where it is.
        config: as `configuration` gives it.
        design: has to be the same too, where it is given.

    Raises:
        ValueError: if it is no run folder, or of another run, with the difference.
    """
    wanted = config if design is None else {**config, "design": design_tree(design)}
    told, here = dict(KIND.reopen(path, wanted)), environment()
    target = Path(path).absolute()
    if here not in told["environments"]:
        told["environments"] = [*told["environments"], here]
        _write_json(target / CONFIG, told)
    return RunFolder(path=target, config=told)


def setting_in(path: PathLike, name: str) -> Any:
    """One of the settings that a run has begun with; None where it cannot be read."""
    told = KIND.specification(path)
    return None if told is None else told.get("settings", {}).get(name)


def design_in(folder: RunFolder) -> Allocation:
    """The design that a run has begun with."""
    return design_of(folder.config["design"])


def _write_json(path: Path, content: Any) -> None:
    write_whole(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
