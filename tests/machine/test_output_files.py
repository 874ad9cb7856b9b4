import os
import subprocess
import sys

import pytest

from jaxedge.machine.output_files import OutputFileError, check_writable, held, write_whole


def test_writes_and_replaces_leaving_nothing_beside(tmp_path):
    target = tmp_path / "answer.json"
    for content in (b"first", b"second"):
        check_writable(target)
        write_whole(target, content)
        assert target.read_bytes() == content
    assert list(tmp_path.iterdir()) == [target]


def test_checking_changes_nothing(tmp_path):
    target = tmp_path / "answer.json"
    check_writable(target)
    assert list(tmp_path.iterdir()) == []
    target.write_text("kept")
    check_writable(target)
    assert target.read_text() == "kept"


def test_a_failed_write_keeps_what_was_there(tmp_path, monkeypatch):
    target = tmp_path / "answer.json"
    target.write_text("kept")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputFileError, match=r"answer\.json: cannot be written: No space left"):
        write_whole(target, b"new")
    assert target.read_text() == "kept"
    assert list(tmp_path.iterdir()) == [target]


def test_links_stay_links_and_permissions_stay(tmp_path):
    target, link = tmp_path / "answer.json", tmp_path / "link.json"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    write_whole(link, b"new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o640


def test_devices_and_pipes_are_written_in_place():
    check_writable(os.devnull)
    write_whole(os.devnull, b"gone")
    assert not os.path.isfile(os.devnull)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing/answer.json", "does not exist: create it first"),
        (".", "is a directory: give a file name"),
        ("a\0b", "is no file name: it holds a NUL"),
        ("x" * 300, "cannot be written: File name too long"),
        ("file/answer.json", "does not exist: create it first"),
    ],
)
def test_bad_paths_are_named(tmp_path, name, message):
    (tmp_path / "file").touch()
    with pytest.raises(OutputFileError, match=message):
        check_writable(os.path.join(tmp_path, name))


@pytest.mark.skipif(
    hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere"
)
def test_read_only_places_are_named(tmp_path):
    target = tmp_path / "answer.json"
    target.touch(mode=0o400)
    with pytest.raises(OutputFileError, match="permission denied"):
        check_writable(target)
    tmp_path.chmod(0o500)
    with pytest.raises(OutputFileError, match="cannot be written"):
        check_writable(tmp_path / "new.json")
    tmp_path.chmod(0o700)


def test_a_held_folder_keeps_other_processes_out_until_this_one_ends(tmp_path):
    holding = "import sys, time; from jaxedge.machine.output_files import held\n"
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
