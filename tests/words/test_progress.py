import io
import time

import pytest

from jaxedge.words.progress import ProgressLine, _clock


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def _shown(stream):
    """What remains visible: the last text written to the line."""
    return stream.getvalue().rpartition("\r")[2]


def test_silent_where_nobody_watches():
    stream = io.StringIO()
    with ProgressLine(stream=stream, patience=0.0) as progress:
        progress("solving", 0.5)
        time.sleep(0.05)
    assert stream.getvalue() == ""


def test_silent_within_the_first_second():
    stream = _Terminal()
    with ProgressLine(stream=stream) as progress:
        progress("solving", 0.5)
    assert stream.getvalue() == ""


def test_shows_rate_and_time_left_and_clears_the_line():
    stream = _Terminal()
    with ProgressLine(stream=stream, count=1000, patience=0.05) as progress:
        progress("solving", 0.25)
        time.sleep(0.3)
        text = stream.getvalue()
    assert "solving, 25%, 0 s so far, " in text
    assert " scenarios/s, " in text
    assert "s left" in text
    assert "\n" not in stream.getvalue()
    assert _shown(stream) == ""
    assert stream.getvalue().endswith(" \r")


def test_without_a_fraction_only_time_passes():
    stream = io.StringIO()
    with ProgressLine(stream=stream, shown=True, patience=0.01) as progress:
        progress("compiling")
        time.sleep(0.1)
    assert "compiling, 0 s so far" in stream.getvalue()
    assert "left" not in stream.getvalue()


def test_a_stream_that_closes_does_no_harm():
    stream = _Terminal()
    with ProgressLine(stream=stream, patience=0.0) as progress:
        progress("solving")
        time.sleep(0.05)
        stream.close()
        time.sleep(0.3)


def test_errors_pass_through():
    with pytest.raises(KeyError), ProgressLine(stream=_Terminal(), patience=0.0):
        raise KeyError


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")],
)
def test_clock(seconds, text):
    assert _clock(seconds) == text
