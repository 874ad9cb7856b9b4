"""The folder of the tests' compiled programs: found again, bounded, and left alone when named."""

import os

import pytest

from tests import kept_programs
from tests.kept_programs import FOLDER, keep, trim


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    os.environ["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    os.environ.pop("JAXEDGE_CACHE", None)
    os.environ.pop(FOLDER, None)


def test_each_run_finds_the_folder_of_the_last(tmp_path):
    assert keep() is None
    first = os.environ.pop(FOLDER)
    assert str(tmp_path) in first
    assert keep() is None
    assert os.environ[FOLDER] == first


def test_a_folder_that_is_named_is_taken_as_it_is(monkeypatch):
    monkeypatch.setattr(kept_programs, "trim", None)
    os.environ[FOLDER] = "elsewhere"
    assert keep() is None
    assert os.environ[FOLDER] == "elsewhere"


def test_where_nothing_may_be_kept_the_folder_is_for_one_run(tmp_path):
    os.environ["JAXEDGE_CACHE"] = "off"
    folder = keep()
    assert str(folder) == os.environ[FOLDER]
    folder.rmdir()
    assert not (tmp_path / "cache").exists()


def filled(folder, names):
    """Files of 10 bytes, used one second after another."""
    for second, name in enumerate(names):
        (folder / name).write_bytes(bytes(10))
        os.utime(folder / name, (second, second))


def test_what_was_used_longest_ago_goes_first(tmp_path):
    filled(tmp_path, "dbca")
    os.utime(tmp_path / "d", (100, 0))  # read lately
    trim(tmp_path, most=39)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d"]


def test_a_folder_within_its_bound_is_left_whole(tmp_path):
    filled(tmp_path, "abcd")
    trim(tmp_path, most=40)
    assert len(list(tmp_path.iterdir())) == 4
