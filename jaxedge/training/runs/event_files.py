"""Measurements for TensorBoard, beside a run's own; needs its package."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Self

from jaxedge.training.runs.checkpoints import Checkpoint
from jaxedge.training.runs.runner import Keeper, Row, measured


class EventFiles:
    """A keeper that passes everything on and writes scalars too; use it as a context manager."""

    def __init__(self, keeper: Keeper, folder: Path, begin: int) -> None:
        """Begin a new event file.

        Args:
            keeper: whom to pass everything on to.
            folder: of the event files.
            begin: rounds done before; TensorBoard drops what older files say beyond them.

        Raises:
            ValueError: if TensorBoard's package is not installed.
        """
        check_importable()
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._keeper = keeper
        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        self._writer = EventFileWriter(str(folder))
        log = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        first = begin + 1 if begin else 0
        self._writer.add_event(self._event(step=first, wall_time=time.time(), session_log=log))

    def rows(self, rows: list[Row]) -> None:
        """Keep measurements, at their rounds."""
        self._keeper.rows(rows)
        for row in rows:
            values = [
                self._summary.Value(tag=name, simple_value=value)
                for name, value in measured(row).items()
            ]
            self._writer.add_event(
                self._event(
                    step=row["round"], wall_time=time.time(), summary=self._summary(value=values)
                )
            )
        self._writer.flush()

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint."""
        self._keeper.checkpoint(checkpoint)

    def __enter__(self) -> Self:
        """Nothing more is needed."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write what is buffered."""
        self._writer.close()


def check_importable() -> None:
    """Make sure that TensorBoard's package is there.

    Raises:
        ValueError: naming the extra that brings it.
    """
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        raise ValueError(
            "--tensorboard (events=True) needs tensorboard, which is not installed: "
            "pip install 'jaxedge[tensorboard]'"
        ) from None
