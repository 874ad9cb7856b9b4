"""The page on calibration does what it says."""

import re
from pathlib import Path

import pytest

from jaxedge.commands import COMMANDS, arguments

TEXT = (Path(__file__).parents[3] / "docs" / "calibration.md").read_text(encoding="utf-8")


def test_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL):
        exec(compile(block, "calibration.md", "exec"), names)
    assert capsys.readouterr().out == "True\nTrue\n[0, 20, 40, 60, 80]\nTrue\n"
    assert all(f"`{name}`" in TEXT for name in names["found"].constants)


@pytest.mark.parametrize("option", sorted(set(re.findall(r"`(--[\w-]+)", TEXT))))
def test_options_are_those_of_the_command(option, capsys):
    command = "plan" if option == "--within" else "calibrate"
    with pytest.raises(SystemExit):
        arguments.parse([command, "--help"], "0", COMMANDS)
    assert option in capsys.readouterr().out
