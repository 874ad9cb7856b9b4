"""The benchmarks' own parts: records, the referee, the peers."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import records


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "FOLDER", tmp_path / "records")
    return records.FOLDER


def test_a_record_holds_results_versions_and_device(folder):
    results = {"rate": np.float64(2.5), "gaps": jnp.array([1.0, 2.0]), "none": float("nan")}
    path = records.write("speed", results)
    record = json.loads(path.read_text(encoding="utf-8"))
    assert path.parent == folder
    assert path.name == f"speed-{records.slug(record['device']['kind'])}.json"
    assert record["results"] == {"rate": 2.5, "gaps": [1.0, 2.0], "none": None}
    assert {"python", "jax", "jaxlib", "numpy"} <= record["versions"].keys()
    assert record["cpu"]["count"] >= 1 and record["cpu"]["model"]


def test_what_json_cannot_hold_is_refused(folder):
    with pytest.raises(TypeError, match="not JSON serializable"):
        records.write("speed", {"rate": object()})


def test_names_of_devices_become_names_of_files():
    assert records.slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
