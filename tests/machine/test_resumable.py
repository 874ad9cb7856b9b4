"""One kind of folder: it appears whole, refuses another's work, and is gone on with."""

import subprocess
import sys

import pytest

from jaxedge.machine.output_files import PART, OutputFileError, write_json
from jaxedge.machine.resumable import Resumable, held, json_file

WORK = Resumable(work="survey", kind="case", read=json_file("survey.json"))
SPECIFICATION = {"size": 3, "of": [1.0, 2.0]}


def begun(path, specification=SPECIFICATION):
    return WORK.create(path, lambda folder: write_json(folder / "survey.json", specification))


def test_it_appears_whole_or_not_at_all(tmp_path):
    def fail(folder):
        (folder / "half").touch()
        assert not (tmp_path / "case").exists()
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputFileError, match=r"case: cannot be written: No space left"):
        WORK.create(tmp_path / "case", fail)
    assert list(tmp_path.iterdir()) == []
    assert begun(tmp_path / "case") == tmp_path / "case"
    assert list(tmp_path.iterdir()) == [tmp_path / "case"]
    assert WORK.specification(tmp_path / "case") == SPECIFICATION


def test_an_empty_folder_is_free(tmp_path):
    (tmp_path / "case").mkdir()
    begun(tmp_path / "case")
    assert WORK.reopen(tmp_path / "case", {"size": 3}) == SPECIFICATION


def test_what_is_in_the_way_is_named(tmp_path):
    begun(tmp_path / "case")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    (tmp_path / "other" / "survey.json").write_text("[]")
    for name, message in {
        "case": r"case: exists already: go on with it by --resume \(resume=True\)",
        "other": "other: is there and is not the case of a survey: give another folder",
        "none/case": "none does not exist: create it first",
    }.items():
        with pytest.raises(OutputFileError, match=message):
            begun(tmp_path / name)
    assert (tmp_path / "other" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "wanted", "message"),
    [
        ("none", SPECIFICATION, "none: is not the case of a survey: give one to resume"),
        ("case", {"size": 4}, r"another survey \(size: 3 in the case, 4 now\): give another"),
        ("case", {"seed": 1}, r"\(seed: None in the case, 1 now\)"),
    ],
)
def test_the_work_of_others_is_refused(tmp_path, name, wanted, message):
    begun(tmp_path / "case")
    with pytest.raises(OutputFileError, match=message):
        WORK.reopen(tmp_path / name, wanted)


def test_going_on_removes_what_a_killed_process_left(tmp_path):
    path = begun(tmp_path / "case")
    (path / "deep").mkdir()
    for folder in (path, path / "deep"):
        (folder / PART.format("0123")).write_text("half")
    WORK.reopen(path, SPECIFICATION)
    assert sorted(file.name for file in path.rglob("*")) == ["deep", "survey.json"]


def test_a_folder_that_is_written_to_is_not_gone_on_with(tmp_path):
    path = begun(tmp_path / "case")
    with held(path), pytest.raises(OutputFileError, match="another process writes to it"):
        WORK.reopen(path, SPECIFICATION)


def test_a_held_folder_keeps_other_processes_out_until_this_one_ends(tmp_path):
    holding = "import sys, time; from jaxedge.machine.resumable import held\n"
    holding += "with held(sys.argv[1]): print('held', flush=True); time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", holding, tmp_path], stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(OutputFileError, match="another process writes to it"), held(tmp_path):
            raise AssertionError("let in")
    finally:
        other.kill()
        other.communicate()
    for _ in range(2):
        with held(tmp_path):
            assert list(tmp_path.iterdir()) == []
