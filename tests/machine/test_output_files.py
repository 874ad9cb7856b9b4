import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from jaxedge.machine.output_files import PART, OutputFileError, check_writable, write_whole


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


@pytest.mark.parametrize("same_id", [False, True])
def test_threads_and_namesakes_of_one_folder_swap_and_lose_nothing(tmp_path, monkeypatch, same_id):
    if same_id:  # as in two containers that share the folder
        monkeypatch.setattr(os, "getpid", lambda: 1)
    names = [f"{number}.bin" for number in range(640)]

    def write(name):
        write_whole(tmp_path / name, name.encode() * 4000)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, names))
    assert sorted(os.listdir(tmp_path)) == sorted(names)
    wrong = [name for name in names if (tmp_path / name).read_bytes() != name.encode() * 4000]
    assert not wrong


def test_one_file_written_by_many_threads_is_one_of_theirs(tmp_path):
    contents = [bytes([number]) * 100_000 for number in range(32)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: write_whole(tmp_path / "one.bin", content), contents))
    assert (tmp_path / "one.bin").read_bytes() in contents
    assert os.listdir(tmp_path) == ["one.bin"]


@pytest.mark.parametrize("act", [check_writable, lambda path: write_whole(path, b"new")])
def test_a_planted_link_is_not_followed(tmp_path, monkeypatch, act):
    victim, folder = tmp_path / "victim", tmp_path / "shared"
    victim.write_text("mine")
    folder.mkdir()
    # Even where the name is guessed.
    monkeypatch.setattr(secrets, "token_hex", lambda _: "guessed")
    (folder / PART.format("guessed")).symlink_to(victim)
    (folder / f".jaxedge-{os.getpid()}.part").symlink_to(victim)
    with suppress(OutputFileError):
        act(folder / "answer.json")
    assert victim.read_text() == "mine"
    assert not (folder / "answer.json").is_symlink()


def test_new_files_have_the_permissions_that_the_user_wants(tmp_path):
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "new.json", b"new")
    finally:
        os.umask(before)
    assert (tmp_path / "new.json").stat().st_mode & 0o777 == 0o640
