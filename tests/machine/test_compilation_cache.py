"""Each case runs in a process of its own: JAX's cache is a setting of the whole process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_PROGRAM = """
from jaxedge.machine import compilation_cache
compilation_cache.silence()
folder = compilation_cache.enable()
import jax, jax.numpy as jnp
from jax import monitoring
hits = []
monitoring.register_event_listener(lambda name, **_: hits.append(name.endswith("/cache_hits")))
print(float(jax.jit(lambda x: jnp.sin(x) * 2)(0.5)))
print(folder)
print(sum(hits))
"""


def _run(tmp_path, **settings):
    inherited = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("JAX", "XDG", "TF_CPP"))
    }
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        env={**inherited, "XDG_CACHE_HOME": str(tmp_path / "cache"), **settings},
        capture_output=True,
        text=True,
        timeout=120,
        cwd=_ROOT,
    )
    assert done.returncode == 0, done.stderr
    value, folder, hits = done.stdout.split()
    assert float(value) == pytest.approx(0.958851)
    return folder, int(hits), done.stderr


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="XDG_CACHE_HOME is Linux's")


def test_a_second_process_finds_the_programs_and_neither_makes_noise(tmp_path):
    folder, hits, noise = _run(tmp_path)
    assert hits == 0
    assert noise == ""
    assert Path(folder).parent == tmp_path / "cache" / "jaxedge"
    assert Path(folder).stat().st_mode & 0o077 == 0
    assert list(Path(folder).iterdir())
    _, hits, noise = _run(tmp_path)
    assert noise == ""
    assert hits > 0


def test_damaged_entries_are_compiled_again_without_noise(tmp_path):
    folder, _, _ = _run(tmp_path)
    for entry in Path(folder).iterdir():
        entry.write_bytes(b"damaged")
    _, _, noise = _run(tmp_path)
    assert noise == ""


def test_the_switch_turns_it_off(tmp_path):
    assert _run(tmp_path, JAXEDGE_CACHE="Off") == ("None", 0, "")
    assert not (tmp_path / "cache").exists()


def test_a_folder_that_cannot_be_made_turns_it_off(tmp_path):
    (tmp_path / "cache").write_text("a file in its way")
    assert _run(tmp_path) == ("None", 0, "")


def test_a_folder_of_the_users_own_choice_is_left_alone(tmp_path):
    folder, _, noise = _run(tmp_path, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "own"))
    assert (folder, noise) == ("None", "")
    assert not (tmp_path / "cache").exists()
