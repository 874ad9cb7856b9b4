"""How far a computation is: what it is told to, and a line on a terminal that shows it."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

Progress = Callable[[str, float | None], None]
"""Called with what is being done, and how much of it is done (0 to 1) if that is known."""


def no_progress(text: str, fraction: float | None) -> None:
    """Say nothing."""


_PATIENCE = 1.0
"""Seconds before anything is shown."""

_PERIOD = 0.2
"""Seconds between two drawings."""


class ProgressLine:
    """A `Progress` that draws a line on standard error; use it as a context manager.

    A thread draws, since the caller may be inside one long computation. Nothing is written unless
    the stream is a terminal, or ``shown`` says otherwise.
    """

    def __init__(
        self,
        *,
        count: int | None = None,
        unit: str = "scenarios",
        stream: TextIO | None = None,
        shown: bool | None = None,
        patience: float = _PATIENCE,
    ) -> None:
        """Prepare the line; nothing is shown yet.

        Args:
            count: how many of ``unit`` make up fraction 1, to show a rate; None for no rate.
            unit: what is counted.
            stream: where to write; standard error if None.
            shown: True or False to decide; None to ask whether the stream is a terminal.
            patience: seconds before anything is shown.
        """
        self._stream = sys.stderr if stream is None else stream
        self._shown = self._stream.isatty() if shown is None else shown
        self._count, self._unit, self._patience = count, unit, patience
        self._text = ""
        self._fraction: float | None = None
        self._start = time.monotonic()
        self._drawn = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __call__(self, text: str, fraction: float | None = None) -> None:
        """Say what is being done, and how much of it is done (0 to 1) if that is known."""
        self._text, self._fraction = text, fraction

    def __enter__(self) -> Self:
        """Start the clock."""
        self._start = time.monotonic()
        if self._shown:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Clear the line."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._write("")

    def _run(self) -> None:
        if not self._stop.wait(self._patience):
            self._write(self._line())
            while not self._stop.wait(_PERIOD):
                self._write(self._line())

    def _line(self) -> str:
        elapsed = time.monotonic() - self._start
        parts = [self._text or "working", f"{_clock(elapsed)} so far"]
        if self._fraction:
            share = min(self._fraction, 1.0)
            parts.insert(1, f"{share:.0%}")
            if self._count is not None:
                parts.append(f"{share * self._count / elapsed:,.0f} {self._unit}/s")
            parts.append(f"{_clock(elapsed * (1 - share) / share)} left")
        return ", ".join(parts)

    def _write(self, line: str) -> None:
        """Overwrite what is drawn by ``line``, padded so that nothing of the former remains."""
        width = shutil.get_terminal_size().columns - 1
        line = line[: max(width, 0)]
        if line or self._drawn:
            end = "" if line else "\r"
            try:
                self._stream.write(f"\r{line:<{self._drawn}}{end}")
                self._stream.flush()
            except (OSError, ValueError):  # nobody watches any more
                self._shown = False
            self._drawn = len(line)


def _clock(seconds: float) -> str:
    """Seconds in words: "12 s", "3 min 05 s", "2 h 10 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
